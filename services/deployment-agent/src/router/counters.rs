//! What happened to the requests of a backend or of a group of backends. Counts only grow; whoever
//! wants a rate takes two samples. Knows nothing about routing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the latency buckets in milliseconds: doubling from 1 ms to about 65 s, which
/// keeps a quantile right within a factor of two at any scale an app is judged on.
const BUCKET_BOUNDS_MS: [u64; 17] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536,
];

/// Counters that requests write to.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    server_errors: AtomicU64,
    transport_errors: AtomicU64,
    unreachable: AtomicU64,
    cut: AtomicU64,
    buckets: [AtomicU64; BUCKET_BOUNDS_MS.len() + 1],
}

/// The counters at one moment, or the difference of two moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that were given to the backend.
    pub requests: u64,
    /// Answers with a status of 500 or more.
    pub server_errors: u64,
    /// Requests without an answer: the connection broke, or the answer took too long.
    pub transport_errors: u64,
    /// Times that no connection could be made; the request went elsewhere.
    pub unreachable: u64,
    /// Answers that were cut at the drain deadline.
    pub cut: u64,
    buckets: [u64; BUCKET_BOUNDS_MS.len() + 1],
}

impl Counters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: http::StatusCode, latency: Duration) {
        if status.is_server_error() {
            self.server_errors.fetch_add(1, Ordering::Relaxed);
        }
        let millis = latency.as_millis();
        let bucket = BUCKET_BOUNDS_MS
            .iter()
            .position(|bound| millis <= u128::from(*bound))
            .unwrap_or(BUCKET_BOUNDS_MS.len());
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn transport_error(&self) {
        self.transport_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unreachable(&self) {
        self.unreachable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn sample(&self) -> Sample {
        Sample {
            requests: self.requests.load(Ordering::Relaxed),
            server_errors: self.server_errors.load(Ordering::Relaxed),
            transport_errors: self.transport_errors.load(Ordering::Relaxed),
            unreachable: self.unreachable.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            buckets: std::array::from_fn(|bucket| {
                self.buckets
                    .get(bucket)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
        }
    }
}

impl Sample {
    /// What happened after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
            transport_errors: self
                .transport_errors
                .saturating_sub(earlier.transport_errors),
            unreachable: self.unreachable.saturating_sub(earlier.unreachable),
            cut: self.cut.saturating_sub(earlier.cut),
            buckets: std::array::from_fn(|bucket| {
                let now = self.buckets.get(bucket).copied().unwrap_or_default();
                now.saturating_sub(earlier.buckets.get(bucket).copied().unwrap_or_default())
            }),
        }
    }

    /// Share of requests that failed, 0 to 1. None: there were no requests, so nothing is known.
    pub fn error_share(&self) -> Option<f64> {
        let failed = self.server_errors + self.transport_errors;
        (self.requests > 0).then(|| failed as f64 / self.requests as f64)
    }

    /// Upper bound of the bucket that holds the given quantile (0 to 1) of the latencies. None: no
    /// request was answered.
    pub fn latency_quantile(&self, quantile: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = (total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let bound = BUCKET_BOUNDS_MS
            .get(bucket)
            .copied()
            .unwrap_or(u64::MAX / 2);
        Some(Duration::from_millis(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_requests_means_no_error_share_and_no_latency() {
        let sample = Counters::default().sample();
        assert_eq!(sample.error_share(), None);
        assert_eq!(sample.latency_quantile(0.95), None);
    }

    #[test]
    fn a_difference_counts_only_what_came_after() {
        let counters = Counters::default();
        counters.request();
        counters.answered(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            Duration::from_millis(3),
        );
        let earlier = counters.sample();
        for _ in 0..9 {
            counters.request();
            counters.answered(http::StatusCode::OK, Duration::from_millis(3));
        }
        counters.request();
        counters.transport_error();
        let later = counters.sample().since(&earlier);
        assert_eq!(later.requests, 10);
        assert_eq!(later.error_share(), Some(0.1));
        assert_eq!(later.latency_quantile(0.5), Some(Duration::from_millis(4)));
    }

    #[test]
    fn a_quantile_finds_the_slow_tail() {
        let counters = Counters::default();
        for millis in [1, 1, 1, 1, 1, 1, 1, 1, 700, 800] {
            counters.request();
            counters.answered(http::StatusCode::OK, Duration::from_millis(millis));
        }
        let sample = counters.sample();
        assert_eq!(sample.latency_quantile(0.5), Some(Duration::from_millis(1)));
        assert_eq!(
            sample.latency_quantile(0.95),
            Some(Duration::from_millis(1024))
        );
    }
}
