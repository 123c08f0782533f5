//! Pipelines, results and events out of a stream of choices, which a random generator or a property
//! test provides.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::id::{ClarificationId, DecisionId, InstanceId};
use contracts::orchestrator::{NeedCondition, StageDefinition};
use contracts::task::DecisionCategory;
use rand::Rng;
use rand::rngs::StdRng;

use super::build::{But, need, proto, stage};
use super::outcome;
use super::world::World;
use crate::plan::event::{
    ApprovalEffect, DecisionAsk, ErrorClass, Event, Resolution, StageOutcome,
};
use crate::plan::pipeline::Pipeline;
use crate::plan::state::{TaskState, Verdict};

/// A stream of choices.
pub trait Choose {
    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize;

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// A number from 1 to `most`.
    fn up_to(&mut self, most: usize) -> i32 {
        i32::try_from(1 + self.below(most)).unwrap_or(1)
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

impl Choose for StdRng {
    fn below(&mut self, count: usize) -> usize {
        self.random_range(0..count)
    }
}

/// Choices that a property test can shrink; when they run out, always the first.
#[derive(Debug)]
pub struct Given {
    pub choices: Vec<u16>,
    pub next: usize,
}

impl Choose for Given {
    fn below(&mut self, count: usize) -> usize {
        let choice = self.choices.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        usize::from(choice) % count
    }
}

/// A valid pipeline of one to seven stages, with every feature in some.
pub fn pipeline(choose: &mut impl Choose) -> (Pipeline, BTreeSet<String>) {
    let count = 1 + choose.below(7);
    let mut stages: Vec<StageDefinition> = Vec::new();
    let mut ancestors: Vec<BTreeSet<usize>> = Vec::new();
    for index in 0..count {
        let letter = match index {
            0 => 's',
            _ => choose.one_of(&['v', 'e', 'i', 'd', 's']),
        };
        let mut made = stage(&format!("{letter}{index}"), &[]);
        let mut before = BTreeSet::new();
        for other in 0..index {
            if choose.once_in(2) {
                let condition = choose.one_of(&[
                    NeedCondition::Succeeded,
                    NeedCondition::Succeeded,
                    NeedCondition::Succeeded,
                    NeedCondition::Unspecified,
                    NeedCondition::Completed,
                    NeedCondition::Always,
                ]);
                made.needs.push(need(&stages[other].name, condition));
                before.insert(other);
                before.extend(&ancestors[other]);
            }
        }
        made = made.retried(choose.up_to(4), choose.up_to(8));
        let writers: Vec<_> = before
            .iter()
            .filter(|&&other| stages[other].name.starts_with('s'))
            .collect();
        if !writers.is_empty() && !choose.once_in(3) {
            let writer = &stages[**choose.one_of(&[writers.first(), writers.last()]).unwrap()];
            made = made.repaired_by(&writer.name.clone(), choose.up_to(3));
        } else if choose.once_in(5) {
            made = made.optional();
        }
        if choose.once_in(6) {
            made = made.only_for_apps();
        }
        if choose.once_in(6) {
            made = made.approved(DecisionCategory::CostImpacting);
        }
        if choose.once_in(3) {
            made = made.undone();
        }
        stages.push(made);
        ancestors.push(before);
    }
    let protected = stages.iter().filter(|_| choose.once_in(10));
    let protected = protected.map(|stage| stage.name.clone()).collect();
    (Pipeline::parse(&proto(stages)).unwrap(), protected)
}

pub fn stage_outcome(choose: &mut impl Choose) -> StageOutcome {
    let verdict = match choose.below(13) {
        9 | 10 => Verdict::Failed,
        11 => Verdict::NotProven,
        _ => Verdict::Passed,
    };
    let decision = choose.once_in(6).then(|| DecisionAsk {
        category: choose.one_of(&[
            DecisionCategory::TechnicalRefactor,
            DecisionCategory::Waiver,
        ]),
        on_approval: choose.one_of(&[ApprovalEffect::Accept, ApprovalEffect::Rerun]),
        confidence: choose.one_of(&[0.8, 0.9, 0.9]),
        has_choices: choose.once_in(4),
    });
    StageOutcome {
        project_is_app: choose.one_of(&[None, None, Some(true), Some(false)]),
        decision,
        ..outcome(verdict)
    }
}

/// How an attempt ends, by whatever right the epoch gives.
pub fn attempt_end(choose: &mut impl Choose, stage: String, epoch: i64) -> Event {
    let reason = "chance".to_owned();
    match choose.below(12) {
        0 => Event::AttemptFailed {
            stage,
            epoch,
            class: choose.one_of(&[
                ErrorClass::Retryable,
                ErrorClass::TimedOut,
                ErrorClass::Permanent,
            ]),
            reason,
            retry_after: choose.one_of(&[None, Some(Duration::from_secs(3))]),
        },
        1 => Event::AttemptLost {
            stage,
            epoch,
            reason,
        },
        2 => Event::AttemptCancelled { stage, epoch },
        3 => Event::Refused {
            stage,
            epoch,
            reason,
        },
        4 => Event::BudgetExhausted {
            stage,
            epoch,
            reason,
        },
        12 => Event::HandedBack {
            stage,
            epoch,
            reason,
        },
        5 => Event::ClarificationAsked {
            stage: Some(stage),
            epoch: Some(epoch),
            clarification_id: ClarificationId::new(),
        },
        _ => Event::ResultAccepted {
            stage,
            epoch,
            outcome: stage_outcome(choose),
        },
    }
}

fn person(choose: &mut impl Choose, world: &World) -> Event {
    let reason = String::new();
    let stages = &world.state.stages;
    match choose.below(9) {
        0 => Event::Paused { reason },
        1 | 2 => Event::Resumed { reason },
        3 => Event::BudgetGranted,
        4 => Event::CancelRequested { reason },
        5 => Event::WorkflowTimedOut,
        6 => Event::ClarificationAsked {
            stage: choose
                .one_of(&[true, false])
                .then(|| choose.one_of(stages).name),
            epoch: None,
            clarification_id: ClarificationId::new(),
        },
        _ => Event::RetryRequested {
            from_stage: choose
                .one_of(&[true, false])
                .then(|| choose.one_of(stages).name),
        },
    }
}

fn decision(choose: &mut impl Choose, stage: String, known: Option<DecisionId>) -> Event {
    let decision_id = known
        .filter(|_| !choose.once_in(5))
        .unwrap_or_else(DecisionId::new);
    if known.is_none() && !choose.once_in(5) {
        return Event::DecisionOpened { stage, decision_id };
    }
    Event::DecisionResolved {
        stage,
        decision_id,
        resolution: choose.one_of(&[Resolution::Approve, Resolution::Revise, Resolution::Reject]),
        actor: "chance".into(),
    }
}

/// Any event, apt or not: old and future epochs, unknown ids, wrong states.
pub fn any_event(choose: &mut impl Choose, world: &World) -> Event {
    let target = choose.one_of(&world.state.stages);
    let name = target.name.clone();
    let near = target.lease_epoch + choose.one_of(&[0, 0, 0, 0, -1, 1]);
    match choose.below(16) {
        0..=3 => Event::LeaseGranted {
            stage: name,
            epoch: near + 1,
            instance: InstanceId::new(),
        },
        4 => Event::LeaseAdopted {
            stage: name,
            epoch: near + 1,
        },
        5..=9 => attempt_end(choose, name, near),
        10 | 11 => {
            let known = world.decisions.get(&name).copied().flatten();
            decision(choose, name, known)
        }
        12 => match world.clarifications.first() {
            Some(&clarification_id) if choose.once_in(2) => {
                Event::ClarificationAnswered { clarification_id }
            }
            Some(&clarification_id) => Event::ClarificationExpired { clarification_id },
            None => Event::ClarificationAnswered {
                clarification_id: ClarificationId::new(),
            },
        },
        13 => Event::ScheduleTimedOut { stage: name },
        14 => Event::Submitted,
        _ => person(choose, world),
    }
}

/// An event that fits: every running attempt may report, every open question may be answered, what
/// holds everything may be lifted. None: there is nothing to do. While there is `fuel`, people may
/// send work round again, and agents ask for more.
pub fn apt_event(choose: &mut impl Choose, world: &World, fuel: &mut u32) -> Option<Event> {
    let now = &world.state;
    let reason = String::new();
    let mut apt: Vec<Event> = Vec::new();
    if now.paused {
        apt.push(Event::Resumed { reason });
    } else if now.awaiting_budget {
        apt.push(Event::BudgetGranted);
    }
    let spare = *fuel > 0;
    for stage in &now.stages {
        let name = stage.name.clone();
        let epoch = stage.lease_epoch;
        match stage.task {
            TaskState::Absent => {}
            TaskState::Waiting => apt.push(Event::LeaseGranted {
                stage: name,
                epoch: epoch + 1,
                instance: InstanceId::new(),
            }),
            TaskState::Leased => {
                let end = attempt_end(choose, name.clone(), epoch);
                let again = matches!(
                    end,
                    Event::Refused { .. }
                        | Event::HandedBack { .. }
                        | Event::BudgetExhausted { .. }
                );
                apt.push(if again && !spare {
                    Event::AttemptCancelled { stage: name, epoch }
                } else {
                    end
                });
            }
        }
    }
    for (name, known) in &world.decisions {
        let stage = name.clone();
        apt.push(match known {
            None => Event::DecisionOpened {
                stage,
                decision_id: DecisionId::new(),
            },
            Some(decision_id) => Event::DecisionResolved {
                resolution: if spare && !choose.once_in(3) {
                    Resolution::Approve
                } else {
                    Resolution::Reject
                },
                stage,
                decision_id: *decision_id,
                actor: "chance".into(),
            },
        });
    }
    if let Some(&clarification_id) = world.clarifications.first() {
        apt.push(Event::ClarificationAnswered { clarification_id });
    }
    if apt.is_empty() {
        return None;
    }
    let event = choose.one_of(&apt);
    let spends = matches!(
        event,
        Event::Refused { .. }
            | Event::HandedBack { .. }
            | Event::BudgetExhausted { .. }
            | Event::DecisionResolved { .. }
    );
    if spends {
        *fuel = fuel.saturating_sub(1);
    }
    Some(event)
}
