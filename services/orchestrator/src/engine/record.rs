//! From what the plan records to the events that clients see.

use std::time::SystemTime;

use prost::Message;
use sha2::{Digest, Sha256};

use contracts::id::{ClarificationId, DecisionId};
use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{
    ArtifactStored, ClarificationAnswered, ClarificationAsked, DecisionAsked, DecisionResolved,
    LeaseChanged, RepairRequested, RetryScheduled, StageCompensated, StageFinished,
    StageProgressed, StageQueued, StageStarted, WorkflowCancelRequested, WorkflowCreated,
    WorkflowFinished, WorkflowPaused, WorkflowResumed, WorkflowRetried,
};
use contracts::task::{
    ApprovalEffect, Artifact, Budget, DecisionCategory, DecisionRequest, Progress,
    ResolvedDecision, Verdict,
};
use contracts::wire_time;

use super::workflow::Workflow;
use crate::plan::event::{Entry, RetryClass};
use crate::store::clarifications;
use crate::store::decisions::Change;

/// What came with the step, and is not in the workflow.
pub struct New<'a> {
    /// Decisions asked and made.
    pub decisions: &'a [Change],
    /// Clarifications asked and answered.
    pub clarifications: &'a [clarifications::Change],
    /// A new budget.
    pub budget: Option<Budget>,
}

/// Stage and payload of an entry.
#[allow(clippy::too_many_lines, reason = "one arm per kind of entry")]
pub fn payload(
    entry: &Entry,
    workflow: &Workflow,
    ready: &dyn Fn(&str) -> Option<SystemTime>,
    new: &New<'_>,
) -> (String, Payload) {
    let ready = |stage: &str| ready(stage).map(wire_time::timestamp);
    match entry {
        Entry::Created => whole(Payload::Created(WorkflowCreated {
            workflow: Some(workflow.to_wire(false)),
        })),
        Entry::StageQueued { stage, attempt } => of(
            stage,
            Payload::StageQueued(StageQueued {
                attempt: count(*attempt),
                ready_time: ready(stage),
                concurrency_key: concurrency_key(workflow, stage),
            }),
        ),
        Entry::StageStarted {
            stage,
            attempt,
            epoch,
            instance,
        } => of(
            stage,
            Payload::StageStarted(StageStarted {
                attempt: count(*attempt),
                lease_epoch: *epoch,
                agent_instance_id: instance.to_string(),
                task_id: task_id(workflow, stage),
            }),
        ),
        Entry::StageFinished { stage } => {
            let picture = workflow
                .stage_number(stage)
                .map(|number| workflow.stage_to_wire(number, true));
            of(
                stage,
                Payload::StageFinished(StageFinished { stage: picture }),
            )
        }
        Entry::DecisionAsked { stage, decision_id } => of(
            stage,
            Payload::DecisionAsked(asked(*decision_id, new.decisions)),
        ),
        Entry::DecisionResolved {
            stage, decision_id, ..
        } => of(
            stage,
            Payload::DecisionResolved(resolved(workflow, stage, *decision_id)),
        ),
        Entry::ClarificationAsked {
            stage,
            clarification_id,
        } => maybe_of(
            stage.as_deref(),
            Payload::ClarificationAsked(question(*clarification_id, new.clarifications)),
        ),
        Entry::ClarificationAnswered {
            stage,
            clarification_id,
        } => maybe_of(
            stage.as_deref(),
            Payload::ClarificationAnswered(ClarificationAnswered {
                clarification_id: clarification_id.to_string(),
                answer: workflow
                    .live
                    .answers
                    .last()
                    .map_or_else(String::new, |answered| answered.answer.clone()),
            }),
        ),
        Entry::RetryScheduled {
            stage,
            attempt,
            class,
            reason,
        } => of(
            stage,
            Payload::RetryScheduled(RetryScheduled {
                attempt: count(*attempt),
                error_class: class_name(*class).to_owned(),
                reason: reason.clone(),
                ready_time: ready(stage),
            }),
        ),
        Entry::LeaseChanged {
            stage,
            epoch,
            reason,
            adopted,
        } => of(
            stage,
            Payload::LeaseChanged(LeaseChanged {
                lease_epoch: *epoch,
                reason: reason.clone(),
                adopted: *adopted,
            }),
        ),
        Entry::Paused { reason } => whole(Payload::Paused(WorkflowPaused {
            reason: reason.clone(),
        })),
        Entry::Resumed { reason } => whole(Payload::Resumed(WorkflowResumed {
            reason: reason.clone(),
            budget: new.budget,
        })),
        Entry::CancelRequested { reason } => {
            whole(Payload::CancelRequested(WorkflowCancelRequested {
                reason: reason.clone(),
            }))
        }
        Entry::Retried { from_stage } => whole(Payload::Retried(WorkflowRetried {
            from_stage: from_stage.clone(),
        })),
        Entry::RepairRequested {
            stage,
            repairing_stage,
            round,
            finding_count,
        } => of(
            stage,
            Payload::RepairRequested(RepairRequested {
                repairing_stage: repairing_stage.clone(),
                round: count(*round),
                finding_count: count(*finding_count),
            }),
        ),
        Entry::StageCompensated {
            stage,
            verdict,
            summary,
        } => of(
            stage,
            Payload::StageCompensated(StageCompensated {
                verdict: Verdict::from(*verdict).into(),
                summary: summary.clone(),
            }),
        ),
        Entry::Finished => whole(Payload::Finished(WorkflowFinished {
            workflow: Some(workflow.to_wire(false)),
        })),
    }
}

