//! `EnrolmentService`.

use std::time::{Duration, SystemTime};

use rand::RngCore;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status, async_trait};

use contracts::agent::type_name;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::enrolment_service_server::EnrolmentService as Service;
use contracts::orchestrator::revoke_certificates_request::Which;
use contracts::orchestrator::{
    CreateEnrolmentTokenRequest, CreateEnrolmentTokenResponse, IssueCertificateRequest,
    IssueCertificateResponse, RevokeCertificatesRequest, RevokeCertificatesResponse,
};
use contracts::parse::Fields;
use contracts::task::AgentType;
use contracts::wire_time;
use service_runtime::tls::authority::{self, AuthorityError};
use service_runtime::tls::identity::is_name;
use service_runtime::tls::{Certificate, Identity, Peer, Revoked};

use crate::config::Enrolment;
use crate::engine;
use crate::store::{Store, certificates, enrolment as tokens};

const REQUEST_BYTES: usize = 8 * 1024;
const CERTIFICATE_BYTES: usize = 8 * 1024;
const SECRET_BYTES: usize = 32;
const TOKEN_BYTES: usize = 256;
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// `agentic.orchestrator.v1.EnrolmentService`.
#[derive(Debug, Clone)]
pub struct EnrolmentService {
    store: Store,
    enrolment: Option<Enrolment>,
    revoked: Revoked,
}

impl EnrolmentService {
    /// Issues certificates, when there is an authority, and has them refused.
    pub fn new(store: Store, enrolment: Option<Enrolment>, revoked: Revoked) -> Self {
        Self {
            store,
            enrolment,
            revoked,
        }
    }

    fn enrolment(&self) -> Result<&Enrolment, Error> {
        self.enrolment.as_ref().ok_or_else(|| {
            Error::new(
                ErrorReason::CapabilityMissing,
                "this orchestrator issues no certificates: it has no --enrolment-ca-cert and --enrolment-ca-key",
            )
        })
    }

