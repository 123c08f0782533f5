//! The events of all workflows, whichever replica commits them: each workflow's in order, without
//! gap or repeat, from when the first watcher came. What this replica commits is passed on as it
//! is; for the rest, this knows which workflows' logs are to be read, and how far they were.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use contracts::id::WorkflowId;
use contracts::orchestrator::WorkflowEvent;

// Events that a watcher may lag behind before it is told to start anew.
const QUEUE: usize = 4096;
// How far a workflow was is remembered for so long after it was last listed: a late hint must not
// make its events come twice.
const REMEMBERED: Duration = Duration::from_mins(1);

/// An event, and whose it is.
#[derive(Debug, Clone)]
pub struct Published {
    /// Namespace of its workflow.
    pub namespace: Arc<str>,
    /// The event.
    pub event: Arc<WorkflowEvent>,
}

/// A log that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// The last event that was passed on. `None`: not known; those since the watching began.
    pub after: Option<i64>,
}

/// How far a workflow is, as the database says.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Sequence of its newest event.
    pub sequence: i64,
}

/// One per process.
#[derive(Debug)]
pub struct All {
    following: Mutex<Option<Following>>,
    sender: broadcast::Sender<Published>,
    ready: watch::Sender<bool>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Following {
    cursors: HashMap<WorkflowId, Cursor>,
    behind: HashSet<WorkflowId>,
    // None before the first look.
    since: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    sequence: i64,
    listed: Instant,
}

impl Default for All {
    fn default() -> Self {
        Self {
            following: Mutex::default(),
            sender: broadcast::Sender::new(QUEUE),
            ready: watch::Sender::new(false),
            wanted: Notify::new(),
        }
    }
}

impl All {
    /// Begins to watch. Every event that is committed after this resolves will come.
    pub async fn watch(&self) -> broadcast::Receiver<Published> {
        let receiver = {
            let mut following = self.lock();
            following.get_or_insert_default();
            self.sender.subscribe()
        };
        self.wanted.notify_one();
        // The sender lives as long as this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
        receiver
    }

    /// Resolves when there is something to read, or somebody began to watch.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether anybody watches; when nobody does, everything is forgotten.
    pub fn is_watched(&self) -> bool {
        let mut following = self.lock();
        if self.sender.receiver_count() == 0 {
            *following = None;
            self.ready.send_replace(false);
        }
        following.is_some()
    }

    pub(super) fn publish(
        &self,
        namespace: &str,
        workflow_id: WorkflowId,
        events: &[Arc<WorkflowEvent>],
    ) {
        let mut held = self.lock();
        let Some(following) = &mut *held else { return };
        let first = events.first().map_or(0, |event| event.sequence);
        let cursor = following.cursor(workflow_id).unwrap_or(0);
        if first == cursor + 1 {
            self.pass_on(
                following,
                &namespace.into(),
                workflow_id,
                events.iter().cloned(),
            );
        } else {
            // Somebody else committed in between.
            following.behind.insert(workflow_id);
            self.wanted.notify_one();
        }
    }

    pub(super) fn hint(&self, workflow_id: WorkflowId, sequence: i64) {
        let mut held = self.lock();
        let Some(following) = &mut *held else { return };
        if following
            .cursor(workflow_id)
            .is_none_or(|cursor| sequence > cursor)
        {
            following.behind.insert(workflow_id);
            self.wanted.notify_one();
        }
    }

    /// Takes in how far every workflow is that has not ended, or ended since a time. The first time,
    /// that is where the watching begins: what is not listed has no events since then, so that any
    /// that come are new, even by the clock of a replica that is a little behind.
    pub fn seen(&self, since: SystemTime, seen: &[Seen]) {
        let mut held = self.lock();
        let Some(following) = &mut *held else { return };
        let first = following.since.is_none();
        following.since.get_or_insert(since);
        let listed = Instant::now();
        for Seen {
            workflow_id,
            sequence,
        } in seen.iter().copied()
        {
            match following.cursors.get_mut(&workflow_id) {
                Some(cursor) => {
                    cursor.listed = listed;
                    if sequence > cursor.sequence {
                        following.behind.insert(workflow_id);
                    }
                }
                None if first => {
                    following
                        .cursors
                        .insert(workflow_id, Cursor { sequence, listed });
                }
                None => {
                    following.behind.insert(workflow_id);
                }
            }
        }
        if first {
            self.ready.send_replace(true);
        }
        following
            .cursors
            .retain(|_, cursor| listed - cursor.listed < REMEMBERED);
    }

