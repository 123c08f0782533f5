//! Where a workflow stands: everything the plan must remember between two events, and nothing that
//! the pipeline says already. Serialised as it is; numbers of stages are those of the pipeline.

use std::collections::BTreeSet;

use contracts::id::{ClarificationId, DecisionId};
use contracts::orchestrator;
use contracts::task::{self, DecisionCategory};
use serde::{Deserialize, Serialize};

use super::event::{Command, DecisionAsk, Event, Rejected};
use super::pipeline::Pipeline;
use super::step::Step;

/// State of a workflow.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[allow(missing_docs, reason = "as in the contract")]
pub enum WorkflowState {
    #[default]
    Pending,
    Running,
    AwaitingDecision,
    AwaitingClarification,
    AwaitingBudget,
    Paused,
    Compensating,
    Succeeded,
    Failed,
    Cancelled,
}

/// State of a stage.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[allow(missing_docs, reason = "as in the contract")]
pub enum StageState {
    #[default]
    Blocked,
    Ready,
    Running,
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
    AwaitingDecision,
    Repairing,
}

/// Three verdicts, never two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Seen to hold.
    Passed,
    /// Seen not to hold.
    Failed,
    /// Not seen either way.
    NotProven,
}

/// What the agent of a stage is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskKind {
    /// What the pipeline says.
    #[default]
    Run,
    /// Repair what another stage found.
    Repair {
        /// Stage whose findings they are.
        findings_of: String,
        /// Which round, from 1.
        round: u32,
    },
    /// Undo what the stage did.
    Undo,
}

/// Whether there is a task for a stage now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// There is none.
    #[default]
    Absent,
    /// It waits for an agent.
    Waiting,
    /// An agent has it.
    Leased,
}

/// Whether a person must agree before a stage runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// Nobody.
    #[default]
    NotNeeded,
    /// Somebody, still.
    Needed(#[serde(with = "category")] DecisionCategory),
    /// Somebody did.
    Given(#[serde(with = "category")] DecisionCategory),
}

/// A decision that a stage waits for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// What the last result asks. `None`: whether the stage may run at all.
    pub after_run: Option<DecisionAsk>,
    /// Whether it was asked.
    pub asked: bool,
    /// The decision, once it is known.
    pub decision_id: Option<DecisionId>,
}

/// Attempts that count against the retries of the task at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charges {
    /// Failed or timed out.
    pub failed: u32,
    /// Lost.
    pub lost: u32,
    /// Refused.
    pub refused: u32,
}

/// Where a stage stands. Stored with every step, and most of it is as in the beginning: that is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with its own events"
)]
pub struct Stage {
    /// Name.
    pub name: String,
    /// State.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: StageState,
    /// Verdict of its last result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verdict: Option<Verdict>,
    /// One sentence about how it ended, or why it waits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub summary: String,
    /// What its task is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: TaskKind,
    /// Whether there is a task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task: TaskState,
    /// Which task it is: grows with every new piece of work, not with a retry.
    pub generation: u32,
    /// Attempts started, over all generations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// Attempts that failed or timed out, over all generations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failed_count: u32,
    /// Attempts that were lost, over all generations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost_count: u32,
    /// What counts against the retries now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub charges: Charges,
    /// Rounds of repair that its findings caused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repair_round: u32,
    /// A repair was asked for, and waits until nothing runs that it would pull the rug from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repair_waits: bool,
    /// Newest epoch; only grows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lease_epoch: i64,
    /// Its agent was told to stop.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stopping: bool,
    /// Whether a person must agree before it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approval: Approval,
    /// The decision it waits for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub question: Option<Question>,
    /// A person accepted it in spite of its verdict.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waived: bool,
    /// It was run again once by itself, without a person.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rerun_by_itself: bool,
    /// Whether it was undone; `None`: nobody tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub undo: Option<Verdict>,
    /// Why it could not be undone. Empty: it was, or nobody tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub undo_problem: String,
}

/// How a workflow ended, or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// PASSED only if every required stage passed or was waived.
    pub verdict: Verdict,
    /// Stage that decided it. Empty: none.
    pub stage: String,
    /// One sentence.
    pub reason: String,
}

/// Why a workflow is being stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// Somebody cancelled it.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It took too long.
    TimedOut,
}

/// An open clarification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clarification {
    /// Its id.
    pub clarification_id: ClarificationId,
    /// Number of the stage that waits. `None`: all do.
    pub stage: Option<usize>,
}

/// Where a workflow stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with its own events"
)]
pub struct State {
    /// State.
    pub workflow: WorkflowState,
    /// It was taken in.
    pub submitted: bool,
    /// Something was started.
    pub started: bool,
    /// A person paused it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// The budget ran out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub awaiting_budget: bool,
    /// It is being stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop: Option<Stop>,
    /// A required stage did not succeed: how it will end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure: Option<Outcome>,
    /// It is being undone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compensating: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outcome: Option<Outcome>,
    /// Whether the project is an app, as far as known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub project_is_app: Option<bool>,
    /// Numbers of the stages that succeeded and were not undone since, in that order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effects: Vec<usize>,
    /// Open clarifications.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clarifications: Vec<Clarification>,
    /// Clarifications asked so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clarification_count: u32,
    /// Stages, in the order of the pipeline.
    pub stages: Vec<Stage>,
}

