//! How many workflows of a namespace may live at once. Near the quota, each new one is counted in its own commit, one
//! at a time over all replicas; far from it, a sample is enough, and nothing is paid.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;

/// A quota below is exact: every new workflow is counted. From here on, new ones are counted when half of it is used,
/// or when the sample is too old; so other replicas can exceed it only by creating half of it between two samples,
/// and then by what they create until the next: at most a half for each.
const EXACT_BELOW: i64 = 2_000;
/// A sample is taken with every sweep, every one or two seconds.
const SAMPLE_HOLDS: Duration = Duration::from_secs(5);
/// Workflows last for minutes; ask again soon all the same.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The quota of every namespace.
#[derive(Debug)]
pub struct Quota {
    limit: i64,
    sample: Mutex<Option<Sample>>,
}

#[derive(Debug)]
struct Sample {
    taken: Instant,
    // Those that were created here since are added.
    living: HashMap<String, i64>,
}

impl Quota {
    pub fn new(limit: u32) -> Self {
        Self {
            limit: i64::from(limit),
            sample: Mutex::default(),
        }
    }

    /// What the commit of a new workflow has to count up to; `None`: there is room for sure.
    pub fn counted(&self, namespace: &str) -> Option<i64> {
        let sample = self.sample();
        let living = sample
            .as_ref()
            .filter(|sample| self.is_sampled() && sample.taken.elapsed() < SAMPLE_HOLDS)
            .map(|sample| sample.living.get(namespace).copied().unwrap_or(0));
        match living {
            Some(living) if living < self.limit / 2 => None,
            Some(_) | None => Some(self.limit),
        }
    }

    /// One more was created.
    pub fn created(&self, namespace: &str) {
        if let Some(sample) = &mut *self.sample() {
            *sample.living.entry(namespace.to_owned()).or_default() += 1;
        }
    }

    /// Whether samples are of use.
    pub fn is_sampled(&self) -> bool {
        self.limit >= EXACT_BELOW
    }

    /// So many lived a moment ago.
    pub fn sampled(&self, living: HashMap<String, i64>) {
        *self.sample() = Some(Sample {
            taken: Instant::now(),
            living,
        });
    }

    /// What whoever asked for one more is told.
    pub fn reached(&self, namespace: &str) -> Error {
        let message = format!(
            "namespace {namespace:?} has {} workflows that have not ended, and may not have more; \
             cancel some, or wait until some have ended",
            self.limit
        );
        Error::new(ErrorReason::QuotaReached, message).retry_after(ASK_AGAIN)
    }

    fn sample(&self) -> MutexGuard<'_, Option<Sample>> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living(count: i64) -> HashMap<String, i64> {
        HashMap::from([("a".to_owned(), count)])
    }

    #[test]
    fn only_far_from_the_quota_and_for_a_while_is_nobody_counted() {
        let quota = Quota::new(10_000);
        assert_eq!(quota.counted("a"), Some(10_000), "nothing is known");
        quota.sampled(living(4_998));
        assert_eq!((quota.counted("a"), quota.counted("b")), (None, None));
        quota.created("a");
        assert_eq!(quota.counted("a"), None);
        quota.created("a");
        assert_eq!(quota.counted("a"), Some(10_000));
        assert_eq!(quota.counted("b"), None);
        if let Some(sample) = &mut *quota.sample() {
            sample.taken -= SAMPLE_HOLDS;
        }
        assert_eq!(
            quota.counted("b"),
            Some(10_000),
            "others may have filled it"
        );
    }

    #[test]
    fn a_small_quota_is_always_counted() {
        let quota = Quota::new(1_999);
        quota.sampled(living(0));
        assert_eq!(quota.counted("a"), Some(1_999));
    }
}
