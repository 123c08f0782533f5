//! What is in the files: certificate, key, authorities; checked before it is used.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::redaction;

use super::CallerCertificate;
use super::identity::{Identity, IdentityError};
use super::revoked::{Revoked, Unrevoked};

/// Where the certificates of a process are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its own chain, and the key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Whom it trusts; `None`: the public authorities.
    pub authorities: Option<PathBuf>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{file}: {problem}")]
    File {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Two files that are not of one pair, or a kind of key that nobody takes.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Pair {
        /// Certificate.
        certificate: PathBuf,
        /// Key.
        key: PathBuf,
        /// Cause.
        source: rustls::Error,
    },
    /// What the certificate names.
    #[error("{file}: {source}")]
    Identity {
        /// Which one.
        file: PathBuf,
        /// Cause.
        source: IdentityError,
    },
    /// Its time is over.
    #[error("{file}: the certificate expired at {at}")]
    Expired {
        /// Which one.
        file: PathBuf,
        /// When.
        at: String,
    },
    /// They do not make a working configuration.
    #[error("{0}")]
    Configuration(String),
}

#[derive(Debug)]
pub(super) struct Material {
    pub(super) own: Option<Arc<CertifiedKey>>,
    pub(super) identity: Option<Identity>,
    pub(super) not_after: Option<SystemTime>,
    pub(super) roots: Arc<RootCertStore>,
    // None, optional, required.
    servers: Option<[Arc<ServerConfig>; 3]>,
}

/// Tells one state of the files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, i64, i64, u64)>>);

impl Files {
    pub(super) fn stamp(&self) -> Stamp {
        let paths = self
            .own
            .iter()
            .flat_map(|(certificate, key)| [certificate, key])
            .chain(&self.authorities);
        let one = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        };
        Stamp(paths.map(one).collect())
    }
}

impl Material {
    pub(super) fn read(files: &Files, revoked: &Revoked) -> Result<Self, TlsError> {
        let roots = Arc::new(match &files.authorities {
            Some(file) => authorities(file)?,
            None => public_authorities(),
        });
        let mut material = Self {
            own: None,
            identity: None,
            not_after: None,
            roots: roots.clone(),
            servers: None,
        };
        let Some((certificate, key)) = &files.own else {
            return Ok(material);
        };
        let chain = certificates(certificate)?;
        let first = chain
            .first()
            .ok_or_else(|| wrong(certificate, "has no certificate"))?;
        material.identity = Identity::of(first).map_err(|source| TlsError::Identity {
            file: certificate.clone(),
            source,
        })?;
        material.not_after = Some(end(certificate, first)?);
        redaction::hide_key(&fs::read_to_string(key).unwrap_or_default());
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
        let own =
            CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(|source| {
                TlsError::Pair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                }
            })?;
        let own = Arc::new(own);
        material.servers = Some([
            server(&own, &roots, revoked, CallerCertificate::None)?,
            server(&own, &roots, revoked, CallerCertificate::Optional)?,
            server(&own, &roots, revoked, CallerCertificate::Required)?,
        ]);
        material.own = Some(own);
        Ok(material)
    }

    pub(super) fn server(&self, callers: CallerCertificate) -> Option<Arc<ServerConfig>> {
        let [none, optional, required] = self.servers.as_ref()?;
        Some(
            match callers {
                CallerCertificate::None => none,
                CallerCertificate::Optional => optional,
                CallerCertificate::Required => required,
            }
            .clone(),
        )
    }
}

fn server(
    own: &Arc<CertifiedKey>,
    roots: &Arc<RootCertStore>,
    revoked: &Revoked,
    callers: CallerCertificate,
) -> Result<Arc<ServerConfig>, TlsError> {
    let configuration = |error: String| TlsError::Configuration(error);
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| configuration(error.to_string()))?;
    let verifier = || WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let unrevoked = |verifier: ClientCertVerifierBuilder| {
        let verifier = verifier.build();
        let verifier = verifier.map_err(|error| configuration(error.to_string()))?;
        let revoked = revoked.clone();
        Ok(Arc::new(Unrevoked { verifier, revoked }))
    };
    let builder = match callers {
        CallerCertificate::None => builder.with_no_client_auth(),
        CallerCertificate::Optional => {
            builder.with_client_cert_verifier(unrevoked(verifier().allow_unauthenticated())?)
        }
        CallerCertificate::Required => builder.with_client_cert_verifier(unrevoked(verifier())?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    config.alpn_protocols = match callers {
        CallerCertificate::None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        CallerCertificate::Optional | CallerCertificate::Required => vec![b"h2".to_vec()],
    };
    // A session that goes on would go on past the end of the certificate that began it.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(file, &error))?;
    }
    if roots.is_empty() {
        return Err(wrong(file, "has no certificate"));
    }
    Ok(roots)
}

/// The authorities that browsers trust.
pub(super) fn public_authorities() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(file, &error))
}

fn end(file: &Path, certificate: &CertificateDer<'_>) -> Result<SystemTime, TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| wrong(file, &error))?;
    let at = parsed.validity().not_after;
    let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    if end < SystemTime::now() {
        return Err(TlsError::Expired {
            file: file.to_owned(),
            at: at.to_string(),
        });
    }
    Ok(end)
}

fn wrong(file: &Path, problem: impl std::fmt::Display) -> TlsError {
    TlsError::File {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}
