//! What the command says to whoever called it, as a number. The numbers are part of the interface.

use contracts::orchestrator::{Workflow, WorkflowState};
use contracts::task::Verdict;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked; a workflow that was followed succeeded.
    Succeeded = 0,
    /// It did not; a workflow that was followed failed or was cancelled.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The workflow ended without proof.
    NotProven = 3,
    /// No mesh answered.
    Unreachable = 4,
    /// The workflow waits for a person, and nobody may be asked here.
    Waiting = 10,
    /// The configuration is wrong.
    Configuration = 64,
    /// Interrupted; a workflow that was followed goes on.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What the end of a workflow says. Only a proven success is one.
    pub fn of_workflow(workflow: &Workflow) -> Self {
        let verdict = workflow.outcome.as_ref().map_or(
            Verdict::Unspecified,
            contracts::orchestrator::WorkflowOutcome::verdict,
        );
        match (workflow.state(), verdict) {
            (WorkflowState::Succeeded, Verdict::Passed) => Self::Succeeded,
            (WorkflowState::Succeeded, Verdict::NotProven | Verdict::Unspecified)
            | (WorkflowState::Failed, Verdict::NotProven) => Self::NotProven,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use contracts::orchestrator::WorkflowOutcome;

    use super::*;

    #[test]
    fn only_a_proven_success_is_a_success() {
        use {Verdict as V, WorkflowState as S};
        for (state, verdict, expected) in [
            (S::Succeeded, Some(V::Passed), Exit::Succeeded),
            (S::Succeeded, Some(V::NotProven), Exit::NotProven),
            (S::Succeeded, Some(V::Unspecified), Exit::NotProven),
            (S::Succeeded, Some(V::Failed), Exit::Failed),
            (S::Succeeded, None, Exit::NotProven),
            (S::Failed, Some(V::Failed), Exit::Failed),
            (S::Failed, Some(V::NotProven), Exit::NotProven),
            (S::Failed, Some(V::Passed), Exit::Failed),
            (S::Failed, None, Exit::Failed),
            (S::Cancelled, Some(V::NotProven), Exit::Failed),
            (S::Running, Some(V::Passed), Exit::Failed),
            (S::Unspecified, None, Exit::Failed),
        ] {
            let workflow = Workflow {
                state: state.into(),
                outcome: verdict.map(|verdict| WorkflowOutcome {
                    verdict: verdict.into(),
                    ..WorkflowOutcome::default()
                }),
                ..Workflow::default()
            };
            assert_eq!(
                Exit::of_workflow(&workflow),
                expected,
                "{state:?} {verdict:?}"
            );
        }
    }

    #[test]
    fn values_of_a_newer_server_are_no_success() {
        let workflow = Workflow {
            state: WorkflowState::Succeeded.into(),
            outcome: Some(WorkflowOutcome {
                verdict: 99,
                ..WorkflowOutcome::default()
            }),
            ..Workflow::default()
        };
        assert_eq!(Exit::of_workflow(&workflow), Exit::NotProven);
    }
}
