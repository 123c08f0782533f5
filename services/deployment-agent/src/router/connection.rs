//! Connections to one backend: made when needed, kept while idle, never more than a bound. Knows
//! nothing about which backend to take.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{body::RequestBody, executor::Runner};

/// Idle connections older than this are not used again: app servers commonly close theirs after
/// 5 s (Node's default), and a connection closed under a request costs a retry.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// A loopback connection is made in microseconds; an address that takes longer is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Idle connections of one backend and the room for more.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<(Instant, Http1)>>,
    shared: Mutex<Option<http2::SendRequest<RequestBody>>>,
    room: Arc<Semaphore>,
}

/// One HTTP/1.1 connection; carries one request at a time.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    /// An earlier request went over it, so the backend may be closing it right now.
    pub(super) reused: bool,
    _room: OwnedSemaphorePermit,
}

/// Why there is no connection. The request was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot connect to {address}")]
    Refused {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no connection to {address} within {} s", CONNECT_LIMIT.as_secs())]
    TimedOut { address: SocketAddr },
    #[error("handshake with {address} failed")]
    Handshake {
        address: SocketAddr,
        source: hyper::Error,
    },
    #[error("every connection to {address} is in use")]
    Full { address: SocketAddr },
}

impl Pool {
    pub(super) fn new(connection_limit: usize) -> Self {
        Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            room: Arc::new(Semaphore::new(connection_limit)),
        }
    }

    /// A connection for one request; an idle one only if `may_reuse`.
    pub(super) async fn http1(
        &self,
        address: SocketAddr,
        may_reuse: bool,
        runner: &Runner,
        wait: Duration,
    ) -> Result<Http1, ConnectError> {
        if may_reuse && let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                // Idle connections hold room too; one that cannot be reused makes way.
                drop(self.take_idle());
                tokio::time::timeout(wait, Arc::clone(&self.room).acquire_owned())
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .ok_or(ConnectError::Full { address })?
            }
        };
        let stream = connect(address).await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Handshake { address, source })?;
        runner.run(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%address, %error, "connection to a backend ended badly");
            }
        });
        Ok(Http1 {
            sender,
            reused: false,
            _room: room,
        })
    }

    /// The one HTTP/2 connection of the backend, which all gRPC calls share.
    pub(super) async fn http2(
        &self,
        address: SocketAddr,
        runner: &Runner,
    ) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let open = lock(&self.shared)
            .clone()
            .filter(|sender| !sender.is_closed());
        if let Some(sender) = open {
            return Ok(sender);
        }
        let stream = connect(address).await?;
        let (sender, connection) = http2::Builder::new(runner.clone())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Handshake { address, source })?;
        runner.run(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection to a backend ended badly");
            }
        });
        *lock(&self.shared) = Some(sender.clone());
        Ok(sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn give_back(&self, mut connection: Http1) {
        if !connection.sender.is_closed() {
            connection.reused = true;
            lock(&self.idle).push((Instant::now(), connection));
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.idle).clear();
        lock(&self.shared).take();
    }

    fn take_idle(&self) -> Option<Http1> {
        let mut idle = lock(&self.idle);
        idle.retain(|(since, connection)| {
            since.elapsed() < IDLE_LIMIT && !connection.sender.is_closed()
        });
        let ready = idle.iter_mut().rposition(|(_, connection)| {
            matches!(connection.sender.ready().now_or_never(), Some(Ok(())))
        })?;
        Some(idle.remove(ready).1)
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectError::TimedOut { address })?
        .map_err(|source| ConnectError::Refused { address, source })?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "cannot turn off delay");
    }
    Ok(stream)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
