//! Who may call what, how often, and what is written down about it: one layer in front of every gRPC
//! service. Knows methods by their names, and nothing of what they do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::AuditEntry;
use contracts::trace;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use service_runtime::tls::{self, Peer, Revoked};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::Span;

pub mod audit;
mod body;
pub mod config;
pub mod identity;
mod layer;
pub mod limit;
pub mod method;
pub mod oidc;
pub mod role;
pub mod secret;
mod tokens;

pub use layer::AccessLayer;
pub use tokens::Tokens;

use audit::Audit;
use identity::Identity;
use limit::{Limiter, Room, Underway, too_many};
use method::{Callers, Class, Method};
use oidc::Oidc;
use secret::SecretHash;

// How soon a stream ends after its caller's credential did.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Where nobody need say who calls, everybody is this one.
const ANYBODY: &str = "anybody";

/// What must be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Nothing: who shows no credential is nobody in particular, and may do everything.
    Open,
    /// A valid credential, whose role allows the call.
    #[default]
    Restricted,
}

/// Everything that decides about a call.
#[derive(Debug)]
pub struct Access {
    /// What must be shown.
    pub mode: Mode,
    /// Who has which token.
    pub tokens: Tokens,
    /// Who is who elsewhere.
    pub oidc: Option<Oidc>,
    /// How often somebody may call.
    pub limiter: Arc<dyn Limiter>,
    /// What is under way.
    pub underway: Underway,
    /// What was done.
    pub audit: Audit,
    /// Certificates that are refused.
    pub revoked: Revoked,
    /// Calls that go on though their callers hung up.
    pub tracker: TaskTracker,
}

// What of a call decides about it.
#[derive(Debug)]
struct Call {
    path: String,
    method: Option<&'static Method>,
    address: Option<IpAddr>,
    // The agent whose certificate the connection was opened with.
    agent: Option<tls::Identity>,
    // Serial number of that certificate.
    serial: Option<String>,
}

impl Call {
    fn of<B>(request: &http::Request<B>) -> Self {
        let path = request.uri().path();
        let peer = Peer::of(request.extensions());
        Self {
            method: method::of_path(path),
            path: path.trim_start_matches('/').to_owned(),
            address: peer.address.map(|address| address.ip()),
            serial: peer.serial,
            agent: peer
                .identity
                .filter(|identity| matches!(identity, tls::Identity::Agent { .. })),
        }
    }

    // What is in no table costs as much as a read.
    fn class(&self) -> Class {
        self.method.map_or(Class::Read, |method| method.class)
    }

    fn is_audited(&self) -> bool {
        self.method.is_some_and(|method| method.is_audited)
    }

    fn address(&self) -> String {
        self.address.map_or_else(String::new, |ip| ip.to_string())
    }

    fn entry(&self, headers: &HeaderMap, identity: Option<&Identity>) -> AuditEntry {
        AuditEntry {
            actor: identity.map_or_else(String::new, |known| known.name.clone()),
            credential: identity.map_or_else(String::new, |known| known.credential.to_string()),
            address: self.address(),
            method: audit::text(&self.path),
            namespace: audit::text(identity::namespace(headers)),
            trace_id: trace::trace_id(&trace::traceparent(&Span::current())).to_owned(),
            ..audit::entry()
        }
    }
}

// A call that is let in.
struct Admission {
    identity: Option<Arc<Identity>>,
    // What is to be written down about it.
    entry: Option<AuditEntry>,
    room: Room,
    // When its stream must end, and how.
    until: Option<BoxFuture<'static, Status>>,
}

// A call that is not.
struct Refusal {
    error: Error,
    entry: Option<AuditEntry>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, entry: None }
    }
}

