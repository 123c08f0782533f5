//! A certificate authority of our own: makes it, issues certificates, and signs what others ask for.
//! Keys are ECDSA P-256, which every client in the field takes.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateSigningRequestDer;
use time::{Duration, OffsetDateTime};

use crate::redaction;

use super::identity::Identity;

/// Clocks of two machines may differ by so much.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// Why the authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority's own files.
    #[error("the authority's certificate and key cannot be used: {0}")]
    Own(String),
    /// What was asked for cannot be a certificate.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The request does not parse, or its signature is not by the key that it names.
    #[error("the certificate request cannot be used: {0}")]
    Request(rcgen::Error),
    /// Somebody wants to be somebody else.
    #[error("the certificate request must name {allowed} and nothing else; it names {asked}")]
    NotAllowed {
        /// What it may name.
        allowed: Identity,
        /// What it names.
        asked: String,
    },
}

/// A key with its certificate, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// For people.
    pub common_name: String,
    /// The service; `None`: it is none of the mesh.
    pub identity: Option<Identity>,
    /// Host names and addresses that the holder is reached by.
    pub hosts: Vec<String>,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, with its files.
    pub fn create(name: &str, lifetime: Duration) -> Result<(Self, Issued), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut wanted = params(name, lifetime);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = wanted.self_signed(&key)?.pem();
        let files = Issued {
            certificate,
            key: key.serialize_pem(),
        };
        let issuer = Issuer::new(wanted, key);
        Ok((Self { issuer }, files))
    }

    /// The authority of two files.
    pub fn read(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let own = |error: rcgen::Error| AuthorityError::Own(error.to_string());
        redaction::hide_key(key);
        let key = KeyPair::from_pem(key).map_err(own)?;
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(own)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .map_err(|error| AuthorityError::Own(error.to_string()))?;
        let parsed = pem
            .parse_x509()
            .map_err(|error| AuthorityError::Own(error.to_string()))?;
        if parsed.public_key().raw != public {
            return Err(AuthorityError::Own("they are not of one pair".to_owned()));
        }
        if !parsed.is_ca() {
            return Err(AuthorityError::Own(
                "the certificate is not an authority's".to_owned(),
            ));
        }
        Ok(Self { issuer })
    }

    /// A key and a certificate for it.
    pub fn issue(&self, subject: &Subject, lifetime: Duration) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = leaf(subject, lifetime)?.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Signs the key of a request, when the request names `allowed` and nothing else.
    pub fn sign(
        &self,
        request: &Request,
        allowed: &Identity,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let asked = &request.parsed.params.subject_alt_names;
        let uri = SanType::URI(allowed.to_string().try_into()?);
        if asked != std::slice::from_ref(&uri) {
            return Err(AuthorityError::NotAllowed {
                allowed: allowed.clone(),
                asked: described(asked),
            });
        }
        let subject = Subject {
            common_name: "agentic agent".to_owned(),
            identity: Some(allowed.clone()),
            hosts: Vec::new(),
        };
        // Nothing of the request but its key: who asks does not say what the certificate is for.
        let certificate =
            leaf(&subject, lifetime)?.signed_by(&request.parsed.public_key, &self.issuer)?;
        Ok(certificate.pem())
    }
}

/// A request for a certificate that was signed by the key it names.
pub struct Request {
    parsed: CertificateSigningRequestParams,
}

impl Request {
    /// Reads and verifies a PKCS #10 request in DER.
    pub fn read(der: &[u8]) -> Result<Self, AuthorityError> {
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map(|parsed| Self { parsed })
            .map_err(AuthorityError::Request)
    }

    /// The public key, in DER: what makes two requests the same one.
    pub fn public_key(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.parsed.public_key)
    }
}

/// A new key in PEM, and the request for its certificate in DER.
pub fn request(identity: &Identity) -> Result<(String, Vec<u8>), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

fn leaf(subject: &Subject, lifetime: Duration) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(&subject.common_name, lifetime);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    for host in &subject.hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    if let Some(identity) = &subject.identity {
        let uri = SanType::URI(identity.to_string().try_into()?);
        params.subject_alt_names.push(uri);
    }
    Ok(params)
}

fn params(common_name: &str, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_after = now + lifetime;
    params.not_before = now.min(params.not_after) - CLOCK_SKEW;
    params
}

fn described(names: &[SanType]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let one = |name: &SanType| {
        if let SanType::URI(text) | SanType::DnsName(text) = name {
            text.to_string()
        } else {
            format!("{name:?}")
        }
    };
    names.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use contracts::task::AgentType;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn authority() -> Authority {
        Authority::create("test", Duration::HOUR).unwrap().0
    }

    #[test]
    fn a_request_is_signed_for_the_one_who_may_be_it_and_for_nothing_else() {
        let authority = authority();
        let e2e = Identity::agent(AgentType::E2e);
        let (_, der) = request(&e2e).unwrap();
        let asked = Request::read(&der).unwrap();
        let pem = authority.sign(&asked, &e2e, Duration::HOUR).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(Identity::of(&certificate).unwrap(), Some(e2e.clone()));

        for allowed in [
            Identity::agent(AgentType::Deployment),
            Identity::Orchestrator,
            "spiffe://agentic/agent/e2e/other".parse().unwrap(),
        ] {
            let refused = authority.sign(&asked, &allowed, Duration::HOUR);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(&e2e.to_string()), "{said}");
        }
    }

    #[test]
    fn a_request_for_more_than_an_identity_is_refused() {
        let e2e = Identity::agent(AgentType::E2e);
        let key = KeyPair::generate().unwrap();
        let subject = Subject {
            common_name: String::new(),
            identity: Some(e2e.clone()),
            hosts: vec!["orchestrator".to_owned()],
        };
        let mut params = leaf(&subject, Duration::HOUR).unwrap();
        params.use_authority_key_identifier_extension = false;
        let der = params.serialize_request(&key).unwrap();
        let asked = Request::read(der.der()).unwrap();
        let refused = authority().sign(&asked, &e2e, Duration::HOUR).unwrap_err();
        assert!(refused.to_string().contains("orchestrator"), "{refused}");
    }

    #[test]
    fn a_request_that_was_altered_or_signed_by_another_key_is_refused() {
        let (_, der) = request(&Identity::agent(AgentType::E2e)).unwrap();
        for position in [der.len() - 1, der.len() / 2] {
            let mut altered = der.clone();
            altered[position] ^= 1;
            assert!(Request::read(&altered).is_err(), "byte {position}");
        }
        assert!(Request::read(b"").is_err());
    }

    #[test]
    fn an_authority_is_read_back_and_refuses_another_ones_key() {
        let (_, files) = Authority::create("one", Duration::HOUR).unwrap();
        let (_, others) = Authority::create("two", Duration::HOUR).unwrap();
        assert!(Authority::read(&files.certificate, &files.key).is_ok());
        assert!(Authority::read(&files.certificate, &others.key).is_err());
        let subject = Subject::default();
        let leaf = authority().issue(&subject, Duration::HOUR).unwrap();
        let said = Authority::read(&leaf.certificate, &leaf.key).err().unwrap();
        assert!(said.to_string().contains("not an authority"), "{said}");
    }
}
