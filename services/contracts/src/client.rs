//! The one way to call a service of the mesh: keep-alive, deadline, trace context, credential,
//! and trying again when nobody answered, only then.

use std::future::Future;
use std::time::Duration;

use rand::Rng;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::error::Error;
use crate::error_reason::ErrorReason;
use crate::parse::is_slug;
use crate::{NAMESPACE_HEADER, trace};

/// A channel that adds trace context and credential to every call.
pub type ClientChannel = InterceptedService<Channel, Outbound>;

/// Deadline of a unary call that names none.
pub const UNARY_DEADLINE: Duration = Duration::from_secs(20);

/// Longest wait for a budget of calls to fill again.
const PATIENCE: Duration = Duration::from_secs(10);
// As tonic says it, with no cause.
const NO_STATUS: &str = "missing grpc-status trailer";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
// Below the 60 s after which common load balancers drop idle connections.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not a URL that gRPC can use.
    #[error("{address:?} is not an address such as http://127.0.0.1:50051")]
    Address {
        /// What was given.
        address: String,
        /// Cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// The namespace is no name.
    #[error(
        "{0:?} is not a namespace: a lower-case letter followed by at most 62 letters, digits or '-'"
    )]
    Namespace(String),
    /// The token has characters that cannot travel in a header.
    #[error("the token contains characters that cannot be sent")]
    Token,
}

/// Adds trace context and, where there are any, a bearer token and a namespace.
#[derive(Debug, Clone)]
pub struct Outbound {
    authorization: Option<MetadataValue<Ascii>>,
    namespace: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Outbound {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        trace::inject(request.metadata_mut());
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        if let Some(namespace) = &self.namespace {
            let metadata = request.metadata_mut();
            metadata.insert(NAMESPACE_HEADER, namespace.clone());
        }
        Ok(request)
    }
}

/// A channel that connects at its first call, and again whenever it must.
pub fn channel(address: &str, token: Option<&str>) -> Result<ClientChannel, ClientError> {
    channel_in(address, token, None)
}

/// The same, for calls about one namespace. `None`: the default one.
pub fn channel_in(
    address: &str,
    token: Option<&str>,
    namespace: Option<&str>,
) -> Result<ClientChannel, ClientError> {
    with_outbound(endpoint(address)?.connect_lazy(), token, namespace)
}

