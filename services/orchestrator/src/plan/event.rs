//! What the plan is told, what it asks for, and why it refuses. Facts only: ids, epochs, reasons;
//! never payloads, times or addresses.

use std::time::Duration;

use contracts::id::{ClarificationId, DecisionId, InstanceId};
use contracts::task::DecisionCategory;
use serde::{Deserialize, Serialize};

use super::state::{StageState, TaskKind, Verdict, WorkflowState};

/// Something that happened to a workflow.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The workflow was taken in. The first, unless it is taken in with a question about it.
    Submitted,
    /// An agent got the right to run the stage's task. The epoch is newer than all before it.
    LeaseGranted {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// Who has it.
        instance: InstanceId,
    },
    /// The attempt goes on with the same agent under a newer epoch.
    LeaseAdopted {
        /// Stage.
        stage: String,
        /// The new epoch.
        epoch: i64,
    },
    /// The agent did not take the task on: nothing ran, nothing is charged.
    Refused {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// Why.
        reason: String,
    },
    /// The agent gave the task back unfinished, or had to be left with it: no fault of the work, and
    /// nothing is charged.
    HandedBack {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// Why.
        reason: String,
    },
    /// The attempt gave a result.
    ResultAccepted {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// What it says.
        outcome: StageOutcome,
    },
    /// The attempt ended with an error: nobody knows.
    AttemptFailed {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// What kind of error.
        class: ErrorClass,
        /// Why.
        reason: String,
        /// The delay that the agent asks for.
        retry_after: Option<Duration>,
    },
    /// The attempt was lost with its agent.
    AttemptLost {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// Why.
        reason: String,
    },
    /// The attempt was stopped.
    AttemptCancelled {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
    },
    /// The decision that was asked for exists under this id.
    DecisionOpened {
        /// Stage.
        stage: String,
        /// The decision.
        decision_id: DecisionId,
    },
    /// Somebody decided, or the time ran out (then it is a rejection).
    DecisionResolved {
        /// Stage.
        stage: String,
        /// The decision.
        decision_id: DecisionId,
        /// How.
        resolution: Resolution,
        /// Who, for reasons shown to people.
        actor: String,
    },
    /// Somebody is asked about the requirements. As the first event: the workflow is taken in.
    ClarificationAsked {
        /// Stage that waits for it. `None`: asked at intake, nothing starts before the answer.
        stage: Option<String>,
        /// Epoch of the attempt that ended with the question. `None`: no attempt did.
        epoch: Option<i64>,
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// Somebody answered.
    ClarificationAnswered {
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// Nobody answered in time.
    ClarificationExpired {
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// The attempt stopped because the budget ran out; its work is kept.
    BudgetExhausted {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
        /// What ran out, in one sentence.
        reason: String,
    },
    /// There is budget again.
    BudgetGranted,
    /// Somebody cancels the workflow.
    CancelRequested {
        /// Why.
        reason: String,
    },
    /// Somebody pauses the workflow.
    Paused {
        /// Why.
        reason: String,
    },
    /// Somebody resumes a paused workflow, or one whose budget ran out.
    Resumed {
        /// Why.
        reason: String,
    },
    /// Somebody wants to go on with a workflow that failed or was cancelled.
    RetryRequested {
        /// From here, with all that need it. `None`: from all that did not succeed.
        from_stage: Option<String>,
    },
    /// No agent took the stage's task in time.
    ScheduleTimedOut {
        /// Stage.
        stage: String,
    },
    /// The workflow as a whole took too long.
    WorkflowTimedOut,
}

/// What the plan needs to know of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct StageOutcome {
    /// Verdict.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// Whether the project is an app. `None`: the stage does not know.
    pub project_is_app: Option<bool>,
    /// How many findings there are.
    pub finding_count: u32,
    /// What a person must decide.
    pub decision: Option<DecisionAsk>,
}

/// A decision that a result asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DecisionAsk {
    /// What kind of judgement.
    #[serde(with = "super::state::category")]
    pub category: DecisionCategory,
    /// What approving means.
    pub on_approval: ApprovalEffect,
    /// How sure the agent is, 0 to 1.
    pub confidence: f64,
    /// Whether approving means taking one of several choices.
    pub has_choices: bool,
}

/// What approving a decision means for its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalEffect {
    /// The stage counts as succeeded.
    Accept,
    /// The stage runs again.
    Rerun,
}

/// How a decision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Yes.
    Approve,
    /// Not like this: again.
    Revise,
    /// No.
    Reject,
}

/// What kind of error ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Trying again may help.
    Retryable,
    /// Trying again cannot help.
    Permanent,
    /// It took too long.
    TimedOut,
}

/// Why there will be another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The error was retryable.
    Retryable,
    /// It took too long.
    TimedOut,
    /// The agent was lost.
    Lost,
    /// The agent refused.
    Refused,
}

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// At once.
    None,
    /// After exactly this.
    Exactly(Duration),
    /// After a time drawn evenly between nothing and `most`.
    Backoff {
        /// The longest.
        most: Duration,
    },
}

/// What is to be asked of a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask {
    /// May the stage run?
    BeforeRun(DecisionCategory),
    /// What the last result of the stage asks.
    AfterRun(DecisionAsk),
}

