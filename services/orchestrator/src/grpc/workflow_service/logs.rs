//! Logs of one workflow: what is at hand, and what follows.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::WorkflowId;
use contracts::orchestrator::WatchWorkflowLogsResponse;
use contracts::task::{Log, LogLevel, LogStream};
use contracts::{LOG_ARTIFACT, LOG_ARTIFACT_OWN, wire_time};

use crate::artifacts::ArtifactStore;
use crate::engine::Engine;
use crate::engine::shown_logs::WANTED_EVERY;
use crate::grpc::store_error;
use crate::logs::{Followed, Line};
use crate::store::artifacts::{self, ArtifactRow};
use crate::store::workflows;

// More attempts than any workflow has; and a bound for one that does.
const ATTEMPTS_MOST: i64 = 1000;
// A line that is longer is cut in two.
const LINE_BYTES: usize = 64 * 1024;
// The guarantee behind the hints of other replicas.
const LOOK_EVERY: Duration = Duration::from_secs(1);
// For what a replica has at hand that is asked for it.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1500);
// For lines that were said before the end and written after it.
const LAST_WITHIN: Duration = Duration::from_millis(500);

type Sender = mpsc::Sender<Result<WatchWorkflowLogsResponse, Status>>;

/// Which lines.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) namespace: String,
    pub(super) stage: String,
    pub(super) follow: bool,
}

// An attempt whose whole log was kept.
type Kept = HashSet<(String, i32)>;

impl Reader {
    pub(super) async fn run(
        self,
        engine: Engine,
        store: ArtifactStore,
        workflow_id: WorkflowId,
        sender: Sender,
    ) {
        if let Err(error) = self.read(&engine, &store, workflow_id, &sender).await {
            // The reader may be gone.
            let _ = sender.send(Err(error.into())).await;
        }
    }

    async fn read(
        &self,
        engine: &Engine,
        store: &ArtifactStore,
        workflow_id: WorkflowId,
        sender: &Sender,
    ) -> Result<(), Error> {
        let mut followed = engine.logs().follow(workflow_id);
        // Only now: whatever ends from here on is heard of.
        let has_ended = self.has_ended(engine, workflow_id).await?;
        if !has_ended {
            want(engine, workflow_id, true).await?;
        }
        let at_hand = std::mem::take(&mut followed.at_hand);
        let Some(kept) = self
            .kept(engine, store, workflow_id, &at_hand, sender)
            .await?
        else {
            return Ok(());
        };
        for line in at_hand {
            if !self.send(&line.said, sender).await {
                return Ok(());
            }
        }
        if has_ended {
            return Ok(());
        }
        let mut elsewhere = Elsewhere {
            engine,
            workflow_id,
            kept,
            seen: BTreeMap::new(),
        };
        if self.follow {
            return self.follow(followed, &mut elsewhere, sender).await;
        }
        let driven = engine.is_driven_elsewhere(workflow_id).await;
        if driven.map_err(Error::from)? {
            // Whoever drives it may be dead: then there is nothing more to show.
            let _ = tokio::time::timeout(ANSWERED_WITHIN, followed.elsewhere.changed()).await;
            elsewhere.read(self, sender).await?;
        }
        Ok(())
    }

    // Goes on until the workflow ends, or the reader is gone.
    async fn follow(
        &self,
        mut followed: Followed,
        elsewhere: &mut Elsewhere<'_>,
        sender: &Sender,
    ) -> Result<(), Error> {
        let (engine, workflow_id) = (elsewhere.engine, elsewhere.workflow_id);
        let mut look = interval(LOOK_EVERY);
        let mut again = interval(WANTED_EVERY);
        loop {
            let received = tokio::select! {
                biased;
                () = sender.closed() => return Ok(()),
                received = followed.lines.recv() => received,
                // An error: the workflow has ended, and the branch above says so.
                Ok(()) = followed.elsewhere.changed() => {
                    or_later(elsewhere.read(self, sender).await, true);
                    continue;
                }
                _ = again.tick() => {
                    or_later(want(engine, workflow_id, false).await, ());
                    continue;
                }
                _ = look.tick(), if !engine.is_alone() => {
                    let has_ended = or_later(self.has_ended(engine, workflow_id).await, false);
                    or_later(elsewhere.read(self, sender).await, true);
                    if has_ended {
                        break;
                    }
                    continue;
                }
            };
            let line = match received {
                Ok(line) => line,
                Err(RecvError::Lagged(count)) => Line::missed(0, count),
                // The workflow has ended.
                Err(RecvError::Closed) => break,
            };
            if !self.send(&line.said, sender).await {
                return Ok(());
            }
        }
        if !engine.is_alone() {
            // What was said last may be on its way.
            tokio::time::sleep(LAST_WITHIN).await;
            elsewhere.read(self, sender).await?;
        }
        Ok(())
    }

