//! What an agent author writes: one trait. Everything else (registration, leases, streams,
//! progress, logs, artifacts, cancellation, drain, tracing) comes from this crate.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use prost::{Message, Name};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use contracts::error::Error;
use contracts::orchestrator::Capability;
use contracts::task::{AgentType, TaskContext};

use crate::reporter::Reporter;

/// An agent type.
///
/// A failing test suite is a result, not an error: an error means that we do not know.
pub trait Agent: Send + Sync + 'static {
    /// What it is told to do.
    type Task: Message + Default + Clone;
    /// What comes of it.
    type Result: Message + Name + Default + Clone;
    /// Which type it is.
    const TYPE: AgentType;

    /// What it is able to do here: tools found, templates, targets.
    fn capabilities(&self) -> impl Future<Output = Vec<Capability>> + Send;

    /// Does the work. Runs once per attempt, may run twice per task: whatever has an effect outside
    /// must be keyed by `assignment.task_id()`. When `assignment.cancel` fires, stop and return;
    /// what was not stopped is dropped.
    fn run(
        &self,
        assignment: Assignment<Self::Task>,
    ) -> impl Future<Output = Result<Self::Result, Error>> + Send;
}

/// One attempt at one task.
#[derive(Debug, Clone)]
pub struct Assignment<T> {
    /// What every task is told. `task_id` is always set, `repository` may be missing.
    pub context: TaskContext,
    /// What to do.
    pub task: T,
    /// How to say what is going on.
    pub reporter: Reporter,
    /// A folder of the attempt's own; gone when it is over.
    pub folder: PathBuf,
    /// Fires when the task is cancelled or its deadline has passed.
    pub cancel: CancellationToken,
    /// When the work must be over.
    pub deadline: Instant,
}

impl<T> Assignment<T> {
    /// Identifies the task over all its attempts.
    pub fn task_id(&self) -> &str {
        &self.context.task_id
    }

    /// Time that is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The same attempt with another task, for agents that break theirs up.
    pub fn with_task<U>(&self, task: U) -> Assignment<U> {
        Assignment {
            context: self.context.clone(),
            task,
            reporter: self.reporter.clone(),
            folder: self.folder.clone(),
            cancel: self.cancel.clone(),
            deadline: self.deadline,
        }
    }
}