    async fn create(
        &self,
        peer: &Peer,
        request: &CreateEnrolmentTokenRequest,
    ) -> Result<CreateEnrolmentTokenResponse, Error> {
        by_a_person(peer, "enrol others")?;
        self.enrolment()?;
        let mut fields = Fields::new();
        let agent_type = fields.required_enum::<AgentType>("agent_type", request.agent_type);
        if !request.name.is_empty() && !is_name(&request.name) {
            fields.wrong("name", "is not 1 to 63 of a-z, 0-9, '-', '.' and '_'");
        }
        let lifetime = fields.duration("lifetime", request.lifetime, SHORTEST, LONGEST);
        let lifetime = fields.finish(lifetime)?.unwrap_or(TOKEN_LIFETIME);
        let name = Some(request.name.clone()).filter(|name| !name.is_empty());
        let prefix = name.as_ref().map_or_else(
            || type_name(agent_type).to_owned(),
            |name| format!("{}/{name}", type_name(agent_type)),
        );
        let mut secret = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut secret);
        // The agent reads from it what it is to ask for.
        let token = format!("{prefix}:{}", hex::encode(secret));
        let identity = Identity::Agent { agent_type, name }.to_string();
        let client = self
            .store
            .client()
            .await
            .map_err(|error| engine::store(&error))?;
        let expire_time = tokens::create(&client, &sha256(token.as_bytes()), &identity, lifetime)
            .await
            .map_err(|error| engine::store(&error))?;
        tracing::info!(identity, "an enrolment token was made");
        Ok(CreateEnrolmentTokenResponse {
            token,
            identity,
            expire_time: Some(wire_time::timestamp(expire_time)),
        })
    }

    async fn issue(
        &self,
        peer: &Peer,
        request: &IssueCertificateRequest,
    ) -> Result<IssueCertificateResponse, Error> {
        let enrolment = self.enrolment()?;
        let der = &request.certificate_request;
        if der.is_empty() || der.len() > REQUEST_BYTES {
            let problem = "is required, and at most 8 KiB";
            return Err(Error::invalid_field("certificate_request", problem));
        }
        let asked = authority::Request::read(der).map_err(|error| refusal(&error))?;
        let lifetime =
            time::Duration::try_from(enrolment.lifetime).map_err(|_| Error::internal())?;
        let (identity, certificate) = if request.token.is_empty() {
            let identity = own(peer)?;
            let signed = enrolment.authority.sign(&asked, &identity, lifetime);
            (identity, signed.map_err(|error| refusal(&error))?)
        } else {
            self.by_token(&request.token, &asked, enrolment, lifetime)
                .await?
        };
        let shown = if request.token.is_empty() {
            peer.serial.as_deref()
        } else {
            None
        };
        self.remember(&identity, &certificate, shown).await?;
        tracing::info!(%identity, "a certificate was issued");
        Ok(IssueCertificateResponse {
            certificate,
            expire_time: Some(wire_time::timestamp(SystemTime::now() + enrolment.lifetime)),
        })
    }

    // What was issued can be revoked; with what was revoked nothing is issued.
    async fn remember(
        &self,
        identity: &Identity,
        certificate: &str,
        shown: Option<&str>,
    ) -> Result<(), Error> {
        let issued = Certificate::of_pem(certificate).map_err(|error| {
            tracing::error!(%error, "a certificate that was just made");
            Error::internal()
        })?;
        let mut client = self
            .store
            .client()
            .await
            .map_err(|error| engine::store(&error))?;
        let (serial, end) = (&issued.serial, issued.not_after);
        let is_good = certificates::issue(&mut client, serial, &identity.to_string(), shown, end)
            .await
            .map_err(|error| engine::store(&error))?;
        if is_good {
            return Ok(());
        }
        Err(Error::new(
            ErrorReason::Unauthenticated,
            "the certificate was revoked: the agent needs a new one (`agentic enrol`)",
        ))
    }

    async fn revoke(
        &self,
        peer: &Peer,
        request: RevokeCertificatesRequest,
    ) -> Result<RevokeCertificatesResponse, Error> {
        by_a_person(peer, "revoke certificates")?;
        let mut client = self
            .store
            .client()
            .await
            .map_err(|error| engine::store(&error))?;
        let (identity, serials) = match request.which {
            Some(Which::Identity(text)) => {
                let identity = text
                    .parse::<Identity>()
                    .map_err(|error| Error::invalid_field("identity", error.to_string()))?
                    .to_string();
                let revoked = certificates::revoke_all(&mut client, &identity).await;
                (identity, revoked)
            }
            Some(Which::Certificate(pem)) => {
                let (identity, found) = of_an_agent(&pem)?;
                let (serial, end) = (&found.serial, found.not_after);
                let revoked = certificates::revoke(&mut client, serial, &identity, end).await;
                (identity, revoked)
            }
            None => return Err(Error::invalid_field("which", "is required")),
        };
        let serials = serials.map_err(|error| engine::store(&error))?;
        if serials.is_empty() {
            return Err(Error::new(
                ErrorReason::AgentNotFound,
                format!(
                    "no certificate was issued for {identity}; one that was made elsewhere is revoked by its file"
                ),
            ));
        }
        self.revoked.add(serials.iter().cloned());
        tracing::info!(identity, count = serials.len(), "certificates were revoked");
        Ok(RevokeCertificatesResponse { serials, identity })
    }

    async fn by_token(
        &self,
        token: &str,
        asked: &authority::Request,
        enrolment: &Enrolment,
        lifetime: time::Duration,
    ) -> Result<(Identity, String), Error> {
        if token.len() > TOKEN_BYTES {
            return Err(unknown());
        }
        let token_digest = sha256(token.as_bytes());
        let key_digest = sha256(&asked.public_key());
        let client = self
            .store
            .client()
            .await
            .map_err(|error| engine::store(&error))?;
        let found = tokens::find(&client, &token_digest)
            .await
            .map_err(|error| engine::store(&error))?
            .ok_or_else(unknown)?;
        let identity: Identity = found.identity.parse().map_err(|error| {
            tracing::error!(%error, "an enrolment token in the database");
            Error::internal()
        })?;
        // Before the token is used up: a request that is refused costs none.
        let certificate = enrolment
            .authority
            .sign(asked, &identity, lifetime)
            .map_err(|error| refusal(&error))?;
        let claimed = tokens::claim(&client, &token_digest, &key_digest)
            .await
            .map_err(|error| engine::store(&error))?;
        if claimed {
            return Ok((identity, certificate));
        }
        let why = if found.expired {
            "the enrolment token has expired"
        } else {
            "the enrolment token was used already, for another key"
        };
        Err(Error::new(
            ErrorReason::Unauthenticated,
            format!("{why}: an administrator makes a new one with `agentic enrol`"),
        ))
    }
}

