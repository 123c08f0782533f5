//! Who a certificate says that its holder is: the URI among its names. Knows nothing of files or
//! connections.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use contracts::agent::{AGENT_TYPES, type_name};
use contracts::task::AgentType;

/// What every identity of the mesh begins with.
pub const TRUST_DOMAIN: &str = "spiffe://agentic/";
/// Longest name of an agent within its type.
pub const NAME_BYTES: usize = 63;

/// A service of the mesh, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `spiffe://agentic/orchestrator`: any replica.
    Orchestrator,
    /// `spiffe://agentic/agent/<type>` or `spiffe://agentic/agent/<type>/<name>`.
    Agent {
        /// What it is.
        agent_type: AgentType,
        /// Which one, where replicas are told apart: 1 to 63 of `a-z`, `0-9`, `-`, `.` and `_`.
        name: Option<String>,
    },
}

/// Why a name is no identity of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the form.
    #[error(
        "{0:?} is no identity of the mesh: spiffe://agentic/orchestrator, or \
         spiffe://agentic/agent/<type>[/<name>] with the type scaffold, validation, e2e, integration or deployment"
    )]
    Form(String),
    /// Nobody could say which one holds.
    #[error("the certificate names more than one identity")]
    Several,
    /// Not a certificate.
    #[error("the certificate does not parse: {0}")]
    Certificate(String),
}

impl Identity {
    /// An agent of a type, whichever.
    pub fn agent(agent_type: AgentType) -> Self {
        Self::Agent {
            agent_type,
            name: None,
        }
    }

    /// Reads a certificate. `None`: it names no identity of the mesh, as that of a person or a proxy.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Option<Self>, IdentityError> {
        let uris = uris(certificate)?;
        match uris.as_slice() {
            [] => Ok(None),
            [one] => one.parse().map(Some),
            _ => Err(IdentityError::Several),
        }
    }
}

// Those of other trust domains say nothing here.
fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>, IdentityError> {
    let broken = |error: String| IdentityError::Certificate(error);
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| broken(error.to_string()))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| broken(error.to_string()))?;
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    Ok(names
        .value
        .general_names
        .iter()
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some((*uri).to_owned())
            } else {
                None
            }
        })
        .filter(|uri| uri.starts_with(TRUST_DOMAIN))
        .collect())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TRUST_DOMAIN)?;
        match self {
            Self::Orchestrator => f.write_str("orchestrator"),
            Self::Agent { agent_type, name } => {
                write!(f, "agent/{}", type_name(*agent_type))?;
                match name {
                    Some(name) => write!(f, "/{name}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::Form(text.to_owned());
        let path = text.strip_prefix(TRUST_DOMAIN).ok_or_else(wrong)?;
        if path == "orchestrator" {
            return Ok(Self::Orchestrator);
        }
        let rest = path.strip_prefix("agent/").ok_or_else(wrong)?;
        let (kind, name) = match rest.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (rest, None),
        };
        let agent_type = AGENT_TYPES
            .into_iter()
            .find(|agent_type| type_name(*agent_type) == kind)
            .ok_or_else(wrong)?;
        if name.is_some_and(|name| !is_name(name)) {
            return Err(wrong());
        }
        let name = name.map(str::to_owned);
        Ok(Self::Agent { agent_type, name })
    }
}

/// Whether a text can be the name of an agent within its type.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
        })
}

/// The other side of a connection. Every request that came through [`crate::server::Server`] has one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Where it is; `None`: not over a network.
    pub address: Option<SocketAddr>,
    /// Over TLS.
    pub secure: bool,
    /// What its certificate says; `None`: it showed none, or one that names no service of the mesh.
    pub identity: Option<Identity>,
    /// Serial number of that certificate, in hexadecimal digits.
    pub serial: Option<String>,
}

impl Peer {
    /// Who made a call.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// On the same machine, or in the same process.
    pub fn is_local(&self) -> bool {
        self.address
            .is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_and_read_back() {
        for text in [
            "spiffe://agentic/orchestrator",
            "spiffe://agentic/agent/e2e",
            "spiffe://agentic/agent/validation/host-1.example_2",
        ] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_else_is_an_identity() {
        for text in [
            "",
            "spiffe://agentic/",
            "spiffe://agentic/Orchestrator",
            "spiffe://agentic/orchestrator/",
            "spiffe://agentic/orchestrator/x",
            "spiffe://other/orchestrator",
            "spiffe://agentic/agent/",
            "spiffe://agentic/agent/unspecified",
            "spiffe://agentic/agent/E2E",
            "spiffe://agentic/agent/e2e/",
            "spiffe://agentic/agent/e2e/a/b",
            "spiffe://agentic/agent/e2e/..%2f",
            "spiffe://agentic/agent/e2e/A",
        ] {
            let error = text.parse::<Identity>().unwrap_err();
            assert!(matches!(error, IdentityError::Form(_)), "{text}: {error}");
        }
        let long = format!("spiffe://agentic/agent/e2e/{}", "a".repeat(64));
        assert!(long.parse::<Identity>().is_err());
    }
}
