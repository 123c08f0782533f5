//! How an attempt ended: what an error of the agent means, and what the plan is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::ClarificationId;
use contracts::orchestrator::StageResult;
use contracts::task::{AnswerKind, BudgetLimit, ClarificationRequest};

use super::{Drive, GONE_AFTER, REATTACH_FOR, SILENT, UNANSWERED};
use crate::agents::Reservation;
use crate::engine::step::{Asked, Input, LEASE};
use crate::plan::event::{ApprovalEffect, DecisionAsk, ErrorClass, Event, StageOutcome};
use crate::plan::state::Verdict;
use crate::store::{StoreError, tasks};

// Bounds of a question (task.proto).
const QUESTION_BYTES: usize = 4096;
const CHOICES: usize = 16;
const CHOICE_BYTES: usize = 256;

// How an attempt ended.
pub(super) enum End {
    Result(Box<StageResult>),
    Refused(Status),
    Failed {
        class: ErrorClass,
        reason: String,
        retry_after: Option<Duration>,
    },
    Lost(String),
    // The agent gave it back, or had to be left with it: not charged.
    HandedBack(String),
    Cancelled,
    // Somebody else has it, or this process is stopping: not ours to say.
    HandedOver,
}

impl End {
    /// Whether the agent keeps something of the attempt until it is told that it need not.
    pub(super) fn is_kept(&self) -> bool {
        matches!(
            self,
            Self::Result(_) | Self::Failed { .. } | Self::Cancelled
        )
    }
}

impl Drive {
    /// What the end says about the agent, and what the agent has to know.
    pub(super) fn judge_agent(&self, reservation: &Reservation, end: &End) {
        let agents = self.engine.agents();
        let instance_id = reservation.instance_id();
        match end {
            End::Result(_) => agents.trust(instance_id),
            End::Failed {
                class: ErrorClass::TimedOut,
                reason,
                ..
            } => agents.remark(instance_id, reason),
            End::Lost(reason) if reason.ends_with(SILENT) => agents.distrust(instance_id, reason),
            End::HandedBack(reason) if reason == UNANSWERED => {
                agents.distrust(instance_id, UNANSWERED);
            }
            End::Failed { .. }
            | End::Cancelled
            | End::Lost(_)
            | End::HandedBack(_)
            | End::HandedOver => {}
            End::Refused(status) if Error::from_status(status).is_none() => {
                agents.unreachable(instance_id, status.message());
            }
            End::Refused(status) => {
                let drains = Error::from_status(status)
                    .is_some_and(|error| error.reason == ErrorReason::Draining);
                agents.refused(instance_id, drains);
            }
        }
        // It may run on, out of reach: told through its session, if there is one.
        if matches!(end, End::Lost(_) | End::HandedBack(_)) {
            agents.stop_tasks(instance_id, vec![self.context.task_id.clone()]);
        }
    }