    /// Takes logs that are to be read, at most so many, and since when the unknown ones.
    pub fn behind(&self, most: usize) -> (Vec<Behind>, SystemTime) {
        let mut held = self.lock();
        let Some(following) = &mut *held else {
            return (Vec::new(), SystemTime::UNIX_EPOCH);
        };
        let Some(since) = following.since else {
            return (Vec::new(), SystemTime::UNIX_EPOCH);
        };
        let taken: Vec<_> = following.behind.iter().copied().take(most).collect();
        let behind = taken.into_iter().map(|workflow_id| {
            following.behind.remove(&workflow_id);
            let after = following.cursor(workflow_id);
            Behind { workflow_id, after }
        });
        (behind.collect(), since)
    }

    /// A log was not read to its end.
    pub fn not_read(&self, workflow_id: WorkflowId) {
        if let Some(following) = &mut *self.lock() {
            following.behind.insert(workflow_id);
            self.wanted.notify_one();
        }
    }

    /// Passes on what was read of a log, in order.
    pub fn read(
        &self,
        namespace: &Arc<str>,
        workflow_id: WorkflowId,
        events: Vec<Arc<WorkflowEvent>>,
    ) {
        let mut held = self.lock();
        let Some(following) = &mut *held else { return };
        let cursor = following.cursor(workflow_id);
        let new = events
            .into_iter()
            .filter(|event| cursor.is_none_or(|cursor| event.sequence > cursor));
        self.pass_on(following, namespace, workflow_id, new);
    }

    fn pass_on(
        &self,
        following: &mut Following,
        namespace: &Arc<str>,
        workflow_id: WorkflowId,
        events: impl Iterator<Item = Arc<WorkflowEvent>>,
    ) {
        let listed = Instant::now();
        for event in events {
            let sequence = event.sequence;
            following
                .cursors
                .insert(workflow_id, Cursor { sequence, listed });
            let namespace = namespace.clone();
            // Nobody listens any more: nobody needs it.
            let _ = self.sender.send(Published { namespace, event });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Following>> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    fn cursor(&self, workflow_id: WorkflowId) -> Option<i64> {
        self.cursors.get(&workflow_id).map(|cursor| cursor.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: i64) -> Arc<WorkflowEvent> {
        Arc::new(WorkflowEvent {
            sequence,
            ..WorkflowEvent::default()
        })
    }

    fn received(receiver: &mut broadcast::Receiver<Published>) -> Vec<i64> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|published| published.event.sequence)
            .collect()
    }

    async fn watched(all: &All, seen: &[Seen]) -> broadcast::Receiver<Published> {
        let (receiver, ()) = tokio::join!(all.watch(), async {
            all.wanted().await;
            all.seen(SystemTime::now(), seen);
        });
        receiver
    }

    #[tokio::test]
    async fn what_others_commit_in_between_comes_in_order_and_once() {
        let (all, id) = (All::default(), WorkflowId::new());
        let mut receiver = watched(
            &all,
            &[Seen {
                workflow_id: id,
                sequence: 3,
            }],
        )
        .await;
        all.publish("default", id, &[event(4)]);
        // Another replica committed 5 and 6.
        all.publish("default", id, &[event(7)]);
        assert_eq!(received(&mut receiver), [4]);
        let (behind, _) = all.behind(10);
        assert_eq!(
            behind,
            [Behind {
                workflow_id: id,
                after: Some(4)
            }]
        );
        // While the log is read, more is committed here.
        all.publish("default", id, &[event(8)]);
        all.read(&"default".into(), id, vec![event(5), event(6), event(7)]);
        all.read(&"default".into(), id, vec![event(7), event(8)]);
        all.publish("default", id, &[event(9)]);
        assert_eq!(received(&mut receiver), [5, 6, 7, 8, 9]);
    }

    #[tokio::test]
    async fn a_look_finds_what_no_hint_told() {
        let (all, old, new) = (All::default(), WorkflowId::new(), WorkflowId::new());
        let mut receiver = watched(
            &all,
            &[Seen {
                workflow_id: old,
                sequence: 3,
            }],
        )
        .await;
        let seen = [
            Seen {
                workflow_id: old,
                sequence: 5,
            },
            Seen {
                workflow_id: new,
                sequence: 2,
            },
        ];
        all.seen(SystemTime::now(), &seen);
        let (mut behind, _) = all.behind(10);
        behind.sort_by_key(|behind| behind.after);
        assert_eq!(
            behind[0],
            Behind {
                workflow_id: new,
                after: None
            }
        );
        assert_eq!(
            behind[1],
            Behind {
                workflow_id: old,
                after: Some(3)
            }
        );
        assert!(received(&mut receiver).is_empty());
        drop(receiver);
        assert!(!all.is_watched());
        all.hint(old, 9);
        assert!(all.behind(10).0.is_empty());
    }
}
