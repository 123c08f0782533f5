//! Whether a call that wants work done carries a lease that our orchestrator signed. The digest is of
//! the bytes that came, before anybody has read them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Extensions, Status};
use tower::Service;

use contracts::RESPONSE_BYTES;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::lease::{self, Digest, PUBLIC_KEY_BYTES};
use service_runtime::tls::Peer;

// Of the orchestrator that we are with, the one before it, which may still have work with us, and
// one more, for two of them may go in a row.
const KEYS: usize = 3;
// A welcome and the first work come on two connections: the work may be faster.
const WELCOME_WITHIN: Duration = Duration::from_secs(2);
// Flag and length, in front of every message of gRPC.
const PREFIX_BYTES: usize = 5;

/// The keys that leases are signed with.
#[derive(Debug, Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keys: Mutex<VecDeque<Vec<u8>>>,
    learned: Notify,
    // No key is no reason to take unsigned work.
    required: bool,
}

impl Leases {
    /// No key yet. `required`: without one no work is taken; otherwise only who has shown a key is
    /// held to it.
    pub fn new(required: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                keys: Mutex::default(),
                learned: Notify::new(),
                required,
            }),
        }
    }

    /// The orchestrator said which key it signs with.
    pub fn learn(&self, key: Vec<u8>) {
        if key.len() != PUBLIC_KEY_BYTES {
            if !key.is_empty() {
                tracing::warn!(length = key.len(), "the orchestrator's lease key is none");
            }
            return;
        }
        let mut keys = self.lock();
        keys.retain(|known| *known != key);
        keys.push_front(key);
        keys.truncate(KEYS);
        drop(keys);
        self.shared.learned.notify_waiters();
    }

    /// Refuses work that our orchestrator did not sign. A person on this machine may ask for work
    /// without a lease.
    pub async fn check(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        lease_epoch: i64,
    ) -> Result<(), Error> {
        let peer = extensions.get::<Peer>().cloned().unwrap_or_default();
        if lease_epoch == 0 && peer.is_local() && !peer.secure {
            return Ok(());
        }
        if self.is_open() {
            return Ok(());
        }
        let Some(call) = extensions.get::<Call>() else {
            tracing::error!("a call came past the layer that takes its digest");
            return Err(Error::internal());
        };
        let verified = async {
            loop {
                let learned = self.shared.learned.notified();
                tokio::pin!(learned);
                // Before the look, so that no key slips through in between.
                learned.as_mut().enable();
                if self.is_signed(call, metadata) {
                    return;
                }
                learned.await;
            }
        };
        // What carries no signature at all will not get one by waiting.
        let within = if metadata.contains_key(lease::SIGNATURE) {
            WELCOME_WITHIN
        } else {
            Duration::ZERO
        };
        tokio::time::timeout(within, verified).await.map_err(|_| {
            Error::new(
                ErrorReason::PermissionDenied,
                "the lease is not signed by the orchestrator that this agent is connected to, or was altered",
            )
        })
    }

    fn is_open(&self) -> bool {
        !self.shared.required && self.lock().is_empty()
    }

    fn is_signed(&self, call: &Call, metadata: &MetadataMap) -> bool {
        self.lock()
            .iter()
            .any(|key| lease::is_signed(key, &call.path, &call.digest, metadata))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.shared
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came, byte by byte.
#[derive(Debug, Clone)]
struct Call {
    path: String,
    digest: Digest,
}

/// A service whose calls of `Execute` carry the digest of their message.
#[derive(Debug, Clone)]
pub struct Signed<S> {
    inner: S,
}

impl<S> Signed<S> {
    /// Around the generated service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for Signed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Signed<S>
where
    S: Service<http::Request<Body>> + Clone + Send + 'static,
    S::Response: axum::response::IntoResponse,
    S::Future: Send + 'static,
{
    type Response = axum::response::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        use axum::response::IntoResponse;
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if !request.uri().path().ends_with("/Execute") {
                return ready.call(request).await.map(IntoResponse::into_response);
            }
            match digested(request).await {
                Ok(request) => ready.call(request).await.map(IntoResponse::into_response),
                Err(status) => Ok(status.into_http::<Body>().into_response()),
            }
        })
    }
}

