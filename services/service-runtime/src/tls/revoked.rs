//! Certificates that are refused before their end. Knows their serial numbers, and not who says so.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{Identity, IdentityError};

/// Serial numbers of certificates that are refused. All clones see changes at once.
#[derive(Debug, Clone, Default)]
pub struct Revoked {
    serials: Arc<RwLock<HashSet<String>>>,
}

impl Revoked {
    /// These, and no others.
    pub fn set(&self, serials: HashSet<String>) {
        *self.serials.write().unwrap_or_else(PoisonError::into_inner) = serials;
    }

    /// These, too.
    pub fn add(&self, serials: impl IntoIterator<Item = String>) {
        let mut known = self.serials.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(serials);
    }

    /// Whether it is one of them.
    pub fn contains(&self, serial: &str) -> bool {
        let known = self.serials.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(serial)
    }

    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        match serial(certificate) {
            Ok(serial) if self.contains(&serial) => Err(CertificateError::Revoked.into()),
            Ok(_) => Ok(()),
            Err(_) => Err(CertificateError::BadEncoding.into()),
        }
    }
}

/// What a certificate says that matters when it is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// What it names; `None`: no service of the mesh.
    pub identity: Option<Identity>,
    /// Its end.
    pub not_after: SystemTime,
}

impl Certificate {
    /// The first one of a text in PEM.
    pub fn of_pem(pem: &str) -> Result<Self, IdentityError> {
        let broken = |error: String| IdentityError::Certificate(error);
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| broken(error.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| broken(error.to_string()))?;
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            serial: digits(parsed.raw_serial()),
            identity: Identity::of(&der)?,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(end),
        })
    }
}

/// Serial number of a certificate, in hexadecimal digits.
pub(super) fn serial(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    Ok(digits(parsed.raw_serial()))
}

fn digits(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lets in whom another verifier lets in, but for those with a certificate that was revoked.
#[derive(Debug)]
pub(super) struct Unrevoked {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) revoked: Revoked,
}

impl ClientCertVerifier for Unrevoked {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .verifier
            .verify_client_cert(certificate, intermediates, now)?;
        self.revoked.check(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