    // What an error means. `None`: the stream broke, and nothing is known yet.
    pub(super) fn judge(&self, status: &Status) -> Option<End> {
        let Some(error) = Error::from_status(status) else {
            // Not one of ours: the transport, a proxy, or a crash.
            // Nor is it known what became of a call that was not answered in time, perhaps because
            // it was us who stood still: the agent is asked once whether it has the task.
            let unanswered = status.code() == Code::DeadlineExceeded && !self.context.reattach_only;
            return if self.accepted || unanswered {
                None
            } else if is_transport(status) && self.context.reattach_only {
                // It may have heard the first call, and run the task out of reach.
                Some(End::HandedBack(status.message().to_owned()))
            } else if is_transport(status) {
                Some(End::Refused(status.clone()))
            } else {
                Some(failed(ErrorClass::Permanent, status.message(), None))
            };
        };
        let message = error.message.as_str();
        Some(match error.reason {
            // Nothing ran, and another agent may be able to.
            ErrorReason::Draining
            | ErrorReason::Infrastructure
            | ErrorReason::Unauthenticated
            | ErrorReason::PermissionDenied
                if !self.accepted =>
            {
                End::Refused(status.clone())
            }
            ErrorReason::Draining => {
                End::HandedBack("the agent stopped, and gave the task back".to_owned())
            }
            // The agent was never called, or never heard it: nothing ran.
            ErrorReason::TaskNotFound if !self.met => End::Refused(status.clone()),
            ErrorReason::WrongInstance | ErrorReason::TaskNotFound if self.accepted => {
                End::Lost("the agent does not know the task any more".to_owned())
            }
            ErrorReason::WrongInstance | ErrorReason::NoFreeSlot => End::Refused(status.clone()),
            ErrorReason::StaleLease | ErrorReason::TakenOver => End::HandedOver,
            ErrorReason::Cancelled => End::Lost("the agent cancelled the task".to_owned()),
            ErrorReason::DeadlineExceeded => failed(ErrorClass::TimedOut, message, None),
            ErrorReason::RepositoryUnreachable
            | ErrorReason::ArtifactStoreUnavailable
            | ErrorReason::DatabaseUnavailable
            | ErrorReason::Infrastructure
            | ErrorReason::ConcurrentChange
            | ErrorReason::RateLimited
            | ErrorReason::QuotaReached => {
                failed(ErrorClass::Retryable, message, error.retry_after)
            }
            ErrorReason::Unspecified
            | ErrorReason::InvalidField
            | ErrorReason::WorkflowNotFound
            | ErrorReason::PipelineNotFound
            | ErrorReason::DecisionNotFound
            | ErrorReason::ClarificationNotFound
            | ErrorReason::ArtifactNotFound
            | ErrorReason::AgentNotFound
            | ErrorReason::StageNotFound
            | ErrorReason::TaskNotFound
            | ErrorReason::TokenNotFound
            | ErrorReason::IdentityProviderUnavailable
            | ErrorReason::RequestIdReused
            | ErrorReason::PipelineExists
            | ErrorReason::WorkflowState
            | ErrorReason::DecisionResolved
            | ErrorReason::DigestChanged
            | ErrorReason::ClarificationAnswered
            | ErrorReason::PipelineBuiltIn
            | ErrorReason::DigestMismatch
            | ErrorReason::RepositoryNotFound
            | ErrorReason::RefNotFound
            | ErrorReason::PushRejected
            | ErrorReason::ProjectInvalid
            | ErrorReason::CapabilityMissing
            | ErrorReason::Internal
            | ErrorReason::Unauthenticated
            | ErrorReason::PermissionDenied => failed(ErrorClass::Permanent, message, None),
        })
    }

    pub(super) fn input(&self, end: End) -> Option<Input> {
        let (stage, epoch) = (self.stage.clone(), self.epoch);
        let base = Input {
            actor: self.actor(),
            spent: self.spent.map(|usage| (stage.clone(), usage)),
            ..Input::default()
        };
        let ended = |ending, reason: &str| Some((self.stage.clone(), ending, reason.to_owned()));
        Some(match end {
            End::HandedOver => return None,
            End::Result(result) => {
                if let Some(input) = self.waiting(&result, &base) {
                    return Some(input);
                }
                let outcome = outcome(&result);
                tracing::Span::current().record("verdict", format!("{:?}", outcome.verdict));
                Input {
                    ended: ended("completed", &outcome.summary),
                    event: Some(Event::ResultAccepted {
                        stage: stage.clone(),
                        epoch,
                        outcome,
                    }),
                    result: Some((stage, Arc::from(result))),
                    ..base
                }
            }
            End::Refused(status) => Input {
                event: Some(Event::Refused {
                    stage,
                    epoch,
                    reason: status.message().to_owned(),
                }),
                ..base
            },
            End::Failed {
                class,
                reason,
                retry_after,
            } => Input {
                ended: ended("failed", &reason),
                event: Some(Event::AttemptFailed {
                    stage,
                    epoch,
                    class,
                    reason,
                    retry_after,
                }),
                ..base
            },
            End::Lost(reason) => Input {
                ended: ended("lost", &reason),
                event: Some(Event::AttemptLost {
                    stage,
                    epoch,
                    reason,
                }),
                ..base
            },
            End::HandedBack(reason) => Input {
                ended: ended("handed_back", &reason),
                event: Some(Event::HandedBack {
                    stage,
                    epoch,
                    reason,
                }),
                ..base
            },
            End::Cancelled => Input {
                ended: ended("cancelled", "somebody asked for it"),
                event: Some(Event::AttemptCancelled { stage, epoch }),
                ..base
            },
        })
    }
}

impl Drive {
    /// An agent that cannot be reached from here may have found another replica, which can go on
    /// with what it runs. True: it was left to that one.
    pub(super) async fn hand_over(&self, reservation: &Reservation) -> bool {
        let shared = &self.engine.shared;
        let Ok(task_id) = self.context.task_id.parse() else {
            return false;
        };
        let given = async {
            let client = shared.store.client().await?;
            let instance_id = reservation.instance_id().0;
            tasks::hand_over(
                &client,
                task_id,
                &shared.replica_id,
                self.epoch,
                instance_id,
                LEASE,
            )
            .await
        };
        let given: Result<bool, StoreError> = given.await;
        given.unwrap_or_else(|error| {
            tracing::warn!(error = ?error, "nobody knows where the agent is");
            false
        })
    }