/// What must be done, in this order, in the commit that stores the new state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A task that an agent may lease.
    CreateTask {
        /// Stage.
        stage: String,
        /// What the agent is to do.
        task: TaskKind,
        /// Generation: same generation, same task id and idempotency key.
        generation: u32,
        /// Which attempt this will be, from 1, over all generations of the stage.
        attempt: u32,
        /// When it may start.
        after: Delay,
    },
    /// The stage's task, which nobody has leased, goes away.
    RemoveTask {
        /// Stage.
        stage: String,
    },
    /// The agent is told to stop; it is waited for.
    StopTask {
        /// Stage.
        stage: String,
        /// Epoch of the lease.
        epoch: i64,
    },
    /// A decision is to be opened; tell the plan its id with [`Event::DecisionOpened`].
    AskDecision {
        /// Stage.
        stage: String,
        /// What is asked.
        ask: Ask,
        /// Nobody needs to be asked: approve it at once, as `automatic`.
        automatic: bool,
    },
    /// The open decision of the stage is void.
    CloseDecision {
        /// Stage.
        stage: String,
    },
    /// The clarification is void.
    CloseClarification {
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// An entry of the event log.
    Record(Entry),
}

/// What the plan knows of an entry of the event log; kinds as in `WorkflowEvent`.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Taken in.
    Created,
    /// The stage waits for a slot. Follows its `CreateTask`, which has the delay.
    StageQueued {
        /// Stage.
        stage: String,
        /// Which attempt.
        attempt: u32,
    },
    /// An agent took the stage.
    StageStarted {
        /// Stage.
        stage: String,
        /// Which attempt.
        attempt: u32,
        /// Epoch.
        epoch: i64,
        /// Who.
        instance: InstanceId,
    },
    /// The stage ended, or went into repair; the state has how.
    StageFinished {
        /// Stage.
        stage: String,
    },
    /// A person is asked.
    DecisionAsked {
        /// Stage.
        stage: String,
        /// The decision.
        decision_id: DecisionId,
    },
    /// A person answered.
    DecisionResolved {
        /// Stage.
        stage: String,
        /// The decision.
        decision_id: DecisionId,
        /// How.
        resolution: Resolution,
    },
    /// A question about the requirements.
    ClarificationAsked {
        /// Stage, if it is about one.
        stage: Option<String>,
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// The answer.
    ClarificationAnswered {
        /// Stage, if it is about one.
        stage: Option<String>,
        /// The clarification.
        clarification_id: ClarificationId,
    },
    /// Another attempt follows. Follows its `CreateTask`, which has the delay.
    RetryScheduled {
        /// Stage.
        stage: String,
        /// The attempt that ended.
        attempt: u32,
        /// How it ended.
        class: RetryClass,
        /// Why.
        reason: String,
    },
    /// The lease passed on.
    LeaseChanged {
        /// Stage.
        stage: String,
        /// The new epoch; of a lost attempt: the least that the next lease will have.
        epoch: i64,
        /// Why.
        reason: String,
        /// The attempt goes on; otherwise it is lost.
        adopted: bool,
    },
    /// Paused, by a person or because the budget ran out.
    Paused {
        /// Why.
        reason: String,
    },
    /// Resumed.
    Resumed {
        /// Why.
        reason: String,
    },
    /// To be cancelled.
    CancelRequested {
        /// Why.
        reason: String,
    },
    /// Goes on.
    Retried {
        /// From which stage. Empty: all that did not succeed.
        from_stage: String,
    },
    /// A repair is asked for.
    RepairRequested {
        /// Stage whose findings they are.
        stage: String,
        /// Stage that repairs.
        repairing_stage: String,
        /// Which round, from 1.
        round: u32,
        /// How many findings.
        finding_count: u32,
    },
    /// Undone, or not.
    StageCompensated {
        /// Stage.
        stage: String,
        /// Whether the undo succeeded.
        verdict: Verdict,
        /// One sentence.
        summary: String,
    },
    /// The workflow ended; the state has the outcome.
    Finished,
}

/// Why an event does not fit the state. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The lease is over, or was never granted.
    #[error("stage `{stage}`: the lease with epoch {epoch} does not hold; the newest is {held}")]
    StaleLease {
        /// Stage.
        stage: String,
        /// The epoch of the event.
        epoch: i64,
        /// The newest one.
        held: i64,
    },
    /// The stage is in a state where this cannot happen.
    #[error("stage `{stage}` is {state:?}: {problem}")]
    StageState {
        /// Stage.
        stage: String,
        /// Its state.
        state: StageState,
        /// What is wrong.
        problem: &'static str,
    },
    /// The workflow is in a state where this cannot happen.
    #[error("the workflow is {state:?}: {problem}")]
    WrongState {
        /// Its state.
        state: WorkflowState,
        /// What is wrong.
        problem: &'static str,
    },
    /// The workflow has ended.
    #[error("the workflow has ended: {0:?}")]
    AlreadyFinished(WorkflowState),
    /// There is no such stage.
    #[error("the pipeline has no stage `{0}`")]
    UnknownStage(String),
    /// The decision is not the open one of that stage.
    #[error("decision {decision_id} is not the open one of stage `{stage}`")]
    DecisionNotOpen {
        /// Stage.
        stage: String,
        /// The decision.
        decision_id: DecisionId,
    },
    /// The clarification is not open.
    #[error("clarification {0} is not open")]
    ClarificationNotOpen(ClarificationId),
    /// The state was made from another pipeline.
    #[error("the state and the pipeline have different stages")]
    PipelineMismatch,
}
