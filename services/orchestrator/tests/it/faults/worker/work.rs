//! What the agents of a process do: a moment of work, or work that goes on until the test lets it
//! go. What was begun, and what is going on, is in files that the test reads.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use agent_runtime::Assignment;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::task::{LogLevel, Outcome, TaskContext, Verdict};

use super::Orders;

/// Label of a workflow: which of its stages waits for the test.
pub const HELD: &str = "held-stage";
/// Label of a workflow: how it waits.
pub const MANNER: &str = "held-manner";

const WORK: Duration = Duration::from_millis(150);
const TICK: Duration = Duration::from_millis(50);
const LINE_BYTES: usize = 1 << 10;

/// How held work passes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// Makes a mark, again and again.
    Marks,
    /// Says a lot, too.
    Talks,
    /// Does nothing in its first attempt, and does not stop when it is told to.
    Stuck,
}

impl Manner {
    /// As a label.
    pub fn label(self) -> String {
        serde_json::to_string(&self).unwrap().replace('"', "")
    }
}

/// The work of a process.
#[derive(Debug)]
pub(super) struct Work {
    shared: PathBuf,
    artifact_bytes: usize,
}

impl Work {
    pub(super) fn new(orders: &Orders) -> Self {
        Self {
            shared: orders.shared.clone(),
            artifact_bytes: orders.artifact_bytes,
        }
    }

    pub(super) async fn run<T>(&self, assignment: &Assignment<T>) -> Result<Outcome, Error> {
        let context = &assignment.context;
        let begun = format!(
            "epoch {} of {} on {}",
            context.lease_epoch, context.stage, context.agent_instance_id
        );
        append(
            &runs(&self.shared).join(&context.task_id),
            &format!("{begun}\n"),
        )?;
        if context.labels.get(HELD) == Some(&context.stage) {
            self.hold(assignment).await?;
        } else {
            sleep(WORK).await;
        }
        if self.artifact_bytes > 0 {
            // Other bytes for every attempt: what is stored already is not written again.
            let seed = format!("{} {begun} ", context.task_id);
            let bytes: Vec<u8> = seed.bytes().cycle().take(self.artifact_bytes).collect();
            let reporter = &assignment.reporter;
            reporter.artifact("report", "text/plain", &bytes).await?;
        }
        Ok(Outcome {
            verdict: Verdict::Passed.into(),
            summary: "done".to_owned(),
            project_is_app: Some(true),
            ..Outcome::default()
        })
    }

    async fn hold<T>(&self, assignment: &Assignment<T>) -> Result<(), Error> {
        let context = &assignment.context;
        let manner = context.labels.get(MANNER).map(String::as_str);
        let mark = mark(&self.shared, &context.task_id, &context.agent_instance_id);
        append(&mark, ".")?;
        if manner == Some(&Manner::Stuck.label()) && context.attempt == 1 {
            return std::future::pending().await;
        }
        while !is_open(&self.shared, context) {
            tokio::select! {
                biased;
                () = assignment.cancel.cancelled() => {
                    return Err(Error::new(ErrorReason::Cancelled, "told to stop"));
                }
                () = sleep(TICK) => {}
            }
            append(&mark, ".")?;
            assignment.reporter.active();
            if manner == Some(&Manner::Talks.label()) {
                let line = "talk".repeat(LINE_BYTES / 4);
                assignment.reporter.log(LogLevel::Info, line);
            }
        }
        Ok(())
    }
}

/// Where a file per task has a line for each time that its work was begun.
pub fn runs(shared: &Path) -> PathBuf {
    shared.join("runs")
}

/// Where held work of a task on an agent makes its marks.
pub fn mark(shared: &Path, task_id: &str, instance_id: &str) -> PathBuf {
    shared
        .join("marks")
        .join(format!("{task_id}.{instance_id}"))
}

/// What lets all held work go, or that of one task, by being there.
pub fn gate(shared: &Path, task_id: Option<&str>) -> PathBuf {
    shared.join("gates").join(task_id.unwrap_or("all"))
}

fn is_open(shared: &Path, context: &TaskContext) -> bool {
    gate(shared, None).exists() || gate(shared, Some(&context.task_id)).exists()
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::new(ErrorReason::Infrastructure, error.to_string()))
}
