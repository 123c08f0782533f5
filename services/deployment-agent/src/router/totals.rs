//! What the clients of a router saw, over all backends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::forward::Refusal;

#[derive(Debug, Default)]
pub(super) struct TotalCounters {
    requests: AtomicU64,
    vacant: AtomicU64,
    failed: AtomicU64,
}

/// Requests since the router was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All requests.
    pub requests: u64,
    /// Answered by the router because nothing was live.
    pub vacant: u64,
    /// Answered by the router because no instance answered.
    pub failed: u64,
}

impl Totals {
    /// What happened after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            vacant: self.vacant.saturating_sub(earlier.vacant),
            failed: self.failed.saturating_sub(earlier.failed),
        }
    }
}

impl TotalCounters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Vacant(_) => self.vacant.fetch_add(1, Ordering::Relaxed),
            Refusal::Unreachable(_) | Refusal::BrokeOff(_) | Refusal::Late | Refusal::Cut => {
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
            Refusal::Tunnel => 0,
        };
    }

    pub(super) fn read(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            vacant: self.vacant.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
