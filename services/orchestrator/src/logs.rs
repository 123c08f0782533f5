//! The newest log lines of tasks that run here, for whoever looks on. Whole logs are artifacts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use contracts::id::WorkflowId;
use contracts::orchestrator::WatchWorkflowLogsResponse;

// Enough to see what led up to now.
const LINES: usize = 1000;
const BYTES: usize = 1024 * 1024;
// A reader that lags further misses live lines, and is told so; the artifact has them.
const QUEUE: usize = 1024;

/// A line of log, as it is sent.
pub type Line = Arc<WatchWorkflowLogsResponse>;

/// One per process.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    tails: Arc<Mutex<HashMap<WorkflowId, Tail>>>,
}

#[derive(Debug)]
struct Tail {
    lines: VecDeque<Line>,
    bytes: usize,
    live: broadcast::Sender<Line>,
}

impl Logs {
    /// Adds a line.
    pub fn push(&self, workflow_id: WorkflowId, line: WatchWorkflowLogsResponse) {
        let line = Arc::new(line);
        let mut tails = self.lock();
        let tail = tails.entry(workflow_id).or_insert_with(Tail::new);
        tail.bytes += size(&line);
        tail.lines.push_back(line.clone());
        while tail.lines.len() > LINES || tail.bytes > BYTES {
            let Some(oldest) = tail.lines.pop_front() else {
                break;
            };
            tail.bytes -= size(&oldest);
        }
        // Without readers there is nobody to tell.
        let _ = tail.live.send(line);
    }

    /// What is at hand, and what follows.
    pub fn follow(&self, workflow_id: WorkflowId) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let mut tails = self.lock();
        let tail = tails.entry(workflow_id).or_insert_with(Tail::new);
        (tail.lines.iter().cloned().collect(), tail.live.subscribe())
    }

    /// Whether nothing was ever said.
    pub fn is_idle(&self, workflow_id: WorkflowId) -> bool {
        self.lock()
            .get(&workflow_id)
            .is_none_or(|tail| tail.lines.is_empty() && tail.live.receiver_count() <= 1)
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
            live: broadcast::Sender::new(QUEUE),
        }
    }
}

fn size(line: &Line) -> usize {
    line.log.as_ref().map_or(0, |log| log.text.len())
}

#[cfg(test)]
mod tests {
    use contracts::task::Log;

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
        let (lines, _) = logs.follow(workflow);
        assert!(
            lines.len() < 600,
            "a megabyte is the most, not {} lines",
            lines.len()
        );
        assert!(
            lines
                .last()
                .unwrap()
                .log
                .as_ref()
                .unwrap()
                .text
                .starts_with("2999 ")
        );
        logs.end(workflow);
        assert!(logs.follow(workflow).0.is_empty());
    }
}
