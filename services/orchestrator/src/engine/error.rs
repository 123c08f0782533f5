//! Why a step was not made, and what callers are told.

use std::time::Duration;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::WorkflowId;

use crate::plan::event::Rejected;
use crate::store::StoreError;

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no such workflow.
    #[error("there is no workflow {0}")]
    NotFound(WorkflowId),
    /// The plan refuses.
    #[error("workflow {workflow_id}")]
    Rejected {
        /// Workflow.
        workflow_id: WorkflowId,
        /// Why.
        #[source]
        source: Rejected,
    },
    /// The database.
    #[error("store")]
    Store(#[from] StoreError),
    /// Somebody else was always faster.
    #[error("workflow {0} changed all the time")]
    Races(WorkflowId),
    /// The request was made before.
    #[error("the request was made before")]
    Repeated,
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotFound(id) => Self::new(
                ErrorReason::WorkflowNotFound,
                format!("there is no workflow {id}; it may have ended and passed retention"),
            ),
            EngineError::Rejected {
                workflow_id,
                source,
            } => rejected(workflow_id, &source),
            EngineError::Store(error) => store(&error),
            EngineError::Races(id) => Self::new(
                ErrorReason::ConcurrentChange,
                format!("workflow {id} changed meanwhile; read it and try again"),
            ),
            EngineError::Repeated => Self::new(
                ErrorReason::ConcurrentChange,
                "the workflow changed meanwhile; read it and try again",
            ),
        }
    }
}

/// What a caller is told when the database did not answer. The detail goes to the log.
pub fn store(error: &StoreError) -> Error {
    if error.is_transient() {
        tracing::warn!(error = ?error, "the database did not answer");
        let problem = if error.is_exhausted() {
            "every connection to the database is in use; try again in a moment"
        } else {
            "the database does not answer; try again in a moment"
        };
        return Error::new(ErrorReason::DatabaseUnavailable, problem)
            .retry_after(Duration::from_secs(1));
    }
    if matches!(error, StoreError::Stopping) {
        return Error::new(
            ErrorReason::Draining,
            "the orchestrator is stopping; try again",
        );
    }
    tracing::error!(error = ?error, "the store failed");
    Error::internal()
}

fn rejected(workflow_id: WorkflowId, rejected: &Rejected) -> Error {
    let reason = match rejected {
        Rejected::StaleLease { .. } => ErrorReason::StaleLease,
        Rejected::UnknownStage(_) => ErrorReason::StageNotFound,
        Rejected::DecisionNotOpen { .. } => ErrorReason::DecisionResolved,
        Rejected::ClarificationNotOpen(_) => ErrorReason::ClarificationAnswered,
        Rejected::StageState { .. }
        | Rejected::WrongState { .. }
        | Rejected::AlreadyFinished(_)
        | Rejected::PipelineMismatch => ErrorReason::WorkflowState,
    };
    Error::new(reason, rejected.to_string())
        .precondition(format!("workflow/{workflow_id}"), rejected.to_string())
}
