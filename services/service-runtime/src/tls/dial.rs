//! Calls others: with TLS where the address says so, and never without it when it does.

use std::fmt;
use std::io;
use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use contracts::agent::type_name;
use contracts::client::{self, ClientChannel, ClientError};
use contracts::task::AgentType;

use super::Tls;
use super::identity::Identity;
use super::material::public_authorities;
use super::revoked::Revoked;

/// Who must be at the other end of a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whoever the address names, as for every client of the web.
    Host,
    /// An orchestrator of the mesh, whatever the address names.
    Orchestrator,
    /// An agent of a type, whatever the address names: replicas of a container service have no names.
    Agent(AgentType),
}

/// Why there is no connection. One sentence, for it becomes the message of the call's status.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the address has no host")]
    NoHost,
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        authority: String,
        source: io::Error,
    },
    #[error("{authority} does not speak TLS: is it http://{authority}?")]
    ClearText { authority: String },
    #[error("{authority} closed the connection in the TLS handshake")]
    Closed { authority: String },
    #[error("no TLS with {authority}: {problem}")]
    Handshake { authority: String, problem: String },
    #[error("TLS: {0}")]
    Configuration(#[from] rustls::Error),
}

impl Tls {
    /// A channel that connects at its first call, and again whenever it must; then with the newest
    /// certificates. An address that begins with `http://` stays without TLS.
    pub fn channel(
        &self,
        address: &str,
        token: Option<&str>,
        expected: Expected,
    ) -> Result<ClientChannel, ClientError> {
        self.channel_in(address, token, None, expected)
    }

    /// The same, for calls about one namespace. `None`: the default one.
    pub fn channel_in(
        &self,
        address: &str,
        token: Option<&str>,
        namespace: Option<&str>,
        expected: Expected,
    ) -> Result<ClientChannel, ClientError> {
        let Some(rest) = address.strip_prefix("https://") else {
            return client::channel_in(address, token, namespace);
        };
        // Of the transport's own TLS nothing is used: it cannot take new certificates.
        let origin = client::endpoint(address)?.uri().clone();
        let endpoint = client::endpoint(&format!("http://{rest}"))?.origin(origin.clone());
        let tls = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, origin) = (tls.clone(), origin.clone());
            async move { tls.connect(&origin, expected).await.map(TokioIo::new) }
        });
        client::with_outbound(
            endpoint.connect_with_connector_lazy(connector),
            token,
            namespace,
        )
    }

    async fn connect(
        &self,
        address: &Uri,
        expected: Expected,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let host = address.host().ok_or(DialError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = address.port_u16().unwrap_or(443);
        let authority = address
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let config = self.client(expected)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| DialError::Handshake {
            authority: authority.clone(),
            problem: error.to_string(),
        })?;
        let stream = TcpStream::connect((host, port))
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| DialError::Connect {
                authority: authority.clone(),
                source,
            })?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| explain(&error, authority))
    }

    fn client(&self, expected: Expected) -> Result<ClientConfig, rustls::Error> {
        let material = self.material();
        let roots = material.as_ref().map_or_else(
            || Arc::new(public_authorities()),
            |found| found.roots.clone(),
        );
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            names: WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?,
            roots,
            provider: provider.clone(),
            expected,
            revoked: self.revoked(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let own = material.and_then(|material| material.own.clone());
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn explain(error: &io::Error, authority: String) -> DialError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => DialError::ClearText { authority },
        Some(rustls::Error::InvalidCertificate(problem)) => DialError::Handshake {
            authority,
            problem: format!("its certificate is refused: {problem}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => DialError::Handshake {
            authority,
            problem: format!("it refuses our certificate: {alert:?}"),
        },
        Some(other) => DialError::Handshake {
            authority,
            problem: other.to_string(),
        },
        None if error.kind() == io::ErrorKind::UnexpectedEof => DialError::Closed { authority },
        None => DialError::Handshake {
            authority,
            problem: error.to_string(),
        },
    }
}

/// The chain is always verified; then the name in the address, or the identity in the certificate.
struct Verifier {
    names: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    expected: Expected,
    revoked: Revoked,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.expected)
    }
}

impl Expected {
    fn accepts(self, identity: Option<&Identity>) -> bool {
        match (self, identity) {
            (Self::Host, _) | (Self::Orchestrator, Some(Identity::Orchestrator)) => true,
            (Self::Agent(expected), Some(Identity::Agent { agent_type, .. })) => {
                *agent_type == expected
            }
            (Self::Orchestrator | Self::Agent(_), _) => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host of the address"),
            Self::Orchestrator => f.write_str("an orchestrator"),
            Self::Agent(agent_type) => write!(f, "an agent of type {}", type_name(*agent_type)),
        }
    }
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
        if self.expected == Expected::Host {
            return self
                .names
                .verify_server_cert(certificate, intermediates, name, stapled, now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.revoked.check(certificate)?;
        let identity =
            Identity::of(certificate).map_err(|error| rustls::Error::General(error.to_string()))?;
        if self.expected.accepts(identity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        let found = identity.map_or_else(
            || "names no service of the mesh".to_owned(),
            |identity| format!("names {identity}"),
        );
        Err(rustls::Error::General(format!(
            "its certificate {found}, and {} was to be called",
            self.expected
        )))
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
