//! TLS to the database, as the connection string says with libpq's words: `sslmode` (disable, prefer,
//! require, verify-ca, verify-full) and `sslrootcert`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How connections to the database are secured.
#[derive(Clone)]
pub(super) struct Secured(pub(super) MakeRustlsConnect);

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secured")
    }
}

/// How much of the server's certificate must be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    /// It is encrypted, to whomever.
    Nothing,
    /// An authority that we trust signed it.
    Chain,
    /// And it names the host that we connect to.
    Full,
}

/// What the connection string says about TLS, and the rest of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// What `tokio-postgres` understands.
    pub(super) url: String,
    mode: Option<String>,
    authorities: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of a connection string, in either form.
pub(super) fn split(url: &str) -> Split {
    let is_url = url.contains("://");
    let (head, options, separator) = match url.split_once('?') {
        Some((head, query)) if is_url => (Some(head), query, '&'),
        None if is_url => (Some(url), "", '&'),
        _ => (None, url, ' '),
    };
    let (mut mode, mut authorities, mut rest) = (None, None, Vec::new());
    for option in options.split(separator).filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.trim_matches('\'').to_owned()),
            Some(("sslrootcert", value)) => {
                authorities = Some(decoded(value.trim_matches('\'')));
            }
            _ => rest.push(option),
        }
    }
    // It knows no words for what is verified: that is ours to do.
    let word = match mode.as_deref() {
        Some("verify-ca" | "verify-full") => Some("require"),
        other => other,
    };
    let word = word.map(|word| format!("sslmode={word}"));
    rest.extend(word.as_deref());
    let options = rest.join(&separator.to_string());
    let url = match head {
        None => options,
        Some(head) if options.is_empty() => head.to_owned(),
        Some(head) => format!("{head}?{options}"),
    };
    Split {
        url,
        mode,
        authorities,
    }
}

fn decoded(value: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", value.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

impl Split {
    /// `None`: the connection needs no TLS, because it stays on this machine or was told so.
    pub(super) fn tls(&self, config: &Config) -> Result<Option<Secured>, String> {
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name == "127.0.0.1" || name == "::1",
        });
        let mode = config.get_ssl_mode();
        if mode == SslMode::Disable || (local && mode == SslMode::Prefer) {
            return Ok(None);
        }
        let verified = match (self.mode.as_deref(), &self.authorities) {
            (Some("verify-full"), _) => Verified::Full,
            // As libpq has it: who names authorities wants them asked.
            (Some("verify-ca"), _) | (Some("require"), Some(_)) => Verified::Chain,
            _ => Verified::Nothing,
        };
        let roots = match &self.authorities {
            None => RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            },
            Some(file) => authorities(Path::new(file))?,
        };
        let config = client(Arc::new(roots), verified).map_err(|error| error.to_string())?;
        Ok(Some(Secured(MakeRustlsConnect::new(config))))
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |problem: String| format!("sslrootcert {}: {problem}", file.display());
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate".to_owned()));
    }
    Ok(roots)
}

fn client(roots: Arc<RootCertStore>, verified: Verified) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let names = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let judge = Verifier {
        names,
        roots,
        provider: provider.clone(),
        verified,
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    names: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    verified: Verified,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verified {
            Verified::Nothing => Ok(ServerCertVerified::assertion()),
            Verified::Chain => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(certificate)?,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )
            .map(|()| ServerCertVerified::assertion()),
            Verified::Full => {
                self.names
                    .verify_server_cert(certificate, intermediates, name, stapled, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.names
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.names
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.names.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_tls_is_taken_out_of_either_form() {
        for (given, url, mode, authorities) in [
            ("postgres://a@b/c", "postgres://a@b/c", None, None),
            (
                "postgres://a@b,d/c?sslmode=verify-full&application_name=x&sslrootcert=%2Fca%20s.crt",
                "postgres://a@b,d/c?application_name=x&sslmode=require",
                Some("verify-full"),
                Some("/ca s.crt"),
            ),
            (
                "host=b sslmode=verify-ca sslrootcert='/ca.crt' user=a",
                "host=b user=a sslmode=require",
                Some("verify-ca"),
                Some("/ca.crt"),
            ),
            (
                "postgres://a@b/c?sslmode=disable",
                "postgres://a@b/c?sslmode=disable",
                Some("disable"),
                None,
            ),
        ] {
            let found = split(given);
            assert_eq!(found.url, url);
            assert_eq!(found.mode.as_deref(), mode, "{given}");
            assert_eq!(found.authorities.as_deref(), authorities, "{given}");
        }
    }

    #[test]
    fn a_mode_that_there_is_not_is_refused() {
        let url = split("postgres://a@b/c?sslmode=verify-everything").url;
        assert!(url.parse::<Config>().is_err());
    }
}