/// Where to connect, with keep-alive: for channels that bring a way of their own to do so.
pub fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
    Ok(Endpoint::from_shared(address.to_owned())
        .map_err(|source| ClientError::Address {
            address: address.to_owned(),
            source,
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Wraps a channel made elsewhere, such as an in-memory one.
pub fn with_outbound(
    channel: Channel,
    token: Option<&str>,
    namespace: Option<&str>,
) -> Result<ClientChannel, ClientError> {
    let authorization = token.map(bearer).transpose()?;
    let namespace = namespace
        .map(|name| {
            let value = name.parse().ok().filter(|_| is_slug(name));
            value.ok_or_else(|| ClientError::Namespace(name.to_owned()))
        })
        .transpose()?;
    let outbound = Outbound {
        authorization,
        namespace,
    };
    Ok(InterceptedService::new(channel, outbound))
}

/// A bearer token as it is sent; it is kept out of logs.
pub fn bearer(token: &str) -> Result<MetadataValue<Ascii>, ClientError> {
    let mut value =
        MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A unary request with its deadline, which the server is told.
pub fn request<M>(message: M, deadline: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// How a call is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all.
    pub attempts: u32,
    /// First delay; doubled each time, with full jitter.
    pub initial: Duration,
    /// Longest delay.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            initial: Duration::from_millis(100),
            longest: Duration::from_secs(2),
        }
    }
}

impl Retry {
    /// Delay before try number `attempt`, from 1.
    pub fn delay(&self, attempt: u32) -> Duration {
        let most = self
            .initial
            .saturating_mul(
                1_u32
                    .checked_shl(attempt.saturating_sub(1))
                    .unwrap_or(u32::MAX),
            )
            .min(self.longest);
        most.mul_f64(rand::rng().random::<f64>())
    }
}

/// Whether a status says that the connection or the process behind it went away, so that calling
/// again may help.
pub fn is_broken(status: &Status) -> bool {
    // A call that meets the end of its connection is told as one of the others: INTERNAL where a
    // server that stops says goodbye. The cause is the transport's then.
    let of_transport = matches!(
        status.code(),
        Code::Unknown | Code::Internal | Code::Cancelled
    ) && std::error::Error::source(status).is_some()
        && Error::from_status(status).is_none();
    // A proxy whose server went away ends the stream in order, and so without a word about the call.
    let cut = status.code() == Code::Unknown && status.message().contains(NO_STATUS);
    status.code() == Code::Unavailable || of_transport || cut
}

/// Calls until somebody answers, or the tries run out. Who calls too often
/// waits for as long as the server says, unless that is too long.
///
/// Only for calls that may be made twice: reads, and mutations with a `request_id`.
pub async fn retry<T, F>(policy: Retry, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Err(status) if is_broken(&status) && attempt < policy.attempts => {
                tokio::time::sleep(policy.delay(attempt)).await;
                attempt += 1;
            }
            Err(status) if attempt < policy.attempts => match told_to_wait(&status) {
                Some(delay) => {
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
                None => return Err(status),
            },
            answer => return answer,
        }
    }
}

// How long to wait before a call that was one too many is made again.
fn told_to_wait(status: &Status) -> Option<Duration> {
    if status.code() != Code::ResourceExhausted {
        return None;
    }
    let error = Error::from_status(status)?;
    error
        .retry_after
        .filter(|delay| error.reason == ErrorReason::RateLimited && *delay <= PATIENCE)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_what_nobody_answered_is_tried_again() {
        let quick = Retry {
            initial: Duration::from_millis(1),
            ..Retry::default()
        };
        let goodbye = || Status::from_error(Box::new(h2::Error::from(h2::Reason::NO_ERROR)));
        assert_eq!(goodbye().code(), Code::Internal);
        let said = |code| move || Status::new(code, "x");
        let cut = || {
            Status::unknown(format!(
                "protocol error: {NO_STATUS}, stream was terminated"
            ))
        };
        let answers: [(&dyn Fn() -> Status, u32); 6] = [
            (&said(Code::Unavailable), 5),
            (&goodbye, 5),
            (&cut, 5),
            (&said(Code::Unknown), 1),
            (&said(Code::Internal), 1),
            (&said(Code::Aborted), 1),
        ];
        for (answer, expected) in answers {
            let calls = Cell::new(0);
            let status = retry(quick, || {
                calls.set(calls.get() + 1);
                async move { Err::<(), _>(answer()) }
            })
            .await
            .unwrap_err();
            assert_eq!(calls.get(), expected, "{status:?}");
        }
    }

    #[tokio::test]
    async fn who_calls_too_often_waits_as_long_as_the_server_says() {
        for (delay, expected_calls) in [(Duration::from_millis(70), 2), (PATIENCE * 2, 1)] {
            let calls = Cell::new(0);
            let begun = tokio::time::Instant::now();
            let answer = retry(Retry::default(), || {
                calls.set(calls.get() + 1);
                let first = calls.get() == 1;
                async move {
                    let limited = Error::new(ErrorReason::RateLimited, "x").retry_after(delay);
                    if first { Err(limited.into()) } else { Ok(()) }
                }
            })
            .await;
            assert_eq!(calls.get(), expected_calls);
            assert_eq!(answer.is_ok(), expected_calls == 2);
            if answer.is_ok() {
                assert!(begun.elapsed() >= delay);
            }
        }
    }

    #[test]
    fn the_delay_is_bounded() {
        let retry = Retry::default();
        for attempt in 1..80 {
            assert!(retry.delay(attempt) <= retry.longest);
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_refused_or_kept_as_such() {
        let refused = channel("not a url", None).unwrap_err().to_string();
        assert!(refused.contains("http://127.0.0.1:50051"), "{refused}");
    }
}