impl Access {
    async fn admit(
        self: &Arc<Self>,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<Admission, Refusal> {
        let known = match self.identify(call, headers).await {
            Ok(known) => known,
            Err(error) if error.reason == ErrorReason::Unauthenticated => {
                let entry = call.is_audited().then(|| call.entry(headers, None));
                return Err(self.refuse(&call.address(), error, entry).await);
            }
            Err(error) => return Err(error.into()),
        };
        let Some((identity, hash)) = known else {
            return Ok(Admission {
                identity: None,
                entry: None,
                room: self.underway.enter(ANYBODY, call.class())?,
                until: None,
            });
        };
        let who = identity.credential.to_string();
        // Agents are the mesh's own; what is under way is bounded all the same.
        if !identity.is_agent()
            && let Some(wait) = self.limiter.take(&who, call.class()).await
        {
            let message = format!("{} calls too often; wait {wait:?}", identity.name);
            return Err(too_many(message, wait).into());
        }
        let room = self.underway.enter(&who, call.class())?;
        if let Err(error) = permit(&identity, call, headers) {
            let entry = call.entry(headers, Some(&identity));
            return Err(self.refuse(&who, error, Some(entry)).await);
        }
        let is_stream = matches!(call.class(), Class::Watch | Class::Session);
        Ok(Admission {
            entry: (call.is_audited() && !identity.is_agent())
                .then(|| call.entry(headers, Some(&identity))),
            until: is_stream.then(|| {
                let serial = call.serial.clone();
                self.clone().void(identity.clone(), hash, serial).boxed()
            }),
            identity: Some(identity),
            room,
        })
    }

    // Refusals have a budget, too: neither guessing nor the log of it must be free.
    async fn refuse(&self, who: &str, error: Error, entry: Option<AuditEntry>) -> Refusal {
        match self.limiter.take(who, Class::Refused).await {
            None => Refusal { error, entry },
            Some(wait) => {
                let message = format!("refused too often; wait {wait:?}. The last time: {error}");
                too_many(message, wait).into()
            }
        }
    }

    // Who calls. `Ok(None)`: nobody says who, and nobody need.
    async fn identify(
        &self,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<Option<(Arc<Identity>, Option<SecretHash>)>, Error> {
        self.check_certificate(call.serial.as_deref())?;
        let is_open_to_all = call
            .method
            .is_some_and(|method| method.callers == Callers::Everybody);
        let Some(bearer) = identity::bearer(headers)? else {
            if let Some(agent) = &call.agent {
                return Ok(Some((Arc::new(Identity::of_agent(agent)), None)));
            }
            if self.mode == Mode::Open || is_open_to_all {
                return Ok(None);
            }
            return Err(unauthenticated(
                "no credential: send `authorization: Bearer <token>`",
            ));
        };
        let hash = secret::looks_like_ours(bearer).then(|| secret::hash(bearer));
        let found = match (hash, &self.oidc) {
            (Some(hash), _) => self.tokens.find(hash).await?,
            (None, Some(oidc)) => Some(Arc::new(oidc.identify(bearer).await?)),
            (None, None) => None,
        };
        let identity =
            found.ok_or_else(|| unauthenticated("the token is not known, or was ended"))?;
        if identity.has_run_out(SystemTime::now()) {
            return Err(unauthenticated("the token has run out"));
        }
        Ok(Some((identity, hash)))
    }

    // One that was good when the connection was opened may have been revoked since.
    fn check_certificate(&self, serial: Option<&str>) -> Result<(), Error> {
        match serial {
            Some(serial) if self.revoked.contains(serial) => Err(unauthenticated(
                "the certificate was revoked: the agent needs a new one (`agentic enrol`)",
            )),
            Some(_) | None => Ok(()),
        }
    }

    // Waits until a credential is no longer good.
    async fn void(
        self: Arc<Self>,
        mut identity: Arc<Identity>,
        hash: Option<SecretHash>,
        serial: Option<String>,
    ) -> Status {
        loop {
            let now = SystemTime::now();
            if identity.has_run_out(now) {
                return unauthenticated("the token has run out").into();
            }
            let left = identity
                .expire_time
                .and_then(|expire| expire.duration_since(now).ok())
                .unwrap_or(LOOK_AGAIN);
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            if let Err(error) = self.check_certificate(serial.as_deref()) {
                return error.into();
            }
            // While the store does not answer, what was good stays good.
            if let Some(hash) = hash {
                match self.tokens.find(hash).await {
                    Ok(None) => return unauthenticated("the token was ended").into(),
                    Ok(Some(now)) => identity = now,
                    Err(_) => {}
                }
            }
        }
    }
}

// Whether somebody may make a call: by role, then by namespace.
fn permit(identity: &Identity, call: &Call, headers: &HeaderMap) -> Result<(), Error> {
    let denied = |message: String| Error::new(ErrorReason::PermissionDenied, message);
    let path = &call.path;
    // What is not in the table is nobody's: it may be new and forgotten.
    let Some(method) = call.method else {
        return Err(denied(format!(
            "nobody may call {path}; it may not exist here"
        )));
    };
    let is_allowed = match method.callers {
        Callers::Everybody => true,
        Callers::Anybody => !identity.roles.is_empty(),
        Callers::Roles(roles) => identity.roles.meet(roles),
    };
    if !is_allowed {
        return Err(denied(format!(
            "{} may not call {path}: it is {}, and it takes {}",
            identity.name, identity.roles, method.callers
        )));
    }
    let namespace = identity::namespace(headers);
    if !identity.namespaces.contain(namespace) {
        return Err(denied(format!(
            "{} may not use the namespace {namespace:?}",
            identity.name
        )));
    }
    Ok(())
}

fn unauthenticated(message: &str) -> Error {
    Error::new(ErrorReason::Unauthenticated, message)
}
