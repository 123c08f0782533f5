//! How an agent comes to its certificate, and keeps having one: a key made here, which never leaves,
//! signed by the orchestrator for a token once, and then for the certificate that it replaces.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use contracts::client::{self, ClientError, Retry, is_broken};
use contracts::orchestrator::IssueCertificateRequest;
use contracts::orchestrator::enrolment_service_client::EnrolmentServiceClient;
use service_runtime::config::ConfigError;
use service_runtime::redaction;
use service_runtime::tls::authority::{self, AuthorityError};
use service_runtime::tls::identity::IdentityError;
use service_runtime::tls::{Expected, Files, Identity, Tls, TlsError};

use crate::serve::AgentArgs;

const FILE: &str = "identity.pem";
const AGAIN: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(500),
    longest: Duration::from_secs(15),
};

/// Why an agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The token's file.
    #[error("--enrolment-token-file {file}: {problem}")]
    Token {
        /// Which one.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The token is for something else.
    #[error("the enrolment token is not for an agent of this mesh")]
    Identity(#[source] IdentityError),
    /// The token is for another type of agent.
    #[error(transparent)]
    Type(ConfigError),
    /// No key.
    #[error("a key and a certificate request could not be made")]
    Request(#[from] AuthorityError),
    /// The orchestrator's address.
    #[error("orchestrator address")]
    Address(#[from] ClientError),
    /// The orchestrator said no.
    #[error("the orchestrator issues no certificate: {}", .0.message())]
    Refused(Box<Status>),
    /// The certificate cannot be kept.
    #[error("the certificate cannot be kept in {file}")]
    Keep {
        /// Where.
        file: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("the certificate that was issued cannot be used: {0}")]
    Use(#[from] TlsError),
}

/// How an agent enrols.
#[derive(Debug, Clone)]
pub struct Enrolment {
    token_file: PathBuf,
    orchestrator_url: String,
    // Key and certificate in one file, so that they change in one moment.
    file: PathBuf,
    authorities: PathBuf,
}

impl Enrolment {
    /// Checks the settings. `None`: the agent does not enrol.
    pub(crate) fn new(args: &AgentArgs, data: &Path) -> Result<Option<Self>, ConfigError> {
        let Some(token_file) = args.enrolment_token_file.clone() else {
            return Ok(None);
        };
        let setting = "--enrolment-token-file";
        if args.tls.tls_cert.is_some() || args.tls.tls_key.is_some() {
            let problem = "is for agents without --tls-cert and --tls-key";
            return Err(ConfigError::invalid(setting, problem));
        }
        let (Some(authorities), Some(orchestrator_url)) =
            (args.tls.tls_ca.clone(), args.orchestrator_url.clone())
        else {
            let problem = "needs --tls-ca and --orchestrator-url";
            return Err(ConfigError::invalid(setting, problem));
        };
        Ok(Some(Self {
            token_file,
            orchestrator_url,
            file: data.join(FILE),
            authorities,
        }))
    }

    /// What the agent has from an earlier life; none where that cannot be used any more.
    pub(crate) fn current(&self) -> Tls {
        Tls::read(self.files()).unwrap_or_default()
    }

    fn files(&self) -> Files {
        Files {
            own: Some((self.file.clone(), self.file.clone())),
            authorities: Some(self.authorities.clone()),
        }
    }

    /// The certificate from an earlier life, or a new one for the token. Waits for an orchestrator
    /// that is away; `None`: the process was to stop before there was one.
    pub(crate) async fn enrol(
        &self,
        shutdown: &CancellationToken,
    ) -> Result<Option<Tls>, EnrolmentError> {
        let current = self.current();
        if current.can_serve() {
            return Ok(Some(current));
        }
        let token = self.token()?;
        let identity = identity(&token)?;
        let asker = Tls::read(Files {
            own: None,
            authorities: Some(self.authorities.clone()),
        })?;
        // One key for all tries: asking again with it costs no second token.
        let (key, request) = authority::request(&identity)?;
        let mut attempt = 0;
        loop {
            let request = IssueCertificateRequest {
                certificate_request: request.clone(),
                token: token.clone(),
            };
            match self.issue(&asker, request).await? {
                Ok(certificate) => {
                    self.keep(&certificate, &key)?;
                    tracing::info!(%identity, "enrolled");
                    return Ok(Some(Tls::read(self.files())?));
                }
                Err(status) if !is_broken(&status) => {
                    return Err(EnrolmentError::Refused(Box::new(status)));
                }
                Err(status) => {
                    attempt += 1;
                    tracing::warn!(message = status.message(), "cannot enrol yet");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(AGAIN.delay(attempt)) => {}
            }
        }
    }

    /// Renews the certificate when two thirds of its time are over, until the token is cancelled.
    pub(crate) async fn renew(self, tls: Tls, shutdown: CancellationToken) {
        let renewals = renewals();
        let mut failures = 0;
        loop {
            let pause = if failures == 0 {
                left(&tls) * 2 / 3
            } else {
                AGAIN.delay(failures)
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.renew_once(&tls).await {
                Ok(()) => {
                    failures = 0;
                    renewals.add(1, &[KeyValue::new("outcome", "renewed")]);
                    tracing::info!(left = ?left(&tls), "certificate renewed");
                }
                Err(error) => {
                    failures += 1;
                    renewals.add(1, &[KeyValue::new("outcome", "failed")]);
                    tracing::error!(%error, left = ?left(&tls), "certificate not renewed");
                }
            }
        }
    }

    async fn renew_once(&self, tls: &Tls) -> Result<(), EnrolmentError> {
        let Some(identity) = tls.identity() else {
            return Ok(());
        };
        let (key, certificate_request) = authority::request(&identity)?;
        let request = IssueCertificateRequest {
            certificate_request,
            token: String::new(),
        };
        let issued = self.issue(tls, request).await?;
        let certificate = issued.map_err(|status| EnrolmentError::Refused(Box::new(status)))?;
        self.keep(&certificate, &key)?;
        Ok(tls.reload()?)
    }

    async fn issue(
        &self,
        tls: &Tls,
        request: IssueCertificateRequest,
    ) -> Result<Result<String, Status>, EnrolmentError> {
        let channel = tls.channel(&self.orchestrator_url, None, Expected::Orchestrator)?;
        let request = client::request(request, client::UNARY_DEADLINE);
        let answer = EnrolmentServiceClient::new(channel)
            .issue_certificate(request)
            .await;
        Ok(answer.map(|answer| answer.into_inner().certificate))
    }

    fn token(&self) -> Result<String, EnrolmentError> {
        let wrong = |problem: String| EnrolmentError::Token {
            file: self.token_file.clone(),
            problem,
        };
        let text =
            std::fs::read_to_string(&self.token_file).map_err(|error| wrong(error.to_string()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        redaction::process().register("--enrolment-token-file", token);
        Ok(token.to_owned())
    }

    fn keep(&self, certificate: &str, key: &str) -> Result<(), EnrolmentError> {
        let new = self.file.with_extension("new");
        let kept = || -> std::io::Result<()> {
            if let Some(folder) = self.file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(certificate.as_bytes())?;
            file.write_all(key.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.file)
        };
        kept().map_err(|source| EnrolmentError::Keep {
            file: self.file.clone(),
            source,
        })
    }
}

// The token says what it is for, before the colon: `e2e` or `e2e/one`.
fn identity(token: &str) -> Result<Identity, EnrolmentError> {
    let (kind, _) = token.split_once(':').unwrap_or_default();
    format!("spiffe://agentic/agent/{kind}")
        .parse()
        .map_err(EnrolmentError::Identity)
}

fn left(tls: &Tls) -> Duration {
    tls.not_after()
        .and_then(|end| end.duration_since(SystemTime::now()).ok())
        .unwrap_or_default()
}

fn renewals() -> Counter<u64> {
    global::meter("agentic")
        .u64_counter("agentic.enrolment.renewals")
        .with_description("Times that the certificate was renewed, or could not be")
        .build()
}