fn by_a_person(peer: &Peer, what: &str) -> Result<(), Error> {
    match &peer.identity {
        None => Ok(()),
        Some(identity) => Err(Error::new(
            ErrorReason::PermissionDenied,
            format!("{identity} must not {what}: a person does"),
        )),
    }
}

fn of_an_agent(pem: &str) -> Result<(String, Certificate), Error> {
    let wrong = |problem: String| Error::invalid_field("certificate", problem);
    if pem.len() > CERTIFICATE_BYTES {
        return Err(wrong("is longer than 8 KiB".to_owned()));
    }
    let found = Certificate::of_pem(pem).map_err(|error| wrong(error.to_string()))?;
    match &found.identity {
        Some(identity @ Identity::Agent { .. }) => Ok((identity.to_string(), found)),
        Some(Identity::Orchestrator) | None => Err(wrong("is not that of an agent".to_owned())),
    }
}

// Whoever has a certificate may have another one for the same name.
fn own(peer: &Peer) -> Result<Identity, Error> {
    match &peer.identity {
        Some(identity @ Identity::Agent { .. }) => Ok(identity.clone()),
        Some(Identity::Orchestrator) | None => Err(Error::new(
            ErrorReason::Unauthenticated,
            "a certificate is issued for an enrolment token, or for the certificate that an agent shows",
        )),
    }
}

fn unknown() -> Error {
    Error::new(
        ErrorReason::Unauthenticated,
        "there is no such enrolment token: an administrator makes one with `agentic enrol`",
    )
}

fn refusal(error: &AuthorityError) -> Error {
    match error {
        AuthorityError::Request(_) => {
            Error::invalid_field("certificate_request", error.to_string())
        }
        AuthorityError::NotAllowed { .. } => {
            Error::new(ErrorReason::PermissionDenied, error.to_string())
        }
        AuthorityError::Own(_) | AuthorityError::Certificate(_) => {
            tracing::error!(%error, "the authority cannot sign");
            Error::internal()
        }
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[async_trait]
impl Service for EnrolmentService {
    async fn create_enrolment_token(
        &self,
        request: Request<CreateEnrolmentTokenRequest>,
    ) -> Result<Response<CreateEnrolmentTokenResponse>, Status> {
        let peer = Peer::of(request.extensions());
        Ok(Response::new(self.create(&peer, request.get_ref()).await?))
    }

    async fn issue_certificate(
        &self,
        request: Request<IssueCertificateRequest>,
    ) -> Result<Response<IssueCertificateResponse>, Status> {
        let peer = Peer::of(request.extensions());
        Ok(Response::new(self.issue(&peer, request.get_ref()).await?))
    }

    async fn revoke_certificates(
        &self,
        request: Request<RevokeCertificatesRequest>,
    ) -> Result<Response<RevokeCertificatesResponse>, Status> {
        let peer = Peer::of(request.extensions());
        Ok(Response::new(
            self.revoke(&peer, request.into_inner()).await?,
        ))
    }
}
