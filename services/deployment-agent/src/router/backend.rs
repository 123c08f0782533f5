//! One address that requests can go to: who is inside, how to wait for them and when to cut them
//! off. Knows nothing about weights or HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    connection::Pool,
    counters::{Counters, Sample},
    table::Group,
};

/// An address that takes requests of one group.
#[derive(Debug)]
pub struct Backend {
    id: u64,
    group: Group,
    address: SocketAddr,
    inside: TaskTracker,
    cut: CancellationToken,
    own: Counters,
    shared: Arc<Counters>,
    pub(super) pool: Pool,
}

/// The right to use a backend for one request; draining waits until it is given back.
#[derive(Debug)]
pub(super) struct Pass {
    backend: Arc<Backend>,
    _inside: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were still running at the deadline, and were cut.
    pub cut_count: usize,
}

impl Backend {
    pub(super) fn new(
        group: Group,
        address: SocketAddr,
        shared: Arc<Counters>,
        connection_limit: usize,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inside = TaskTracker::new();
        inside.close();
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            group,
            address,
            inside,
            cut: CancellationToken::new(),
            own: Counters::default(),
            shared,
            pool: Pool::new(connection_limit),
        }
    }

    /// Unique within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The group it serves.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests, answers and streams that are being served now.
    pub fn in_flight_count(&self) -> usize {
        self.inside.len()
    }

    /// What happened to its own requests.
    pub fn sample(&self) -> Sample {
        self.own.sample()
    }

    /// Waits until the last request is done, at most `within`; then cuts what is left. Detach the
    /// backend first, or new requests keep coming.
    pub async fn drain(&self, within: Duration) -> Drained {
        let cut_count = match tokio::time::timeout(within, self.inside.wait()).await {
            Ok(()) => 0,
            Err(_) => {
                let count = self.inside.len();
                self.cut.cancel();
                // Whoever holds a pass watches the token, so this ends at once; the bound only
                // guards against a stalled client whose socket takes no more bytes.
                let _ = tokio::time::timeout(Duration::from_secs(1), self.inside.wait()).await;
                count
            }
        };
        self.pool.clear();
        Drained { cut_count }
    }

    pub(super) fn enter(self: &Arc<Self>) -> Pass {
        Pass {
            backend: Arc::clone(self),
            _inside: self.inside.token(),
        }
    }
}

impl Pass {
    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(super) fn cut(&self) -> &CancellationToken {
        &self.backend.cut
    }

    pub(super) fn count(&self, count: impl Fn(&Counters)) {
        count(&self.backend.own);
        count(&self.backend.shared);
    }
}
