//! JWTs of an OpenID provider: whose they are, and what they may do. Keys are fetched from the provider,
//! kept, and fetched again when they are old or when a token names one that is not known.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::Role;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

use super::audit::text;
use super::identity::{Credential, Identity, Namespaces};
use super::role::Roles;
use super::unauthenticated;
use provider::Provider;
pub use provider::is_private;

mod crypto;
mod provider;

// Providers rotate keys over hours or days.
const FRESH: Duration = Duration::from_mins(10);
// While the provider does not answer, its keys hold for so long.
const STALE: Duration = Duration::from_hours(1);
// Whoever makes up key ids must not make us ask the provider each time.
const ASK_AGAIN: Duration = Duration::from_secs(10);
const LEEWAY_SECONDS: u64 = 30;
// All metadata of a call has 16 KiB.
const TOKEN_BYTES: usize = 8 * 1024;

/// What to believe of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// The provider, as its tokens name it.
    pub issuer: String,
    /// What its tokens must be for.
    pub audience: String,
    /// Where its keys are. `None`: its discovery document says so.
    pub keys_url: Option<String>,
    /// Claim with the name that stands on record.
    pub name_claim: String,
    /// Claim with the roles; dots lead into objects.
    pub role_claim: String,
    /// What the values of that claim mean. Empty: they are names of roles.
    pub roles: Vec<(String, Role)>,
    /// Claim with the namespaces.
    pub namespace_claim: String,
}

/// Verifies the tokens of one provider.
#[derive(Debug)]
pub struct Oidc {
    config: OidcConfig,
    provider: Provider,
    keys: RwLock<Keys>,
    // When the provider was last asked; held by whoever asks.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Keys {
    set: JwkSet,
    fetched: Option<Instant>,
}

impl Keys {
    fn is_within(&self, age: Duration) -> bool {
        self.fetched.is_some_and(|fetched| fetched.elapsed() < age)
    }
}

impl Oidc {
    /// Believes this provider. Nothing is fetched yet.
    pub fn new(config: OidcConfig) -> Result<Self, reqwest::Error> {
        crypto::install();
        Ok(Self {
            provider: Provider::new(&config)?,
            config,
            keys: RwLock::new(Keys {
                set: JwkSet { keys: Vec::new() },
                fetched: None,
            }),
            asked: Mutex::default(),
        })
    }

    /// Whose token it is.
    pub async fn identify(&self, token: &str) -> Result<Identity, Error> {
        let refuse = |problem: &str| unauthenticated(&format!("the token is refused: {problem}"));
        if token.len() > TOKEN_BYTES {
            return Err(refuse("it is too long"));
        }
        let header = decode_header(token).map_err(|_| refuse("it is not a signed JWT"))?;
        let kid = header
            .kid
            .ok_or_else(|| refuse("it does not say with which key it is signed"))?;
        let key = self
            .key(&kid)
            .await?
            .ok_or_else(|| refuse("its key is none of the provider's"))?;
        // The key decides how it is used, never the token.
        let algorithm = algorithm(&key).ok_or_else(|| refuse("its key is not for signatures"))?;
        if header.alg != algorithm {
            return Err(refuse("it is signed otherwise than its key allows"));
        }
        let key = DecodingKey::from_jwk(&key).map_err(|_| refuse("its key is malformed"))?;
        let claims = decode::<Map<String, Value>>(token, &key, &self.validation(algorithm))
            .map_err(|error| refuse(&error.to_string()))?
            .claims;
        self.identity(&claims).map_err(refuse)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, &'static str> {
        let name = claim(claims, &self.config.name_claim)
            .and_then(Value::as_str)
            .map(text)
            .filter(|name| !name.trim().is_empty())
            .ok_or("it does not name its holder")?;
        let subject = claims.get("sub").and_then(Value::as_str).map(text);
        let expire = claims.get("exp").and_then(Value::as_u64);
        let expire = expire.ok_or("it does not say until when it is good")?;
        let namespaces = texts(claim(claims, &self.config.namespace_claim));
        Ok(Identity {
            name,
            credential: Credential::Jwt {
                issuer: self.config.issuer.clone(),
                subject: subject.unwrap_or_default(),
            },
            roles: self.roles(&texts(claim(claims, &self.config.role_claim))),
            namespaces: Namespaces::of(&namespaces),
            expire_time: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(expire)),
        })
    }

    // Values that mean nothing here are for others.
    fn roles(&self, values: &[String]) -> Roles {
        let known = values.iter().filter_map(|value| {
            if self.config.roles.is_empty() {
                return Roles::parse([value.as_str()]).ok();
            }
            let meaning = self.config.roles.iter().filter(|(name, _)| name == value);
            Some(meaning.fold(Roles::default(), |all, (_, role)| {
                all.with(Roles::of(&[*role]))
            }))
        });
        known.fold(Roles::default(), Roles::with)
    }

    async fn key(&self, kid: &str) -> Result<Option<Jwk>, Error> {
        let known = self.known(kid, FRESH);
        if known.is_some() {
            return Ok(known);
        }
        // One asks; who has a key that may still hold does not wait for it.
        let asked = match (self.known(kid, STALE), self.asked.try_lock()) {
            (Some(key), Err(_)) => return Ok(Some(key)),
            (_, Ok(asked)) => asked,
            (None, Err(_)) => self.asked.lock().await,
        };
        self.ask(asked).await;
        if !self.keys().is_within(STALE) {
            return Err(Error::new(
                ErrorReason::IdentityProviderUnavailable,
                "the OpenID provider gives no keys; try again in a moment",
            )
            .retry_after(ASK_AGAIN));
        }
        Ok(self.known(kid, STALE))
    }

    async fn ask(&self, mut asked: MutexGuard<'_, Option<Instant>>) {
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return;
        }
        *asked = Some(Instant::now());
        match self.provider.keys().await {
            Ok(set) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Keys {
                    set,
                    fetched: Some(Instant::now()),
                };
            }
            Err(error) => tracing::warn!(%error, "the OpenID provider gives no keys"),
        }
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, kid: &str, age: Duration) -> Option<Jwk> {
        let keys = self.keys();
        keys.is_within(age).then(|| keys.set.find(kid).cloned())?
    }
}

// How signatures of a key are made: one way for each kind.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    if key
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|used| *used != PublicKeyUse::Signature)
    {
        return None;
    }
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(parameters)
            if parameters.curve == EllipticCurve::P256 =>
        {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(parameters)
            if parameters.curve == EllipticCurve::Ed25519 =>
        {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::OctetKey(_) => return None,
    };
    let named = key.common.key_algorithm.map(|named| named.to_string());
    named
        .is_none_or(|named| named == format!("{algorithm:?}"))
        .then_some(algorithm)
}

fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    // A claim may have dots in its own name, as URLs do.
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

// A list, or words in one text.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(values)) => values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        Some(Value::String(words)) => words.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "realm_access": {"roles": ["admin", 7, "operator"]},
            "https://x.example/roles": "viewer  approver",
        });
        let claims = claims.as_object().unwrap();
        assert_eq!(
            texts(claim(claims, "realm_access.roles")),
            ["admin", "operator"]
        );
        assert_eq!(
            texts(claim(claims, "https://x.example/roles")),
            ["viewer", "approver"]
        );
        assert!(texts(claim(claims, "realm_access.groups")).is_empty());
        assert!(texts(claim(claims, "realm_access")).is_empty());
    }
}
