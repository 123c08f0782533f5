//! The layer itself: asks before a call is passed on, and has it written down when it was answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;

use contracts::MESSAGE_BYTES;
use contracts::error::{Error, short_name};
use contracts::orchestrator::AuditEntry;

use super::audit::{self, Subject};
use super::body::{Held, Seen, Tapped};
use super::{Access, Admission, Call};

// A refused caller's message is read for the record, and no longer waited for.
const REFUSED_BODY: std::time::Duration = std::time::Duration::from_secs(1);

/// Puts [`Access`] in front of services.
#[derive(Debug, Clone)]
pub struct AccessLayer(Arc<Access>);

impl AccessLayer {
    /// Decides by this.
    pub fn new(access: Access) -> Self {
        Self(Arc::new(access))
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded {
            access: self.0.clone(),
            inner,
        }
    }
}

/// Services behind [`Access`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone is for the next call; the one that is ready takes this one.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let access = self.access.clone();
        Box::pin(async move { Ok(pass(access, inner, request).await) })
    }
}

async fn pass<S>(access: Arc<Access>, mut inner: S, mut request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let call = Call::of(&request);
    let Admission {
        identity,
        entry,
        room,
        until,
    } = match access.admit(&call, request.headers()).await {
        Ok(admission) => admission,
        Err(refusal) => {
            if let Some(entry) = refusal.entry {
                refused(&access, &call, entry, &refusal.error, request).await;
            }
            return Status::from(refusal.error).into_http();
        }
    };
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    let answer = match entry {
        None => answer(inner.call(request).await),
        Some(entry) => {
            // A caller who hangs up must not keep what was done off the record.
            let recorded = recorded(access.clone(), inner, request, call, entry);
            let task = access.tracker.spawn(recorded.in_current_span());
            task.await
                .unwrap_or_else(|_| Status::from(Error::internal()).into_http())
        }
    };
    answer.map(|body| Body::new(Held::new(body, room, until)))
}

fn answer(answer: Result<Response<Body>, Infallible>) -> Response<Body> {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

// Carries a call out, and answers when it is on record.
async fn recorded<S>(
    access: Arc<Access>,
    mut inner: S,
    request: Request<Body>,
    call: Call,
    mut entry: AuditEntry,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let seen = Seen::default();
    let request = if audit::is_unary(&call.path) {
        request.map(|body| Body::new(Tapped::new(body, seen.clone())))
    } else {
        request
    };
    let response = answer(inner.call(request).await);
    if let Some(message) = seen.message() {
        audit::describe(&mut entry, &call.path, &message);
    }
    if let Some(Subject(subject)) = response.extensions().get::<Subject>() {
        entry.subject.clone_from(subject);
    }
    let failed = Status::from_header_map(response.headers()).filter(|it| it.code() != Code::Ok);
    match &failed {
        None => outcome(&mut entry, Code::Ok, None),
        Some(status) => outcome(
            &mut entry,
            status.code(),
            Error::from_status(status).as_ref(),
        ),
    }
    match access.audit.record(entry).await {
        Err(error) if failed.is_none() => Status::from(error).into_http(),
        // It is said that it failed anyway; the log says why it is not on record.
        Err(_) | Ok(()) => response,
    }
}

async fn refused(
    access: &Access,
    call: &Call,
    mut entry: AuditEntry,
    error: &Error,
    request: Request<Body>,
) {
    // Who is nobody is not listened to.
    if !entry.actor.is_empty() && audit::is_unary(&call.path) {
        let seen = Seen::default();
        let body = Tapped::new(request.into_body(), seen.clone());
        let reading = Limited::new(body, MESSAGE_BYTES + 5).collect();
        let _ = tokio::time::timeout(REFUSED_BODY, reading).await;
        if let Some(message) = seen.message() {
            audit::describe(&mut entry, &call.path, &message);
        }
    }
    outcome(&mut entry, error.code(), Some(error));
    // It is refused all the same; the log says why it is not on record.
    let _ = access.audit.record(entry).await;
}

fn outcome(entry: &mut AuditEntry, code: Code, error: Option<&Error>) {
    name(code).clone_into(&mut entry.outcome);
    entry.reason = error.map_or_else(String::new, |error| short_name(error.reason).to_owned());
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
