//! Asks an OpenID provider for its keys.

use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};

use super::OidcConfig;

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES: usize = 1024 * 1024;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer as it should.
    #[error("{url}: {problem}")]
    Answer {
        /// What was asked.
        url: String,
        /// What came of it.
        problem: String,
    },
    /// Somebody could read along and put in keys of their own.
    #[error("{0}: keys are only taken over https, or from this machine")]
    ClearText(String),
    /// It is another one.
    #[error("its discovery document is that of {0}")]
    OtherIssuer(String),
}

/// The provider.
#[derive(Debug)]
pub(super) struct Provider {
    client: Client,
    issuer: String,
    keys_url: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Found {
    keys: Vec<serde_json::Value>,
}

impl Provider {
    pub(super) fn new(config: &OidcConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: Client::builder()
                .timeout(PATIENCE)
                .redirect(Policy::none())
                .build()?,
            issuer: config.issuer.clone(),
            keys_url: config.keys_url.clone(),
        })
    }

    pub(super) async fn keys(&self) -> Result<JwkSet, ProviderError> {
        let keys_url = match &self.keys_url {
            Some(url) => url.clone(),
            None => {
                let issuer = self.issuer.trim_end_matches('/');
                let url = format!("{issuer}/.well-known/openid-configuration");
                let discovery: Discovery = self.get(&url).await?;
                if discovery.issuer != self.issuer {
                    return Err(ProviderError::OtherIssuer(discovery.issuer));
                }
                discovery.jwks_uri
            }
        };
        let found: Found = self.get(&keys_url).await?;
        // Keys of kinds that nobody here knows are for others.
        let known = found.keys.into_iter();
        let known = known.filter_map(|key| serde_json::from_value(key).ok());
        Ok(JwkSet {
            keys: known.collect(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ProviderError> {
        let failed = |problem: String| ProviderError::Answer {
            url: url.to_owned(),
            problem,
        };
        if !is_private(url) {
            return Err(ProviderError::ClearText(url.to_owned()));
        }
        let mut answer = self
            .client
            .get(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| failed(error.to_string()))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| failed(error.to_string()))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES {
                return Err(failed("its answer does not end".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }
}

/// Whether nobody else can read along on the way to a URL.
pub fn is_private(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://id.example",
            "http://127.0.0.1:8080/x",
            "http://localhost",
            "http://[::1]",
        ] {
            assert!(is_private(good), "{good}");
        }
        for bad in [
            "http://id.example",
            "ftp://127.0.0.1",
            "id.example",
            "",
            "file:///etc/passwd",
        ] {
            assert!(!is_private(bad), "{bad}");
        }
    }
}