    /// Whether the stream is broken for too long. An agent that this replica sent away, because it had
    /// no database, may be on its way back, and could not show that it lives meanwhile.
    pub(super) fn is_given_up(&self, reservation: &Reservation, since: Instant) -> bool {
        let touch = &self.engine.shared.touch;
        let is_gone = !reservation.is_connected() && touch.misses_nobody_it_sent_away();
        let waited = since.elapsed().min(touch.steady_for());
        waited > if is_gone { GONE_AFTER } else { REATTACH_FOR }
    }

    // The attempt ended because it needs something of a person: a budget, or an answer.
    fn waiting(&self, result: &StageResult, base: &Input) -> Option<Input> {
        let outcome = result.outcome()?;
        let (stage, epoch) = (self.stage.clone(), self.epoch);
        let clarification_id = ClarificationId::new();
        let request = outcome.clarification.as_ref();
        let (event, asked) = if outcome.exhausted() != BudgetLimit::Unspecified {
            let event = Event::BudgetExhausted {
                stage,
                epoch,
                reason: outcome.summary.clone(),
            };
            (event, None)
        } else if let Some(problem) = unanswerable(request?) {
            let reason = format!("the agent asked a question that nobody can answer: {problem}");
            let event = Event::AttemptFailed {
                stage,
                epoch,
                class: ErrorClass::Permanent,
                reason,
                retry_after: None,
            };
            (event, None)
        } else {
            let event = Event::ClarificationAsked {
                stage: Some(stage),
                epoch: Some(epoch),
                clarification_id,
            };
            (event, request.cloned())
        };
        Some(Input {
            event: Some(event),
            asked: asked.map(|request| Asked {
                clarification_id,
                stage: self.stage.clone(),
                request,
            }),
            ended: Some((self.stage.clone(), "completed", outcome.summary.clone())),
            result: Some((self.stage.clone(), Arc::new(result.clone()))),
            ..base.clone()
        })
    }
}

// What is wrong with a question.
fn unanswerable(asked: &ClarificationRequest) -> Option<&'static str> {
    let length = asked.question.trim().len();
    if !(1..=QUESTION_BYTES).contains(&length) {
        return Some("its text is empty or longer than 4 KiB");
    }
    let choices = &asked.choices;
    let is_choice = asked.kind() == AnswerKind::Choice;
    if is_choice == choices.is_empty() {
        return Some("choices go with a question for a choice, and only with that");
    }
    let sound = |choice: &String| (1..=CHOICE_BYTES).contains(&choice.len());
    if is_choice && (!(2..=CHOICES).contains(&choices.len()) || !choices.iter().all(sound)) {
        return Some("it needs 2 to 16 choices of 1 to 256 bytes");
    }
    None
}

/// The stream is broken for too long.
pub(super) fn given_up(reservation: &Reservation, error: &Status) -> End {
    // Where the agent lives and only the way to it is dead, neither it nor the work did anything wrong.
    if reservation.is_unreachable() {
        return End::HandedBack(format!("the agent cannot be called: {}", error.message()));
    }
    End::Lost(format!("the agent does not answer: {}", error.message()))
}

pub(super) fn failed(class: ErrorClass, reason: &str, retry_after: Option<Duration>) -> End {
    End::Failed {
        class,
        reason: reason.to_owned(),
        retry_after,
    }
}

pub(super) fn timed_out(reason: &str) -> End {
    failed(ErrorClass::TimedOut, reason, None)
}

pub(super) fn is_transport(status: &Status) -> bool {
    let silent = matches!(
        status.code(),
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    );
    silent || contracts::client::is_broken(status)
}

pub(super) fn outcome(result: &StageResult) -> StageOutcome {
    let Some(outcome) = result.outcome() else {
        return StageOutcome {
            verdict: Verdict::NotProven,
            summary: "the agent sent a result without an outcome".to_owned(),
            project_is_app: None,
            finding_count: 0,
            decision: None,
        };
    };
    StageOutcome {
        verdict: Verdict::from_wire(outcome.verdict()),
        summary: outcome.summary.clone(),
        project_is_app: outcome.project_is_app,
        finding_count: u32::try_from(outcome.findings.len()).unwrap_or(u32::MAX),
        decision: outcome.decision.as_ref().map(|request| DecisionAsk {
            category: request.category(),
            on_approval: match request.on_approval() {
                contracts::task::ApprovalEffect::Accept => ApprovalEffect::Accept,
                contracts::task::ApprovalEffect::Rerun
                | contracts::task::ApprovalEffect::Unspecified => ApprovalEffect::Rerun,
            },
            confidence: request.confidence,
            has_choices: !request.choices.is_empty(),
        }),
    }
}
