//! The router in front of an app: one stable port, traffic shared between revisions by weight, and
//! backends that come and go without a failed request. Knows nothing about what a revision is.

mod backend;
mod body;
mod connection;
mod counters;
mod executor;
mod forward;
mod headers;
mod listener;
mod table;
mod totals;
mod upgrade;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    backend::Pass, executor::Runner, listener::Listener, table::Table, totals::TotalCounters,
};
pub use self::{
    backend::{Backend, Drained},
    counters::Sample,
    table::Group,
    totals::Totals,
};

/// Bounds of one router.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Client connections that are served at once; more wait to be accepted.
    pub client_connections: usize,
    /// Connections to one backend at once; more requests wait for one.
    pub backend_connections: usize,
    /// Time until the head of an answer must have come.
    pub answer_within: Duration,
    /// Time for a client to send the head of a request; also how long an idle client is kept.
    pub head_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_connections: 4096,
            backend_connections: 1024,
            answer_within: Duration::from_mins(1),
            head_within: Duration::from_secs(75),
        }
    }
}

/// Why a router does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has the port.
    #[error("port {} is already taken on {}", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// Anything else that keeps a socket from listening.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Shares the requests of its ports between backends.
#[derive(Debug)]
pub struct Router {
    inner: Arc<Inner>,
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    table: Mutex<Table>,
    vacant: Mutex<String>,
    totals: TotalCounters,
    clients: Arc<Semaphore>,
    /// Listeners and client connections: what a shutdown waits for.
    clients_at_work: Runner,
    /// Connections to backends and upgraded streams, which end with what they serve.
    runner: Runner,
    /// Ends connections that are still open when the grace of a shutdown is over.
    abort: CancellationToken,
}

impl Router {
    /// A router without ports and backends.
    pub fn new(limits: Limits) -> Self {
        let clients = Arc::new(Semaphore::new(limits.client_connections));
        let abort = CancellationToken::new();
        let inner = Inner {
            limits,
            table: Mutex::default(),
            vacant: Mutex::new("no revision was deployed".to_owned()),
            totals: TotalCounters::default(),
            clients,
            clients_at_work: Runner::new(abort.clone()),
            runner: Runner::new(abort.clone()),
            abort,
        };
        Self {
            inner: Arc::new(inner),
            listeners: Mutex::default(),
        }
    }

    /// Takes requests on an address too; port 0 takes a free one. Returns the real address.
    pub async fn listen(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let listener = Listener::open(address, &self.inner).await?;
        let address = listener.address();
        lock(&self.listeners).push(listener);
        Ok(address)
    }

    /// Takes no more connections on an address; open ones are told to end after their answer.
    pub fn close(&self, address: SocketAddr) {
        lock(&self.listeners).retain(|listener| listener.address() != address);
    }

    /// Adds a backend to a group. It gets traffic as soon as the group has weight.
    pub fn attach(&self, group: Group, address: SocketAddr) -> Arc<Backend> {
        let limit = self.inner.limits.backend_connections;
        lock(&self.inner.table).attach(group, |shared| Backend::new(group, address, shared, limit))
    }

    /// Gives a backend no more requests; those inside go on.
    pub fn detach(&self, backend: &Backend) {
        lock(&self.inner.table).detach(backend);
    }

    /// Sets all weights at once: from the next request on, groups share the traffic in these
    /// proportions. A group that is named with no weight stands by and takes what none with weight
    /// can; one that is not named gets nothing.
    pub fn set_shares(&self, shares: &[(Group, u32)]) {
        lock(&self.inner.table).set_shares(shares);
    }

    /// The weights, without groups that have none.
    pub fn shares(&self) -> Vec<(Group, u32)> {
        lock(&self.inner.table).shares()
    }

    /// What happened to the requests of all backends that a group ever had.
    pub fn group_sample(&self, group: Group) -> Sample {
        lock(&self.inner.table).counters(group).sample()
    }

    /// Forgets the counters of a group that is gone.
    pub fn forget(&self, group: Group) {
        lock(&self.inner.table).forget(group);
    }

    /// What clients are told when no backend is there.
    pub fn set_vacant_reason(&self, reason: impl Into<String>) {
        *lock(&self.inner.vacant) = reason.into();
    }

    /// What happened to all requests.
    pub fn totals(&self) -> Totals {
        self.inner.totals.read()
    }

    /// Stops listening, waits for open requests, at most `grace`, then breaks them off.
    pub async fn shutdown(&self, grace: Duration) {
        lock(&self.listeners).clear();
        if tokio::time::timeout(grace, self.inner.clients_at_work.done())
            .await
            .is_err()
        {
            tracing::debug!("clients were broken off at the end of the grace");
        }
        self.inner.abort.cancel();
        self.inner.clients_at_work.done().await;
        self.inner.runner.done().await;
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.inner.abort.cancel();
    }
}

impl Inner {
    fn pick(&self, tried: &[u64]) -> Option<Pass> {
        lock(&self.table).pick(tried)
    }

    fn vacant_reason(&self) -> String {
        lock(&self.vacant).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
