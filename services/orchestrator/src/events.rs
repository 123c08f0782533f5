//! Live fan-out of committed events. Watchers read the log; this only tells them, without delay,
//! that there is something to read, and keeps the newest events at hand so that most never ask the
//! database.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use contracts::id::WorkflowId;
use contracts::orchestrator::WorkflowEvent;

pub mod all;

use all::All;

// A watcher that is further behind reads from the log.
const RING: usize = 256;
// Most watch a workflow right after they made it: the newest ones are at hand before anybody asks.
const NEWEST: usize = 256;

/// One per process.
#[derive(Debug, Clone, Default)]
pub struct Events {
    topics: Arc<Mutex<Topics>>,
    all: Arc<All>,
}

#[derive(Debug, Default)]
struct Topics {
    by_workflow: HashMap<WorkflowId, Topic>,
    // Workflows whose first event was told last, oldest first.
    newest: VecDeque<WorkflowId>,
}

#[derive(Debug)]
struct Topic {
    // Of the workflow; empty: nothing was told yet.
    namespace: String,
    ring: VecDeque<Arc<WorkflowEvent>>,
    newest: watch::Sender<i64>,
    watcher_count: usize,
}

/// Watches one workflow. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    workflow_id: WorkflowId,
    newest: watch::Receiver<i64>,
}

impl Events {
    /// Tells watchers of events that were committed, in order.
    pub fn publish(&self, namespace: &str, workflow_id: WorkflowId, events: &[Arc<WorkflowEvent>]) {
        let Some(last) = events.last() else { return };
        self.all.publish(namespace, workflow_id, events);
        let mut topics = self.lock();
        if events[0].sequence == 1 {
            topics.begin(workflow_id);
        }
        let Some(topic) = topics.by_workflow.get_mut(&workflow_id) else {
            return;
        };
        let next = topic
            .ring
            .back()
            .map_or(events[0].sequence, |event| event.sequence + 1);
        if events[0].sequence != next {
            topic.ring.clear();
        }
        topic.ring.extend(events.iter().cloned());
        while topic.ring.len() > RING {
            topic.ring.pop_front();
        }
        if topic.namespace != namespace {
            namespace.clone_into(&mut topic.namespace);
        }
        topic.newest.send_if_modified(|newest| {
            let grew = last.sequence > *newest;
            *newest = (*newest).max(last.sequence);
            grew
        });
    }

    /// Tells watchers that somebody else committed events up to a sequence.
    pub fn hint(&self, workflow_id: WorkflowId, sequence: i64) {
        self.all.hint(workflow_id, sequence);
        if let Some(topic) = self.lock().by_workflow.get(&workflow_id) {
            topic.newest.send_if_modified(|newest| {
                let grew = sequence > *newest;
                *newest = (*newest).max(sequence);
                grew
            });
        }
    }

    /// Workflows that are watched here.
    pub fn watched(&self) -> Vec<WorkflowId> {
        let topics = self.lock();
        let watched = topics
            .by_workflow
            .iter()
            .filter(|(_, topic)| topic.watcher_count > 0);
        watched.map(|(id, _)| *id).collect()
    }

    /// Watches of single workflows that are open.
    pub fn watcher_count(&self) -> usize {
        let topics = self.lock();
        topics
            .by_workflow
            .values()
            .map(|topic| topic.watcher_count)
            .sum()
    }

    /// Begins to watch.
    pub fn watch(&self, workflow_id: WorkflowId) -> Watch {
        let mut topics = self.lock();
        let topic = topics.by_workflow.entry(workflow_id).or_default();
        topic.watcher_count += 1;
        Watch {
            events: self.clone(),
            workflow_id,
            newest: topic.newest.subscribe(),
        }
    }

