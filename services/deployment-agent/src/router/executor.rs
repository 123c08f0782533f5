//! Runs what the router runs beside itself, ours and hyper's, so that none of it outlives the router.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Runs futures until they are done or everything is broken off.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl Runner {
    pub(super) fn new(abort: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            abort,
        }
    }

    /// Breaking off drops the future where it is.
    pub(super) fn run<F>(&self, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let abort = self.abort.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                _ = future => {}
            }
        });
    }

    /// Waits until nothing runs any more. Nothing may be started meanwhile.
    pub(super) async fn done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl<F> hyper::rt::Executor<F> for Runner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.run(future);
    }
}