async fn digested(request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let bytes = Limited::new(body, RESPONSE_BYTES + PREFIX_BYTES)
        .collect()
        .await
        .map_err(|error| {
            Status::resource_exhausted(format!("the request cannot be read: {error}"))
        })?
        .to_bytes();
    let message = bytes.get(PREFIX_BYTES..).unwrap_or_default();
    parts.extensions.insert(Call {
        path: parts.uri.path().to_owned(),
        digest: Digest::of(message),
    });
    let body = Body::new(Full::new(bytes));
    Ok(http::Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use contracts::lease::Signer;

    use super::*;

    const PATH: &str = "/agentic.e2e.v1.E2eService/Execute";

    fn arrived(peer: Peer, message: &[u8]) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(peer);
        extensions.insert(Call {
            path: PATH.to_owned(),
            digest: Digest::of(message),
        });
        extensions
    }

    fn remote() -> Peer {
        Peer {
            address: Some("10.0.0.1:9".parse().unwrap()),
            secure: true,
            ..Peer::default()
        }
    }

    fn local() -> Peer {
        Peer {
            address: Some("127.0.0.1:9".parse().unwrap()),
            ..Peer::default()
        }
    }

    #[tokio::test]
    async fn work_that_was_not_signed_or_was_altered_is_refused() {
        let signer = Signer::generate().unwrap();
        let leases = Leases::new(true);
        leases.learn(signer.public_key());
        let mut good = MetadataMap::new();
        signer.sign(PATH, b"task", &mut good);
        let check = |metadata: MetadataMap, peer: Peer, message: &'static [u8], epoch: i64| {
            let leases = leases.clone();
            async move {
                leases
                    .check(&metadata, &arrived(peer, message), epoch)
                    .await
            }
        };
        check(good.clone(), remote(), b"task", 1).await.unwrap();
        check(good.clone(), local(), b"task", 1).await.unwrap();
        for (metadata, peer, message, epoch) in [
            (good.clone(), remote(), &b"tusk"[..], 1),
            (MetadataMap::new(), remote(), b"task", 1),
            (MetadataMap::new(), remote(), b"task", 0),
            (MetadataMap::new(), local(), b"task", 1),
        ] {
            let refused = check(metadata, peer, message, epoch).await.unwrap_err();
            assert_eq!(refused.reason, ErrorReason::PermissionDenied);
        }
        // A person on this machine, without a lease.
        check(MetadataMap::new(), local(), b"task", 0)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn work_that_is_faster_than_the_welcome_waits_for_it() {
        let signer = Signer::generate().unwrap();
        let leases = Leases::new(true);
        let mut good = MetadataMap::new();
        signer.sign(PATH, b"task", &mut good);
        let arrived = arrived(remote(), b"task");
        let (checked, ()) = tokio::join!(leases.check(&good, &arrived, 1), async {
            tokio::task::yield_now().await;
            leases.learn(signer.public_key());
        });
        checked.unwrap();
    }

    #[tokio::test]
    async fn without_a_key_nothing_is_taken_where_one_is_required() {
        let arrived = arrived(remote(), b"task");
        let metadata = MetadataMap::new();
        assert!(
            Leases::new(true)
                .check(&metadata, &arrived, 1)
                .await
                .is_err()
        );
        assert!(
            Leases::new(false)
                .check(&metadata, &arrived, 1)
                .await
                .is_ok()
        );
    }

    #[test]
    fn the_keys_of_the_newest_orchestrators_are_kept() {
        let leases = Leases::new(true);
        for number in 0..10_u8 {
            leases.learn(vec![number; PUBLIC_KEY_BYTES]);
        }
        leases.learn(vec![8; PUBLIC_KEY_BYTES]);
        leases.learn(b"short".to_vec());
        let kept: Vec<_> = leases.lock().iter().map(|key| key[0]).collect();
        assert_eq!(kept, [8, 9, 7]);
    }
}
