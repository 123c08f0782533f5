//! One reader of one task: replays what it has not seen, follows, and ends with the result.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::task::TaskEvent;

use super::entry::Entry;

// A reader that lags this far behind holds up nobody but itself: the journal keeps the rest.
const QUEUE: usize = 64;

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Message<R> {
    /// Something happened.
    Event(TaskEvent),
    /// The task is over.
    Result(R),
}

/// The right to read a task. Detaches when dropped.
#[derive(Debug)]
pub(crate) struct Attachment<R> {
    pub(super) entry: Arc<Entry<R>>,
    pub(super) generation: usize,
    pub(super) newer: watch::Receiver<usize>,
    pub(super) after: i64,
}

impl<R> Drop for Attachment<R> {
    fn drop(&mut self) {
        self.entry.detach();
    }
}

impl<R: Clone + Send + Sync + 'static> Attachment<R> {
    /// Pumps the task's messages into a bounded queue until it is over or the reader is gone.
    pub(crate) fn pump<M: Send + 'static>(
        self,
        tracker: &TaskTracker,
        wrap: impl Fn(Message<R>) -> M + Send + Sync + 'static,
    ) -> mpsc::Receiver<Result<M, Status>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tracker.spawn(async move {
            let mut attachment = self;
            let gone = sender.clone();
            tokio::select! {
                biased;
                () = gone.closed() => {}
                () = attachment.forward(&sender, &wrap) => {}
            }
        });
        receiver
    }

    async fn forward<M>(
        &mut self,
        sender: &mpsc::Sender<Result<M, Status>>,
        wrap: &(impl Fn(Message<R>) -> M + Send + Sync),
    ) {
        let mut newest = self.entry.reporter.newest();
        let mut ending = self.entry.ending();
        loop {
            let events = match self.entry.reporter.read(self.after) {
                Ok(events) => events,
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            };
            if events.is_empty() {
                // Events stop before the ending is set, so nothing can follow it.
                let ended = ending.borrow_and_update().clone();
                if let Some(ended) = ended {
                    if self.after < self.entry.reporter.last_sequence() {
                        continue;
                    }
                    let last = ended.map(|result| wrap(Message::Result(result)));
                    if sender.send(last.map_err(Status::from)).await.is_ok() {
                        self.entry.delivered();
                    }
                    return;
                }
                let (seen, generation) = (self.after, self.generation);
                let superseded = tokio::select! {
                    biased;
                    newer = self.newer.wait_for(|newer| *newer > generation) => newer.is_ok(),
                    newer = newest.wait_for(|sequence| *sequence > seen) => newer.is_err(),
                    ended = ending.changed() => ended.is_err(),
                };
                if superseded {
                    let _ = sender.send(Err(taken_over().into())).await;
                    return;
                }
                continue;
            }
            for event in events {
                self.after = event.sequence;
                if sender.send(Ok(wrap(Message::Event(event)))).await.is_err() {
                    return;
                }
                let superseded = *self.newer.borrow() > self.generation;
                if superseded {
                    let _ = sender.send(Err(taken_over().into())).await;
                    return;
                }
            }
        }
    }
}

fn taken_over() -> Error {
    Error::new(ErrorReason::TakenOver, "somebody else attached to the task")
}
