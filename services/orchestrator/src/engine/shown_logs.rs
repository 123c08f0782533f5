//! Shows the log lines of attempts that are driven here to whoever reads them on another replica: as long as somebody
//! does, they are written where that replica looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use contracts::id::WorkflowId;

use super::{Engine, EngineError};
use crate::logs::Line;
use crate::store::connection::Client;
use crate::store::{log_lines, tasks};

/// Readers say again and again that they are there.
pub const WANTED_EVERY: Duration = Duration::from_secs(3);
/// So long after the last word of a reader it is taken for gone.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// What is said in this time is written together.
const TOGETHER: Duration = Duration::from_millis(200);
/// No more in one go: a reader cannot follow, and the database has better things to do.
const BYTES: usize = 256 * 1024;
/// A replica that has not read lines by then looked away.
pub(super) const KEPT: Duration = Duration::from_secs(30);
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Which workflows' logs are shown to others.
#[derive(Debug, Default)]
pub(super) struct ShownLogs(Mutex<HashMap<WorkflowId, Shown>>);

#[derive(Debug)]
struct Shown {
    until: Instant,
    // Another reader wants what is at hand.
    again: Arc<Notify>,
}

impl ShownLogs {
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkflowId, Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Until when; `None`: from now on it is not shown any more.
    fn until(&self, workflow_id: WorkflowId) -> Option<Instant> {
        let mut shown = self.lock();
        let until = shown.get(&workflow_id)?.until;
        if until <= Instant::now() {
            shown.remove(&workflow_id);
            return None;
        }
        Some(until)
    }
}

impl Engine {
    /// Somebody reads the logs of a workflow here, and wants those of attempts that others drive.
    pub async fn want_logs(
        &self,
        workflow_id: WorkflowId,
        from_start: bool,
    ) -> Result<(), EngineError> {
        let client = self.store().client().await?;
        log_lines::want(&client, workflow_id, &self.shared.replica_id).await?;
        self.shared.hints.logs_wanted(workflow_id, from_start);
        Ok(())
    }

    /// Whether an attempt of a workflow is driven by another replica.
    pub async fn is_driven_elsewhere(&self, workflow_id: WorkflowId) -> Result<bool, EngineError> {
        let client = self.store().client().await?;
        let replica_id = &self.shared.replica_id;
        Ok(tasks::is_driven_elsewhere(&client, workflow_id, replica_id).await?)
    }

    /// Log lines of others that were not seen yet. True: there are more.
    pub async fn unseen_lines(
        &self,
        workflow_id: WorkflowId,
        seen: &BTreeMap<String, i64>,
    ) -> Result<(Vec<log_lines::LineRow>, bool), EngineError> {
        let client = self.store().client().await?;
        let replica_id = &self.shared.replica_id;
        Ok(log_lines::unseen(&client, workflow_id, replica_id, seen).await?)
    }

    /// Somebody reads the logs of a workflow elsewhere.
    pub(super) fn show_logs(&self, workflow_id: WorkflowId, from_start: bool) {
        let until = Instant::now() + WANTED_FOR;
        let mut shown = self.shared.shown_logs.lock();
        if let Some(shown) = shown.get_mut(&workflow_id) {
            shown.until = until;
            if from_start {
                shown.again.notify_one();
            }
            return;
        }
        let is_driven = self.drives().keys().any(|(id, _)| *id == workflow_id);
        if !is_driven && !self.logs().has_lines(workflow_id) {
            return;
        }
        let again = Arc::new(Notify::new());
        let entry = Shown {
            until,
            again: again.clone(),
        };
        shown.insert(workflow_id, entry);
        let engine = self.clone();
        let showing = async move { show(&engine, workflow_id, &again).await };
        self.shared.tracker.spawn(showing);
    }

    /// Finds out who reads logs elsewhere, without a hint.
    pub(super) async fn look_for_readers(&self, client: &Client) -> Result<(), EngineError> {
        let replica_id = &self.shared.replica_id;
        for workflow_id in log_lines::wanted(client, replica_id, WANTED_FOR).await? {
            self.show_logs(workflow_id, false);
        }
        Ok(())
    }

    async fn write_lines(
        &self,
        workflow_id: WorkflowId,
        lines: &[Line],
    ) -> Result<(), EngineError> {
        if !lines.is_empty() {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| (line.sequence, line.said.encode_to_vec()))
                .collect();
            let client = self.store().client().await?;
            log_lines::write(&client, workflow_id, &self.shared.replica_id, &lines).await?;
        }
        // With nothing to say, too: that is an answer.
        self.shared.hints.logs_written(workflow_id);
        Ok(())
    }
}

async fn show(engine: &Engine, workflow_id: WorkflowId, again: &Notify) {
    let mut followed = engine.logs().follow(workflow_id);
    let mut lines = std::mem::take(&mut followed.at_hand);
    let mut last = -1;
    let mut forgotten = Instant::now();
    loop {
        last = lines.iter().map(|line| line.sequence).fold(last, i64::max);
        if let Err(error) = engine.write_lines(workflow_id, &lines).await {
            // The artifact has them.
            tracing::warn!(error = ?error, agentic.workflow.id = %workflow_id, "log lines were not shown to other replicas");
        }
        if forgotten.elapsed() > FORGET_EVERY {
            forgotten = Instant::now();
            if let Err(error) = forget(engine).await {
                tracing::warn!(error = ?error, "shown log lines were not taken away");
            }
        }
        lines = loop {
            let Some(until) = engine.shared.shown_logs.until(workflow_id) else {
                return;
            };
            tokio::select! {
                biased;
                () = engine.shared.shutdown.cancelled() => return,
                () = again.notified() => break engine.logs().follow(workflow_id).at_hand,
                received = followed.lines.recv() => match received {
                    Ok(line) => break gather(line, &mut followed.lines).await,
                    Err(RecvError::Lagged(count)) => break vec![Line::missed(last + 1, count)],
                    // The workflow has ended.
                    Err(RecvError::Closed) => {
                        engine.shared.shown_logs.lock().remove(&workflow_id);
                        return;
                    }
                },
                () = tokio::time::sleep_until(until) => {}
            }
        };
    }
}

// The line and those that come soon.
async fn gather(first: Line, following: &mut Receiver<Line>) -> Vec<Line> {
    let mut bytes = first.size();
    let mut last = first.sequence;
    let mut lines = vec![first];
    let mut left_out = None;
    let more = async {
        loop {
            let (sequence, count) = match following.recv().await {
                Ok(line) => {
                    last = line.sequence;
                    bytes += line.size();
                    if bytes <= BYTES {
                        lines.push(line);
                        continue;
                    }
                    (last, 1)
                }
                Err(RecvError::Lagged(count)) => (last + 1, count),
                // It says so again.
                Err(RecvError::Closed) => return,
            };
            left_out.get_or_insert((sequence, 0)).1 += count;
        }
    };
    let _ = tokio::time::timeout(TOGETHER, more).await;
    lines.extend(left_out.map(|(sequence, count)| Line::missed(sequence, count)));
    lines
}

/// Takes lines away that nobody will read.
pub(super) async fn forget(engine: &Engine) -> Result<(), EngineError> {
    let client = engine.store().client().await?;
    Ok(log_lines::forget(&client, KEPT).await?)
}