    async fn has_ended(&self, engine: &Engine, workflow_id: WorkflowId) -> Result<bool, Error> {
        let found = async {
            let client = engine.store().client().await?;
            workflows::last_sequence(&client, &self.namespace, workflow_id).await
        };
        // What retention has taken away had ended.
        let found = found.await.map_err(store_error)?;
        Ok(found.is_none_or(|(_, has_ended)| has_ended))
    }

    // False: the reader is gone.
    async fn send(&self, line: &WatchWorkflowLogsResponse, sender: &Sender) -> bool {
        let is_wanted = self.stage.is_empty() || line.stage.is_empty() || self.stage == line.stage;
        !is_wanted || sender.send(Ok(line.clone())).await.is_ok()
    }

    // The logs of attempts that are over and no longer at hand: each is one artifact. `None`: the reader is gone.
    async fn kept(
        &self,
        engine: &Engine,
        store: &ArtifactStore,
        workflow_id: WorkflowId,
        at_hand: &[Line],
        sender: &Sender,
    ) -> Result<Option<Kept>, Error> {
        let shown: HashSet<_> = at_hand
            .iter()
            .map(|line| (line.said.stage.clone(), line.said.attempt))
            .collect();
        let stage = Some(self.stage.as_str()).filter(|stage| !stage.is_empty());
        let rows = async {
            let client = engine.store().client().await?;
            let namespace = &self.namespace;
            artifacts::list(&client, namespace, workflow_id, stage, 0, ATTEMPTS_MOST).await
        };
        let mut kept = Kept::new();
        for row in rows.await.map_err(store_error)? {
            let artifact = &row.artifact;
            let of = (artifact.stage.clone().unwrap_or_default(), artifact.attempt);
            if artifact.name != LOG_ARTIFACT || shown.contains(&of) {
                continue;
            }
            if !send_kept(store, &row, sender).await? {
                return Ok(None);
            }
            kept.insert(of);
        }
        Ok(Some(kept))
    }
}

// Lines of attempts that other replicas drive.
struct Elsewhere<'e> {
    engine: &'e Engine,
    workflow_id: WorkflowId,
    kept: Kept,
    // By replica, how far.
    seen: BTreeMap<String, i64>,
}

impl Elsewhere<'_> {
    // Sends what is new. False: the reader is gone.
    async fn read(&mut self, reader: &Reader, sender: &Sender) -> Result<bool, Error> {
        loop {
            let unseen = self.engine.unseen_lines(self.workflow_id, &self.seen).await;
            let (rows, more) = unseen.map_err(Error::from)?;
            for row in rows {
                self.seen.insert(row.replica_id, row.sequence);
                // One of a newer version, perhaps; the artifact has it.
                let Ok(line) = WatchWorkflowLogsResponse::decode(row.line.as_slice()) else {
                    continue;
                };
                if self.kept.contains(&(line.stage.clone(), line.attempt)) {
                    continue;
                }
                if !reader.send(&line, sender).await {
                    return Ok(false);
                }
            }
            if !more {
                return Ok(true);
            }
        }
    }
}

async fn want(engine: &Engine, workflow_id: WorkflowId, from_start: bool) -> Result<(), Error> {
    if engine.is_alone() {
        return Ok(());
    }
    let wanted = engine.want_logs(workflow_id, from_start).await;
    wanted.map_err(Error::from)
}

// A database that is away for a moment ends no reading: lines of attempts that are driven here still come, and the next
// look makes the others good.
fn or_later<T>(looked: Result<T, Error>, otherwise: T) -> T {
    looked.unwrap_or_else(|error| {
        tracing::warn!(error = ?error, "log lines of other replicas were not looked at");
        otherwise
    })
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
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
