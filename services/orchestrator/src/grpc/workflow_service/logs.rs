//! Logs of one workflow: what is at hand, and what follows.

use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use contracts::id::WorkflowId;
use contracts::orchestrator::WatchWorkflowLogsResponse;
use contracts::task::{Log, LogLevel, LogStream};
use contracts::wire_time;

use crate::engine::Engine;

/// Which lines.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) stage: String,
    pub(super) follow: bool,
}

impl Reader {
    pub(super) async fn run(
        self,
        engine: Engine,
        workflow_id: WorkflowId,
        sender: mpsc::Sender<Result<WatchWorkflowLogsResponse, Status>>,
    ) {
        let (at_hand, mut following) = engine.logs().follow(workflow_id);
        for line in at_hand {
            if self.wants(&line) && sender.send(Ok((*line).clone())).await.is_err() {
                return;
            }
        }
        if !self.follow {
            if engine.logs().is_idle(workflow_id) {
                engine.logs().end(workflow_id);
            }
            return;
        }
        loop {
            let received = tokio::select! {
                biased;
                () = sender.closed() => return,
                received = following.recv() => received,
            };
            let line = match received {
                Ok(line) if self.wants(&line) => (*line).clone(),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(count)) => missed(count),
                // The workflow has ended.
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
    }

    fn wants(&self, line: &WatchWorkflowLogsResponse) -> bool {
        self.stage.is_empty() || self.stage == line.stage
    }
}

fn missed(count: u64) -> WatchWorkflowLogsResponse {
    WatchWorkflowLogsResponse {
        time: Some(wire_time::now()),
        log: Some(Log {
            stream: LogStream::Agent.into(),
            level: LogLevel::Warn.into(),
            text: format!("{count} lines were too fast for this reader; the log artifact has them"),
        }),
        ..WatchWorkflowLogsResponse::default()
    }
}
