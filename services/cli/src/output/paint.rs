//! Colours by meaning, or none.

use contracts::orchestrator::{Stage, StageState, WorkflowState};
use contracts::task::Verdict;

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It holds.
    Good,
    /// It does not hold.
    Bad,
    /// Nobody knows, or somebody must look.
    Doubt,
    /// It is under way.
    Busy,
    /// Less important.
    Faint,
    /// More important.
    Strong,
}

/// Paints, or does not.
#[derive(Debug, Clone, Copy)]
pub struct Painter {
    on: bool,
}

impl Painter {
    /// A painter.
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// The text, painted.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31;1",
            Paint::Doubt => "33",
            Paint::Busy => "36",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Colour of a verdict.
pub fn of_verdict(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Passed => Paint::Good,
        Verdict::Failed => Paint::Bad,
        Verdict::NotProven => Paint::Doubt,
        Verdict::Unspecified => Paint::Faint,
    }
}

/// Colour of a workflow's state.
pub fn of_workflow(state: WorkflowState) -> Paint {
    match state {
        WorkflowState::Succeeded => Paint::Good,
        WorkflowState::Failed | WorkflowState::Cancelled | WorkflowState::Compensating => {
            Paint::Bad
        }
        WorkflowState::AwaitingDecision
        | WorkflowState::AwaitingClarification
        | WorkflowState::AwaitingBudget
        | WorkflowState::Paused => Paint::Doubt,
        WorkflowState::Running => Paint::Busy,
        WorkflowState::Pending | WorkflowState::Unspecified => Paint::Faint,
    }
}

/// Colour of a stage: its verdict where there is one, else its state.
pub fn of_stage_end(stage: &Stage) -> Paint {
    match (stage.state(), stage.verdict()) {
        (StageState::Succeeded | StageState::Failed, verdict)
            if verdict != Verdict::Unspecified =>
        {
            of_verdict(verdict)
        }
        (StageState::Succeeded, _) => Paint::Good,
        (StageState::Failed | StageState::Cancelled, _) => Paint::Bad,
        (StageState::AwaitingDecision | StageState::Repairing, _) => Paint::Doubt,
        (StageState::Running, _) => Paint::Busy,
        (
            StageState::Blocked | StageState::Ready | StageState::Skipped | StageState::Unspecified,
            _,
        ) => Paint::Faint,
    }
}
