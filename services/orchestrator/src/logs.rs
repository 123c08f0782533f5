//! The newest log lines of tasks that run here, for whoever looks on. Whole logs are artifacts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use contracts::id::WorkflowId;
use contracts::orchestrator::WatchWorkflowLogsResponse;
use contracts::task::{Log, LogLevel, LogStream};
use contracts::wire_time;

// Enough to see what led up to now.
const LINES: usize = 1000;
const BYTES: usize = 1024 * 1024;
// A reader that lags further misses live lines, and is told so; the artifact has them.
const QUEUE: usize = 1024;

/// A line of log.
#[derive(Debug, Clone)]
pub struct Line {
    /// Among all lines of the workflow that this process has.
    pub sequence: i64,
    /// As it is sent.
    pub said: Arc<WatchWorkflowLogsResponse>,
}

/// One per process.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    tails: Arc<Mutex<HashMap<WorkflowId, Tail>>>,
}

#[derive(Debug)]
struct Tail {
    lines: VecDeque<Line>,
    bytes: usize,
    next: i64,
    live: broadcast::Sender<Line>,
    elsewhere: watch::Sender<()>,
}

/// What a reader of the logs of a workflow gets.
#[derive(Debug)]
pub struct Followed {
    /// What is at hand.
    pub at_hand: Vec<Line>,
    /// What follows, until the workflow ends.
    pub lines: broadcast::Receiver<Line>,
    /// That another process wrote lines.
    pub elsewhere: watch::Receiver<()>,
    // Dropped last, when nobody is counted any more.
    _leave: Leave,
}

#[derive(Debug)]
struct Leave {
    logs: Logs,
    workflow_id: WorkflowId,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut tails = self.logs.lock();
        if tails.get(&self.workflow_id).is_some_and(Tail::is_idle) {
            tails.remove(&self.workflow_id);
        }
    }
}

impl Logs {
    /// Adds a line.
    pub fn push(&self, workflow_id: WorkflowId, line: WatchWorkflowLogsResponse) {
        let mut tails = self.lock();
        let tail = tails.entry(workflow_id).or_insert_with(Tail::new);
        let line = Line {
            sequence: tail.next,
            said: Arc::new(line),
        };
        tail.next += 1;
        tail.bytes += line.size();
        tail.lines.push_back(line.clone());
        while tail.lines.len() > LINES || tail.bytes > BYTES {
            let Some(oldest) = tail.lines.pop_front() else {
                break;
            };
            tail.bytes -= oldest.size();
        }
        // Without readers there is nobody to tell.
        let _ = tail.live.send(line);
    }

    /// What is at hand, and what follows.
    pub fn follow(&self, workflow_id: WorkflowId) -> Followed {
        let mut tails = self.lock();
        let tail = tails.entry(workflow_id).or_insert_with(Tail::new);
        Followed {
            at_hand: tail.lines.iter().cloned().collect(),
            lines: tail.live.subscribe(),
            elsewhere: tail.elsewhere.subscribe(),
            _leave: Leave {
                logs: self.clone(),
                workflow_id,
            },
        }
    }

    /// Another process wrote lines of the workflow.
    pub fn written_elsewhere(&self, workflow_id: WorkflowId) {
        if let Some(tail) = self.lock().get(&workflow_id) {
            tail.elsewhere.send_replace(());
        }
    }

    /// Workflows that are read here, or were spoken of.
    pub fn workflows(&self) -> Vec<WorkflowId> {
        self.lock().keys().copied().collect()
    }

    /// Whether anything is at hand.
    pub fn has_lines(&self, workflow_id: WorkflowId) -> bool {
        let tails = self.lock();
        tails
            .get(&workflow_id)
            .is_some_and(|tail| !tail.lines.is_empty())
    }

    /// The workflow has ended: its readers are done.
    pub fn end(&self, workflow_id: WorkflowId) {
        self.lock().remove(&workflow_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkflowId, Tail>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            next: 0,
            live: broadcast::Sender::new(QUEUE),
            elsewhere: watch::Sender::new(()),
        }
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.live.receiver_count() == 0
    }
}

impl Line {
    /// Stands for lines that came too fast.
    pub fn missed(sequence: i64, count: u64) -> Self {
        let log = Log {
            stream: LogStream::Agent.into(),
            level: LogLevel::Warn.into(),
            text: format!("{count} lines were too fast for this reader; the log artifact has them"),
        };
        Self {
            sequence,
            said: Arc::new(WatchWorkflowLogsResponse {
                time: Some(wire_time::now()),
                log: Some(log),
                ..WatchWorkflowLogsResponse::default()
            }),
        }
    }

    /// Bytes of its text.
    pub fn size(&self) -> usize {
        self.said.log.as_ref().map_or(0, |log| log.text.len())
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_within_bounds() {
        let logs = Logs::default();
        let workflow = WorkflowId::new();
        for number in 0..3000 {
            let text = format!("{number} {}", "x".repeat(2000));
            let log = Some(Log {
                text,
                ..Log::default()
            });
            logs.push(
                workflow,
                WatchWorkflowLogsResponse {
                    log,
                    ..Default::default()
                },
            );
        }
        let lines = logs.follow(workflow).at_hand;
        assert!(
            lines.len() < 600,
            "a megabyte is the most, not {} lines",
            lines.len()
        );
        assert!(
            lines
                .last()
                .unwrap()
                .said
                .log
                .as_ref()
                .unwrap()
                .text
                .starts_with("2999 ")
        );
        logs.end(workflow);
        assert!(logs.follow(workflow).at_hand.is_empty());
    }

    #[test]
    fn nothing_stays_of_a_workflow_that_nobody_reads_and_nobody_spoke_of() {
        let logs = Logs::default();
        let workflow = WorkflowId::new();
        let (first, second) = (logs.follow(workflow), logs.follow(workflow));
        drop(first);
        assert_eq!(logs.workflows(), [workflow]);
        drop(second);
        assert!(logs.workflows().is_empty());
        logs.push(workflow, WatchWorkflowLogsResponse::default());
        drop(logs.follow(workflow));
        assert!(logs.has_lines(workflow));
    }
}