/// Progress.
pub fn progress(progress: Progress) -> Payload {
    Payload::StageProgressed(StageProgressed {
        progress: Some(progress),
    })
}

/// An artifact.
pub fn artifact(artifact: Artifact) -> Payload {
    Payload::ArtifactStored(ArtifactStored {
        artifact: Some(artifact),
    })
}

/// What a person is asked before a stage runs. Bound to the exact commit and environment.
pub fn before_run(workflow: &Workflow, stage: &str, category: DecisionCategory) -> DecisionRequest {
    let repository = &workflow.live.repository;
    let environment = &workflow.submission.request.environment;
    let commit = if workflow.live.merged_commit.is_empty() {
        &repository.head_commit
    } else {
        &workflow.live.merged_commit
    };
    let detail = format!(
        "| | |\n|---|---|\n| workflow | {} |\n| stage | {stage} |\n| repository | {} |\n\
         | commit | {commit} |\n| environment | {environment} |\n",
        workflow.submission.request.name, repository.url,
    );
    DecisionRequest {
        category: category.into(),
        question: if category == DecisionCategory::Deployment {
            format!("May commit {} be deployed to {environment}?", short(commit))
        } else {
            format!("May stage {stage} run on commit {}?", short(commit))
        },
        subject_digest: format!("sha256:{}", hex::encode(Sha256::digest(&detail))),
        detail,
        choices: Vec::new(),
        on_approval: ApprovalEffect::Rerun.into(),
        confidence: 0.0,
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

fn asked(decision_id: DecisionId, decisions: &[Change]) -> DecisionAsked {
    let stored = decisions.iter().find_map(|change| match change {
        Change::Ask(stored) if stored.decision_id == decision_id => Some(stored),
        Change::Ask(_) | Change::Resolve { .. } => None,
    });
    DecisionAsked {
        decision_id: decision_id.to_string(),
        request: stored.and_then(|stored| DecisionRequest::decode(stored.request.as_slice()).ok()),
        expire_time: stored.map(|stored| wire_time::timestamp(stored.expire_time)),
    }
}

fn question(
    clarification_id: ClarificationId,
    clarifications: &[clarifications::Change],
) -> ClarificationAsked {
    use clarifications::Change;
    let asked = clarifications.iter().find_map(|change| match change {
        Change::Ask(stored) if stored.clarification_id == clarification_id => Some(stored),
        Change::Ask(_) | Change::Answer { .. } => None,
    });
    asked.map_or_else(
        || ClarificationAsked {
            clarification_id: clarification_id.to_string(),
            ..ClarificationAsked::default()
        },
        |stored| ClarificationAsked {
            clarification_id: clarification_id.to_string(),
            question: stored.question.clone(),
            kind: i32::from(stored.kind),
            choices: stored.choices.clone(),
            round: stored.round,
            expire_time: Some(wire_time::timestamp(stored.expire_time)),
        },
    )
}

fn resolved(workflow: &Workflow, stage: &str, decision_id: DecisionId) -> DecisionResolved {
    let facts = workflow.stage_number(stage).and_then(|number| {
        workflow.live.stages[number]
            .decisions
            .iter()
            .rev()
            .find(|facts| facts.decision_id == decision_id)
    });
    DecisionResolved {
        decision: Some(facts.map_or_else(
            || ResolvedDecision {
                decision_id: decision_id.to_string(),
                ..Default::default()
            },
            ResolvedDecision::from,
        )),
    }
}

fn concurrency_key(workflow: &Workflow, stage: &str) -> String {
    workflow
        .stage_number(stage)
        .map_or_else(String::new, |number| {
            workflow.live.stages[number].concurrency_key.clone()
        })
}

fn task_id(workflow: &Workflow, stage: &str) -> String {
    workflow
        .stage_number(stage)
        .and_then(|number| workflow.live.stages[number].task_id)
        .map_or_else(String::new, |id| id.to_string())
}

fn class_name(class: RetryClass) -> &'static str {
    match class {
        RetryClass::Retryable => "retryable",
        RetryClass::TimedOut => "timed_out",
        RetryClass::Lost => "lost",
        RetryClass::Refused => "refused",
    }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn whole(payload: Payload) -> (String, Payload) {
    (String::new(), payload)
}

fn of(stage: &str, payload: Payload) -> (String, Payload) {
    (stage.to_owned(), payload)
}

fn maybe_of(stage: Option<&str>, payload: Payload) -> (String, Payload) {
    (stage.unwrap_or_default().to_owned(), payload)
}
