//! Logs of one workflow: what is at hand, and what follows.

use std::collections::HashSet;

use futures::StreamExt;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::WorkflowId;
use contracts::orchestrator::WatchWorkflowLogsResponse;
use contracts::task::{Log, LogLevel, LogStream};
use contracts::{LOG_ARTIFACT, LOG_ARTIFACT_OWN, wire_time};

use crate::artifacts::ArtifactStore;
use crate::engine::Engine;
use crate::grpc::store_error;
use crate::store::artifacts::{self, ArtifactRow};

// More attempts than any workflow has; and a bound for one that does.
const ATTEMPTS_MOST: i64 = 1000;
// A line that is longer is cut in two.
const LINE_BYTES: usize = 64 * 1024;

type Sender = mpsc::Sender<Result<WatchWorkflowLogsResponse, Status>>;

/// Which lines.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) namespace: String,
    pub(super) stage: String,
    pub(super) follow: bool,
}

impl Reader {
    pub(super) async fn run(
        self,
        engine: Engine,
        store: ArtifactStore,
        workflow_id: WorkflowId,
        sender: Sender,
    ) {
        let (at_hand, mut following) = engine.logs().follow(workflow_id);
        let shown: HashSet<_> = at_hand
            .iter()
            .map(|line| (line.stage.clone(), line.attempt))
            .collect();
        if let Err(error) = self
            .kept(&engine, &store, workflow_id, &shown, &sender)
            .await
        {
            // The reader may be gone.
            let _ = sender.send(Err(error.into())).await;
            return;
        }
        for line in at_hand {
            if self.wants(&line.stage) && sender.send(Ok((*line).clone())).await.is_err() {
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
                Ok(line) if self.wants(&line.stage) => (*line).clone(),
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

    fn wants(&self, stage: &str) -> bool {
        self.stage.is_empty() || self.stage == stage
    }

    // The logs of attempts that are over and no longer at hand: each is one artifact.
    async fn kept(
        &self,
        engine: &Engine,
        store: &ArtifactStore,
        workflow_id: WorkflowId,
        shown: &HashSet<(String, i32)>,
        sender: &Sender,
    ) -> Result<(), Error> {
        let stage = Some(self.stage.as_str()).filter(|stage| !stage.is_empty());
        let rows = async {
            let client = engine.store().client().await?;
            let namespace = &self.namespace;
            artifacts::list(&client, namespace, workflow_id, stage, 0, ATTEMPTS_MOST).await
        };
        for row in rows.await.map_err(store_error)? {
            let artifact = &row.artifact;
            let of = (artifact.stage.clone().unwrap_or_default(), artifact.attempt);
            if artifact.name == LOG_ARTIFACT
                && !shown.contains(&of)
                && !send_kept(store, &row, sender).await?
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

// False: the reader is gone.
async fn send_kept(
    store: &ArtifactStore,
    row: &ArtifactRow,
    sender: &Sender,
) -> Result<bool, Error> {
    let artifact = &row.artifact;
    let digest = artifact.digest.parse().map_err(|_| Error::internal())?;
    let size = u64::try_from(artifact.size_bytes).unwrap_or(0);
    let mut bytes = store.read(digest, size, 0..size);
    let mut rest = Vec::new();
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|error| {
            tracing::warn!(error = ?error, digest = artifact.digest, "a kept log was not read");
            Error::new(
                ErrorReason::ArtifactStoreUnavailable,
                "the kept log cannot be read now",
            )
        })?;
        rest.extend_from_slice(&piece);
        while let Some(end) = line_end(&rest) {
            let line: Vec<u8> = rest.drain(..end).collect();
            if !send_line(row, &line, sender).await {
                return Ok(false);
            }
        }
    }
    Ok(rest.is_empty() || send_line(row, &rest, sender).await)
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|at| at + 1);
    end.or_else(|| (bytes.len() >= LINE_BYTES).then_some(LINE_BYTES))
}

async fn send_line(row: &ArtifactRow, line: &[u8], sender: &Sender) -> bool {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    let (stream, level, text) = match text.strip_prefix(LOG_ARTIFACT_OWN) {
        Some(own) => (LogStream::Agent, LogLevel::Info, own),
        None => (LogStream::Stdout, LogLevel::Unspecified, text),
    };
    let log = Log {
        stream: stream.into(),
        level: level.into(),
        text: text.to_owned(),
    };
    let line = WatchWorkflowLogsResponse {
        stage: row.artifact.stage.clone().unwrap_or_default(),
        attempt: row.artifact.attempt,
        time: Some(wire_time::timestamp(row.create_time)),
        log: Some(log),
    };
    sender.send(Ok(line)).await.is_ok()
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