impl State {
    /// Before anything happened. The stages named in `protected` need a person's yes
    /// (DEPLOYMENT) before they run.
    pub fn new(pipeline: &Pipeline, protected: &BTreeSet<String>) -> Self {
        let stages = pipeline.stages.iter().map(|definition| {
            let category = if protected.contains(&definition.name) {
                Some(DecisionCategory::Deployment)
            } else {
                definition.decision
            };
            Stage::new(definition.name.clone(), category)
        });
        Self {
            stages: stages.collect(),
            ..Self::default()
        }
    }

    /// The state after an event, and what must be done in the commit that stores it.
    pub fn apply(
        self,
        pipeline: &Pipeline,
        event: &Event,
    ) -> Result<(Self, Vec<Command>), Rejected> {
        Step::new(pipeline, self)?.run(event)
    }

    /// Whether the workflow has ended.
    pub fn is_terminal(&self) -> bool {
        self.outcome.is_some()
    }

    /// A stage by its name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The epoch that the next lease of a stage should have.
    pub fn next_epoch(&self, name: &str) -> Option<i64> {
        self.stage(name).map(|stage| stage.lease_epoch + 1)
    }

    /// How far the workflow is, 0 to 100; `running` is how far a running stage is, 0 to 100.
    /// 100 only when it succeeded.
    pub fn percent(&self, pipeline: &Pipeline, running: impl Fn(&str) -> f64) -> f64 {
        const MOST_BEFORE_THE_END: f64 = 99.0;
        if self.workflow == WorkflowState::Succeeded {
            return 100.0;
        }
        let (mut done, mut total) = (0.0, 0.0);
        for (stage, definition) in self.stages.iter().zip(&pipeline.stages) {
            let weight = f64::from(definition.weight);
            let part = match stage.state {
                StageState::Succeeded | StageState::Skipped | StageState::Failed => 1.0,
                StageState::Running => share(running(&stage.name)),
                StageState::AwaitingDecision if stage.asks_after_run() => 1.0,
                StageState::Blocked
                | StageState::Ready
                | StageState::Cancelled
                | StageState::AwaitingDecision
                | StageState::Repairing => 0.0,
            };
            done += weight * part;
            total += weight;
        }
        if total > 0.0 {
            (100.0 * done / total).min(MOST_BEFORE_THE_END)
        } else {
            0.0
        }
    }
}

fn share(percent: f64) -> f64 {
    if percent.is_finite() {
        percent.clamp(0.0, 100.0) / 100.0
    } else {
        0.0
    }
}

impl Stage {
    fn new(name: String, category: Option<DecisionCategory>) -> Self {
        Self {
            name,
            generation: 1,
            approval: category.map_or(Approval::NotNeeded, Approval::Needed),
            ..Self::default()
        }
    }

    /// Whether it has ended, for now.
    pub fn has_ended(&self) -> bool {
        matches!(
            self.state,
            StageState::Succeeded
                | StageState::Failed
                | StageState::Skipped
                | StageState::Cancelled
        )
    }

    fn asks_after_run(&self) -> bool {
        self.question
            .as_ref()
            .is_some_and(|question| question.after_run.is_some())
    }
}

impl Verdict {
    /// From the wire; what was not judged is not proven.
    pub fn from_wire(verdict: task::Verdict) -> Self {
        match verdict {
            task::Verdict::Passed => Self::Passed,
            task::Verdict::Failed => Self::Failed,
            task::Verdict::NotProven | task::Verdict::Unspecified => Self::NotProven,
        }
    }
}

impl From<Verdict> for task::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed => Self::Failed,
            Verdict::NotProven => Self::NotProven,
        }
    }
}

impl From<WorkflowState> for orchestrator::WorkflowState {
    fn from(state: WorkflowState) -> Self {
        match state {
            WorkflowState::Pending => Self::Pending,
            WorkflowState::Running => Self::Running,
            WorkflowState::AwaitingDecision => Self::AwaitingDecision,
            WorkflowState::AwaitingClarification => Self::AwaitingClarification,
            WorkflowState::AwaitingBudget => Self::AwaitingBudget,
            WorkflowState::Paused => Self::Paused,
            WorkflowState::Compensating => Self::Compensating,
            WorkflowState::Succeeded => Self::Succeeded,
            WorkflowState::Failed => Self::Failed,
            WorkflowState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<StageState> for orchestrator::StageState {
    fn from(state: StageState) -> Self {
        match state {
            StageState::Blocked => Self::Blocked,
            StageState::Ready => Self::Ready,
            StageState::Running => Self::Running,
            StageState::Succeeded => Self::Succeeded,
            StageState::Failed => Self::Failed,
            StageState::Skipped => Self::Skipped,
            StageState::Cancelled => Self::Cancelled,
            StageState::AwaitingDecision => Self::AwaitingDecision,
            StageState::Repairing => Self::Repairing,
        }
    }
}

/// Whether something is as in the beginning, and need not be stored.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Decision categories are stored by their names in the contract.
pub(super) mod category {
    use contracts::task::DecisionCategory;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub fn serialize<S: Serializer>(
        category: &DecisionCategory,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(category.as_str_name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DecisionCategory, D::Error> {
        let name = String::deserialize(deserializer)?;
        DecisionCategory::from_str_name(&name)
            .ok_or_else(|| D::Error::custom(format!("unknown decision category {name:?}")))
    }
}
