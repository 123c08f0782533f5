//! A pipeline that has been checked: a graph without cycles, in an order in which it can run, with
//! every default filled in. Knows what stages need of each other, not what has become of them.

mod parse;

use std::time::Duration;

use contracts::error::Error;
use contracts::orchestrator::{self, StageTask};
use contracts::task::{AgentType, DecisionCategory};

use super::order::Set;

/// Most stages of a pipeline.
pub const STAGE_COUNT: usize = 64;

/// A checked pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Name.
    pub name: String,
    /// Version.
    pub version: i32,
    /// Stages: each after all that it needs, otherwise as they were given. At most 64.
    pub stages: Vec<StageDefinition>,
}

/// What a need asks of the other stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It succeeded, was skipped, or is optional and ended.
    Succeeded,
    /// It succeeded, failed or was skipped.
    Completed,
    /// It ended.
    Always,
}

/// One need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Number of the other stage; lower than that of the stage that needs it.
    pub stage: usize,
    /// What is asked of it.
    pub condition: Condition,
}

/// When a stage is needed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// Unless the project is known not to be an app.
    ProjectIsApp,
}

/// How attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all that may fail or time out: 1 to 20.
    pub max_attempts: u32,
    /// Attempts in all that may be lost: 1 to 100.
    pub max_lost: u32,
    /// First delay.
    pub initial_backoff: Duration,
    /// Longest delay.
    pub max_backoff: Duration,
}

/// Who repairs what this stage finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// Number of the stage that repairs: an ancestor of scaffold type.
    pub stage: usize,
    /// How often: 1 to 10.
    pub max_rounds: u32,
}

/// A stage of a checked pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDefinition {
    /// Name.
    pub name: String,
    /// Which agent type runs it.
    pub agent_type: AgentType,
    /// What its agent is to do.
    pub task: StageTask,
    /// What must have happened before.
    pub needs: Vec<Need>,
    /// When it is needed at all.
    pub when: When,
    /// Longest wait for a slot.
    pub schedule_timeout: Duration,
    /// Longest run of one attempt.
    pub timeout: Duration,
    /// Longest time without activity.
    pub progress_timeout: Duration,
    /// How attempts are repeated.
    pub retry: RetryPolicy,
    /// A person is asked before it runs.
    pub decision: Option<DecisionCategory>,
    /// What undoes it.
    pub undo: Option<StageTask>,
    /// Its share of the progress: 1 to 100.
    pub weight: u32,
    /// What happens when its verdict is FAILED.
    pub repair: Option<Repair>,
    /// The workflow may succeed without it.
    pub optional: bool,
    /// What the concurrency key is made of. Empty: it has none.
    pub concurrency_key: String,
    /// All stages that it needs, directly or not.
    pub(super) ancestors: Set,
    /// All stages that need it, directly or not.
    pub(super) descendants: Set,
}

impl Pipeline {
    /// Checks a pipeline. Everything that is wrong is told at once, with the path of its field.
    pub fn parse(proto: &orchestrator::Pipeline) -> Result<Self, Error> {
        parse::pipeline(proto)
    }

    /// Number of a stage.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }
}

impl StageDefinition {
    /// Whether it is meant to run also when a stage before it did not succeed.
    pub fn runs_after_failure(&self) -> bool {
        self.needs
            .iter()
            .any(|need| need.condition != Condition::Succeeded)
    }
}

#[cfg(test)]
mod tests;
