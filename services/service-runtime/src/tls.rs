//! TLS of every process: whom it trusts, who it is, and how both change while it runs. One crypto
//! provider (ring); certificates are files, read again whenever they change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use clap::Args;
use rustls::ServerConfig;

use crate::config::ConfigError;

pub mod accept;
pub mod authority;
mod dial;
pub mod identity;
mod material;
mod revoked;
mod rotation;

pub use dial::Expected;
pub use identity::{Identity, Peer};
pub use material::{Files, TlsError};
pub use revoked::{Certificate, Revoked};

use material::{Material, Stamp};

/// Installs ring as the process's crypto provider. Called first thing in every `main`; calling it
/// again changes nothing.
pub fn install_crypto() {
    // Fails only when one is installed already: then it is the same, since it is the only one linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

// Certificates. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// File with the certificate chain to show, in PEM. With --tls-key and --tls-ca a service serves and calls with TLS.
    #[arg(long, env = "AGENTIC_TLS_CERT", value_name = "FILE", global = true)]
    pub tls_cert: Option<PathBuf>,
    /// File with the private key of --tls-cert, in PEM.
    #[arg(long, env = "AGENTIC_TLS_KEY", value_name = "FILE", global = true)]
    pub tls_key: Option<PathBuf>,
    /// File with the authorities to trust, in PEM. Left out: the public ones, where nothing but a client needs them.
    #[arg(long, env = "AGENTIC_TLS_CA", value_name = "FILE", global = true)]
    pub tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Whether any of them is set.
    pub fn is_empty(&self) -> bool {
        self.tls_cert.is_none() && self.tls_key.is_none() && self.tls_ca.is_none()
    }

    /// What a service serves and calls with: all three settings, or none of them.
    pub fn service(&self) -> Result<Tls, ConfigError> {
        if self.is_empty() {
            return Ok(Tls::default());
        }
        if self.tls_ca.is_none() {
            return Err(ConfigError::invalid(
                "--tls-ca",
                "is required (AGENTIC_TLS_CA) with --tls-cert: services know each other by it",
            ));
        }
        if self.tls_cert.is_none() {
            return Err(ConfigError::invalid(
                "--tls-cert",
                "is required (AGENTIC_TLS_CERT) with --tls-ca; `agentic certs` makes one",
            ));
        }
        self.client()
    }

    /// What a client calls with: nothing, authorities, a certificate, or both.
    pub fn client(&self) -> Result<Tls, ConfigError> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) => {
                let problem = "is required (AGENTIC_TLS_KEY) with --tls-cert";
                return Err(ConfigError::invalid("--tls-key", problem));
            }
            (None, Some(_)) => {
                let problem = "is required (AGENTIC_TLS_CERT) with --tls-key";
                return Err(ConfigError::invalid("--tls-cert", problem));
            }
        };
        let files = Files {
            own,
            authorities: self.tls_ca.clone(),
        };
        Tls::read(files).map_err(|error| ConfigError::invalid("TLS", error.to_string()))
    }
}

/// Which certificate a server asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerCertificate {
    /// None, as a port for browsers and probes.
    None,
    /// Services show one, people need not.
    Optional,
    /// Nobody gets in without one.
    Required,
}

/// How a process proves who it is, and whom it trusts. Cheap to clone; all clones see new files at
/// once. The default has no certificate: it serves clear text, and trusts the public authorities.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    // Of the files when they were read first: what comes later is new.
    begun: Stamp,
    current: RwLock<Arc<Material>>,
    // Why the newest files are not in use.
    broken: RwLock<Option<String>>,
    // Whom to refuse though their certificates are good.
    revoked: Revoked,
}

impl Tls {
    /// Reads the files.
    pub fn read(files: Files) -> Result<Self, TlsError> {
        let begun = files.stamp();
        let revoked = Revoked::default();
        let material = Material::read(&files, &revoked)?;
        Ok(Self {
            shared: Some(Arc::new(Shared {
                files,
                begun,
                current: RwLock::new(Arc::new(material)),
                broken: RwLock::new(None),
                revoked,
            })),
        })
    }

    /// Whether there is a certificate to serve with.
    pub fn can_serve(&self) -> bool {
        self.material()
            .is_some_and(|material| material.own.is_some())
    }

    /// Who the process is by its certificate.
    pub fn identity(&self) -> Option<Identity> {
        self.material()?.identity.clone()
    }

    /// Certificates that it refuses. Without a certificate of its own it asks for none, and refuses none.
    pub fn revoked(&self) -> Revoked {
        let shared = self.shared.as_ref();
        shared.map_or_else(Revoked::default, |shared| shared.revoked.clone())
    }

    /// When its certificate ends.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.material()?.not_after
    }

    /// `Err`: nobody will trust this process any more, and why.
    pub fn check(&self) -> Result<(), String> {
        match self.not_after() {
            Some(end) if end < SystemTime::now() => {
                let newest = self
                    .broken()
                    .map_or(String::new(), |why| format!("; {why}"));
                Err(format!("the TLS certificate has expired{newest}"))
            }
            _ => Ok(()),
        }
    }

    /// Why the newest files are not in use, when they are not.
    pub fn broken(&self) -> Option<String> {
        let shared = self.shared.as_ref()?;
        shared
            .broken
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the files again. What is wrong with them leaves the old ones in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let read = Material::read(&shared.files, &shared.revoked);
        let mut broken = shared
            .broken
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *broken = read.as_ref().err().map(ToString::to_string);
        drop(broken);
        let material = Arc::new(read?);
        *shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = material;
        Ok(())
    }

    // What a handshake that begins now is done with. `None`: clear text.
    fn server(&self, callers: CallerCertificate) -> Option<Arc<ServerConfig>> {
        self.material()?.server(callers)
    }

    fn material(&self) -> Option<Arc<Material>> {
        let shared = self.shared.as_ref()?;
        let current = shared
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}
