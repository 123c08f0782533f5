//! Lets hyper start its own tasks on our tracker, so that none outlives the router.

use std::future::Future;

use tokio_util::task::TaskTracker;

/// Runs what hyper wants to run on a tracker.
#[derive(Debug, Clone)]
pub(super) struct Tracked(pub(super) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