    /// The events of all workflows.
    pub fn all(&self) -> &All {
        &self.all
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    // Keeps the events of a new workflow at hand until many newer ones have come.
    fn begin(&mut self, workflow_id: WorkflowId) {
        self.by_workflow.entry(workflow_id).or_default();
        self.newest.push_back(workflow_id);
        if self.newest.len() > NEWEST
            && let Some(oldest) = self.newest.pop_front()
        {
            self.remove_unwatched(oldest);
        }
    }

    fn remove_unwatched(&mut self, workflow_id: WorkflowId) {
        let topic = self.by_workflow.get(&workflow_id);
        if topic.is_some_and(|topic| topic.watcher_count == 0) {
            self.by_workflow.remove(&workflow_id);
        }
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            ring: VecDeque::new(),
            newest: watch::Sender::new(0),
            watcher_count: 0,
        }
    }
}

impl Watch {
    /// The events after a sequence that are at hand; empty: read the log.
    pub fn at_hand(&self, after: i64) -> Vec<Arc<WorkflowEvent>> {
        let topics = self.events.lock();
        let Some(topic) = topics.by_workflow.get(&self.workflow_id) else {
            return Vec::new();
        };
        match topic.ring.front() {
            Some(first) if first.sequence <= after + 1 => topic
                .ring
                .iter()
                .filter(|event| event.sequence > after)
                .cloned()
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Sequence of the newest event that was told here; `None`: ask the log.
    pub fn newest(&self, namespace: &str) -> Option<i64> {
        let topics = self.events.lock();
        let topic = topics.by_workflow.get(&self.workflow_id)?;
        (topic.namespace == namespace).then(|| *topic.newest.borrow())
    }

    /// Whether an event that was at hand is the newest that anybody knows of.
    pub fn is_newest(&self, sequence: i64) -> bool {
        *self.newest.borrow() == sequence
    }

    /// Resolves when there may be events after a sequence.
    pub async fn beyond(&mut self, after: i64) {
        // The sender lives in the topic, which lives as long as this watch.
        let _ = self.newest.wait_for(|newest| *newest > after).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.events.lock();
        if let Some(topic) = topics.by_workflow.get_mut(&self.workflow_id) {
            topic.watcher_count -= 1;
        }
        topics.remove_unwatched(self.workflow_id);
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

    fn sequences(events: &[Arc<WorkflowEvent>]) -> Vec<i64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[tokio::test]
    async fn a_watcher_gets_what_is_published_without_the_database() {
        let events = Events::default();
        let workflow = WorkflowId::new();
        let mut watch = events.watch(workflow);
        events.publish("default", workflow, &[event(1), event(2)]);
        watch.beyond(0).await;
        assert_eq!(sequences(&watch.at_hand(0)), [1, 2]);
        assert_eq!(sequences(&watch.at_hand(1)), [2]);
    }

    #[test]
    fn a_gap_in_what_is_at_hand_is_never_papered_over() {
        let events = Events::default();
        let workflow = WorkflowId::new();
        let watch = events.watch(workflow);
        events.publish("default", workflow, &[event(1)]);
        // Event 2 was committed by somebody else.
        events.publish("default", workflow, &[event(3)]);
        assert!(watch.at_hand(1).is_empty());
        assert_eq!(sequences(&watch.at_hand(2)), [3]);
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let events = Events::default();
        let workflow = WorkflowId::new();
        let watch = events.watch(workflow);
        for sequence in 1..=1000 {
            events.publish("default", workflow, &[event(sequence)]);
        }
        assert_eq!(watch.at_hand(0).len(), 0);
        assert_eq!(watch.at_hand(1000 - 256).len(), 256);
        drop(watch);
        assert!(events.watched().is_empty());
    }

    #[test]
    fn a_new_workflow_is_at_hand_before_anybody_watches_and_many_newer_ones_push_it_out() {
        let events = Events::default();
        let first = WorkflowId::new();
        events.publish("default", first, &[event(1)]);
        events.publish("default", first, &[event(2)]);
        assert_eq!(sequences(&events.watch(first).at_hand(0)), [1, 2]);
        let second = WorkflowId::new();
        events.publish("default", second, &[event(1)]);
        for _ in 0..NEWEST {
            events.publish("default", WorkflowId::new(), &[event(1)]);
        }
        assert!(events.watch(second).at_hand(0).is_empty());
        assert!(events.lock().by_workflow.len() <= NEWEST);
    }
}
