//! Who may call a server at all, by the certificate of the connection. What people may do is not
//! its business.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use tower::{Layer, Service};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use tonic::Status;
use tonic::body::Body;

use crate::tls::{Identity, Peer};

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Whose calls a server takes over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anyone's; services show a certificate, people need not.
    Anyone,
    /// Only the orchestrator's. The process itself may ask whether it is well.
    Orchestrator,
}

/// Refuses the calls of others.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    callers: Callers,
    own: Option<Identity>,
}

impl AdmissionLayer {
    /// `own`: who the process is.
    pub fn new(callers: Callers, own: Option<Identity>) -> Self {
        Self { callers, own }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission {
            inner,
            rule: self.clone(),
        }
    }
}

/// A service that takes only some calls.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    rule: AdmissionLayer,
}

impl<S, B> Service<http::Request<B>> for Admission<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        match self.rule.admits(peer, request.uri().path()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(error) => Either::Right(ready(Ok(Status::from(error).into_http()))),
        }
    }
}

impl AdmissionLayer {
    fn admits(&self, peer: Option<&Peer>, path: &str) -> Result<(), Error> {
        let Some(peer) = peer.filter(|peer| peer.secure) else {
            // Clear text is for this machine, or was asked for by name.
            return Ok(());
        };
        let asks_for_health = self.own.is_some() && peer.identity == self.own;
        if self.callers == Callers::Anyone
            || peer.identity == Some(Identity::Orchestrator)
            || (asks_for_health && path.starts_with(HEALTH))
        {
            return Ok(());
        }
        let caller = peer.identity.as_ref().map_or_else(
            || "names no service of the mesh".to_owned(),
            |identity| format!("is that of {identity}"),
        );
        Err(Error::new(
            ErrorReason::PermissionDenied,
            format!(
                "this agent takes calls of {} only, and the certificate shown {caller}",
                Identity::Orchestrator
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use contracts::task::AgentType;

    use super::*;

    #[test]
    fn an_agent_takes_calls_of_the_orchestrator_and_its_own_questions_for_health() {
        let own = Identity::agent(AgentType::E2e);
        let rule = AdmissionLayer::new(Callers::Orchestrator, Some(own.clone()));
        let admits = |secure, identity: Option<&Identity>, path| {
            let peer = Peer {
                secure,
                identity: identity.cloned(),
                ..Peer::default()
            };
            rule.admits(Some(&peer), path).is_ok()
        };
        let (work, health) = (
            "/agentic.e2e.v1.E2eService/Execute",
            "/grpc.health.v1.Health/Check",
        );
        let other = Identity::agent(AgentType::Scaffold);
        for (identity, path, expected) in [
            (Some(&Identity::Orchestrator), work, true),
            (Some(&Identity::Orchestrator), health, true),
            (Some(&own), work, false),
            (Some(&own), health, true),
            (Some(&other), work, false),
            (Some(&other), health, false),
            (None, work, false),
            (None, health, false),
        ] {
            assert_eq!(
                admits(true, identity, path),
                expected,
                "{identity:?} {path}"
            );
        }
        assert!(admits(false, None, work));
    }
}
