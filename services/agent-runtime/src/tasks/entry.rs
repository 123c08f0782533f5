//! One task on the agent: who holds it, who reads it, how it ended.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use contracts::error::Error;
use contracts::task::TaskContext;

use super::stream::Attachment;
use crate::reporter::Reporter;

/// How an attempt ended.
pub(super) type Ending<R> = Result<R, Error>;

/// One attempt at one task.
#[derive(Debug)]
pub(super) struct Entry<R> {
    pub(super) task_id: String,
    pub(super) attempt: i32,
    pub(super) context: TaskContext,
    pub(super) reporter: Reporter,
    pub(super) folder: PathBuf,
    pub(super) cancel: CancellationToken,
    epoch: AtomicI64,
    ending: watch::Sender<Option<Ending<R>>>,
    readers: watch::Sender<usize>,
    // Grows with each attachment under a lease: an older stream ends when it does.
    generation: watch::Sender<usize>,
    next_generation: AtomicUsize,
    released: CancellationToken,
}

impl<R> Entry<R> {
    pub(super) fn new(
        context: TaskContext,
        reporter: Reporter,
        folder: PathBuf,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            task_id: context.task_id.clone(),
            attempt: context.attempt,
            epoch: AtomicI64::new(context.lease_epoch),
            context,
            reporter,
            folder,
            cancel,
            ending: watch::Sender::new(None),
            readers: watch::Sender::new(0),
            generation: watch::Sender::new(0),
            next_generation: AtomicUsize::new(1),
            released: CancellationToken::new(),
        }
    }

    /// Lease epoch that holds the task; zero: the call owns it.
    pub(super) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.ending.borrow().is_some()
    }

    pub(super) fn finish(&self, ending: Ending<R>) {
        self.ending.send_replace(Some(ending));
    }

    /// Resolves when the attempt is over.
    pub(super) async fn finished(&self) {
        // The sender lives as long as `self`.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves when nobody needs the result any more.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + Send + use<R> {
        self.released.clone().cancelled_owned()
    }

    /// Resolves when the task has had no reader for the grace; at once when the call owned it.
    pub(super) async fn orphaned(&self, grace: Duration) {
        let mut readers = self.readers.subscribe();
        loop {
            // The first reader attaches before the work starts.
            let _ = readers.wait_for(|count| *count == 0).await;
            if self.epoch() == 0 {
                return;
            }
            let back = readers.wait_for(|count| *count > 0);
            if tokio::time::timeout(grace, back).await.is_err() {
                return;
            }
        }
    }

    /// A new reader; takes the task over when its epoch is newer.
    pub(super) fn attach(
        self: &std::sync::Arc<Self>,
        epoch: i64,
        resume_after: i64,
    ) -> Attachment<R> {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        self.generation.send_replace(generation);
        self.readers.send_modify(|count| *count += 1);
        Attachment {
            entry: self.clone(),
            generation,
            newer: self.generation.subscribe(),
            after: resume_after.min(self.reporter.last_sequence()),
        }
    }

    pub(super) fn detach(&self) {
        self.readers
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    pub(super) fn ending(&self) -> watch::Receiver<Option<Ending<R>>> {
        self.ending.subscribe()
    }
}

impl<R> Entry<R> {
    /// The owner of a call-owned task has its result: nothing more is kept.
    pub(super) fn delivered(&self) {
        if self.epoch() == 0 {
            self.released.cancel();
        }
    }
}
