//! The whole transition table: every state of a stage and of a workflow against every kind of event,
//! each with its expected answer. A cell is the state after the event, or why it was refused.

mod scenes;

use std::collections::BTreeSet;
use std::fmt::Write;

use contracts::id::{ClarificationId, DecisionId, InstanceId};
use contracts::task::DecisionCategory;

use self::scenes::{Refer, Scene, plain, stage_scenes, workflow_scenes};
use super::build::{pipeline, stage};
use super::{Run, asking, outcome, resolved};
use crate::plan::event::{
    ApprovalEffect, DecisionAsk, ErrorClass, Event, Rejected, Resolution, StageOutcome,
};
use crate::plan::state::{StageState, Verdict, WorkflowState};

/// The stage that all events are about.
const T: &str = "t";

const ASK: DecisionAsk = DecisionAsk {
    category: DecisionCategory::Waiver,
    on_approval: ApprovalEffect::Accept,
    confidence: 0.0,
    has_choices: false,
};

type Make = fn(&Run, Refer) -> Event;

fn result(run: &Run, epoch: i64, outcome: StageOutcome) -> Event {
    Event::ResultAccepted {
        stage: T.into(),
        epoch: run.epoch(T) + epoch,
        outcome,
    }
}

fn granted(run: &Run, epoch: i64) -> Event {
    Event::LeaseGranted {
        stage: T.into(),
        epoch: run.epoch(T) + epoch,
        instance: InstanceId::new(),
    }
}

fn adopted(run: &Run, epoch: i64) -> Event {
    Event::LeaseAdopted {
        stage: T.into(),
        epoch: run.epoch(T) + epoch,
    }
}

fn failed(run: &Run, class: ErrorClass) -> Event {
    Event::AttemptFailed {
        stage: T.into(),
        epoch: run.epoch(T),
        class,
        reason: "it broke".into(),
        retry_after: None,
    }
}

const EVENTS: [(&str, Make); 36] = [
    ("submitted", |_, _| Event::Submitted),
    ("granted", |run, _| granted(run, 1)),
    ("granted-old", |run, _| granted(run, 0)),
    ("adopted", |run, _| adopted(run, 1)),
    ("adopted-old", |run, _| adopted(run, 0)),
    ("refused", |run, _| Event::Refused {
        stage: T.into(),
        epoch: run.epoch(T),
        reason: "full".into(),
    }),
    ("handed-back", |run, _| Event::HandedBack {
        stage: T.into(),
        epoch: run.epoch(T),
        reason: "drains".into(),
    }),
    ("passed", |run, _| result(run, 0, outcome(Verdict::Passed))),
    ("failed", |run, _| result(run, 0, outcome(Verdict::Failed))),
    ("not-proven", |run, _| {
        result(run, 0, outcome(Verdict::NotProven))
    }),
    ("asks", |run, _| {
        result(run, 0, asking(Verdict::NotProven, ASK))
    }),
    ("passed-stale", |run, _| {
        result(run, -1, outcome(Verdict::Passed))
    }),
    ("passed-ahead", |run, _| {
        result(run, 1, outcome(Verdict::Passed))
    }),
    ("error", |run, _| failed(run, ErrorClass::Retryable)),
    ("timeout", |run, _| failed(run, ErrorClass::TimedOut)),
    ("permanent", |run, _| failed(run, ErrorClass::Permanent)),
    ("lost", |run, _| Event::AttemptLost {
        stage: T.into(),
        epoch: run.epoch(T),
        reason: "no beat".into(),
    }),
    ("stopped", |run, _| Event::AttemptCancelled {
        stage: T.into(),
        epoch: run.epoch(T),
    }),
    ("no-budget", |run, _| Event::BudgetExhausted {
        stage: T.into(),
        epoch: run.epoch(T),
        reason: "the tokens ran out".into(),
    }),
    ("not-taken", |_, _| Event::ScheduleTimedOut {
        stage: T.into(),
    }),
    ("opened", |_, _| Event::DecisionOpened {
        stage: T.into(),
        decision_id: DecisionId::new(),
    }),
    ("approve", |_, refer| {
        resolved(T, refer.decision_id, Resolution::Approve)
    }),
    ("revise", |_, refer| {
        resolved(T, refer.decision_id, Resolution::Revise)
    }),
    ("reject", |_, refer| {
        resolved(T, refer.decision_id, Resolution::Reject)
    }),
    ("asks-held", |run, _| Event::ClarificationAsked {
        stage: Some(T.into()),
        epoch: Some(run.epoch(T)),
        clarification_id: ClarificationId::new(),
    }),
    ("asks-stage", |_, _| Event::ClarificationAsked {
        stage: Some(T.into()),
        epoch: None,
        clarification_id: ClarificationId::new(),
    }),
    ("asks-intake", |_, _| Event::ClarificationAsked {
        stage: None,
        epoch: None,
        clarification_id: ClarificationId::new(),
    }),
    ("answered", |_, refer| Event::ClarificationAnswered {
        clarification_id: refer.clarification_id,
    }),
    ("unanswered", |_, refer| Event::ClarificationExpired {
        clarification_id: refer.clarification_id,
    }),
    ("budget", |_, _| Event::BudgetGranted),
    ("cancel", |_, _| Event::CancelRequested {
        reason: String::new(),
    }),
    ("pause", |_, _| Event::Paused {
        reason: String::new(),
    }),
    ("resume", |_, _| Event::Resumed {
        reason: String::new(),
    }),
    ("retry", |_, _| Event::RetryRequested { from_stage: None }),
    ("retry-from", |_, _| Event::RetryRequested {
        from_stage: Some(T.into()),
    }),
    ("too-long", |_, _| Event::WorkflowTimedOut),
];

/// Number of an event's kind: a new kind does not compile before it is here.
fn kind(event: &Event) -> u32 {
    match event {
        Event::Submitted => 0,
        Event::LeaseGranted { .. } => 1,
        Event::LeaseAdopted { .. } => 2,
        Event::Refused { .. } => 3,
        Event::ResultAccepted { .. } => 4,
        Event::AttemptFailed { .. } => 5,
        Event::AttemptLost { .. } => 6,
        Event::AttemptCancelled { .. } => 7,
        Event::DecisionOpened { .. } => 8,
        Event::DecisionResolved { .. } => 9,
        Event::ClarificationAsked { .. } => 10,
        Event::ClarificationAnswered { .. } => 11,
        Event::ClarificationExpired { .. } => 12,
        Event::BudgetExhausted { .. } => 13,
        Event::BudgetGranted => 14,
        Event::CancelRequested { .. } => 15,
        Event::Paused { .. } => 16,
        Event::Resumed { .. } => 17,
        Event::RetryRequested { .. } => 18,
        Event::ScheduleTimedOut { .. } => 19,
        Event::WorkflowTimedOut => 20,
        Event::HandedBack { .. } => 21,
    }
}

fn why(rejected: &Rejected) -> &'static str {
    match rejected {
        Rejected::StaleLease { .. } => "!stale",
        Rejected::StageState { .. } => "!stage",
        Rejected::WrongState { .. } => "!state",
        Rejected::AlreadyFinished(_) => "!over",
        Rejected::UnknownStage(_) => "!unknown",
        Rejected::DecisionNotOpen { .. } => "!decision",
        Rejected::ClarificationNotOpen(_) => "!answer",
        Rejected::PipelineMismatch => "!pipeline",
    }
}

fn stage_word(state: StageState) -> &'static str {
    match state {
        StageState::Blocked => "blocked",
        StageState::Ready => "ready",
        StageState::Running => "running",
        StageState::Succeeded => "succeeded",
        StageState::Failed => "failed",
        StageState::Skipped => "skipped",
        StageState::Cancelled => "cancelled",
        StageState::AwaitingDecision => "asking",
        StageState::Repairing => "repairing",
    }
}

fn workflow_word(state: WorkflowState) -> &'static str {
    match state {
        WorkflowState::Pending => "pending",
        WorkflowState::Running => "running",
        WorkflowState::AwaitingDecision => "asking",
        WorkflowState::AwaitingClarification => "unclear",
        WorkflowState::AwaitingBudget => "broke",
        WorkflowState::Paused => "paused",
        WorkflowState::Compensating => "undoing",
        WorkflowState::Succeeded => "succeeded",
        WorkflowState::Failed => "failed",
        WorkflowState::Cancelled => "cancelled",
    }
}

fn render(scenes: &[Scene], word: impl Fn(&Run) -> &'static str) -> String {
    let mut table = String::new();
    let mut line = |first: &str, cells: &[&str]| {
        let mut text = format!("{first:<13}");
        for cell in cells {
            let _ = write!(text, "{cell:<11}");
        }
        let _ = writeln!(table, "{}", text.trim_end());
    };
    let names: Vec<_> = scenes.iter().map(|scene| scene.name).collect();
    line("", &names);
    for (name, make) in EVENTS {
        let cells: Vec<_> = scenes
            .iter()
            .map(|scene| {
                let mut run = scene.run.clone();
                match run.try_tell(&make(&scene.run, scene.refer)) {
                    Ok(()) => word(&run),
                    Err(rejected) => {
                        assert_eq!(run.state, scene.run.state, "a refusal changed the state");
                        why(&rejected)
                    }
                }
            })
            .collect();
        line(name, &cells);
    }
    table
}

#[track_caller]
fn compare(found: &str, expected: &str) {
    let difference = found
        .lines()
        .zip(expected.lines())
        .find(|(found, expected)| found != expected);
    assert!(found == expected, "{difference:#?}\n{found}");
}

#[test]
fn every_state_of_a_stage_answers_every_event_as_written() {
    let scenes = stage_scenes();
    let states: BTreeSet<_> = scenes
        .iter()
        .map(|scene| scene.run.state.stage(T).unwrap().state)
        .collect();
    assert_eq!(states.len(), 9, "a state is missing");
    let word = |run: &Run| stage_word(run.state.stage(T).unwrap().state);
    compare(&render(&scenes, word), include_str!("stage_table.txt"));
}

#[test]
fn every_state_of_a_workflow_answers_every_event_as_written() {
    let scenes = workflow_scenes();
    let states: BTreeSet<_> = scenes
        .iter()
        .map(|scene| scene.run.state.workflow)
        .collect();
    assert_eq!(states.len(), 10, "a state is missing");
    let word = |run: &Run| workflow_word(run.state.workflow);
    compare(&render(&scenes, word), include_str!("workflow_table.txt"));
}

#[test]
fn the_table_has_every_kind_of_event() {
    let run = plain();
    let refer = Refer {
        decision_id: DecisionId::new(),
        clarification_id: ClarificationId::new(),
    };
    let kinds: BTreeSet<_> = EVENTS
        .iter()
        .map(|(_, make)| kind(&make(&run, refer)))
        .collect();
    assert!(kinds.into_iter().eq(0..=21));
}

#[test]
fn every_event_about_a_stage_that_is_not_there_is_refused_by_name() {
    let run = plain();
    let refer = Refer {
        decision_id: DecisionId::new(),
        clarification_id: ClarificationId::new(),
    };
    // The same pipeline but for the name of the stage.
    let other = Run::of(pipeline(vec![stage("s", &[])]));
    for (name, make) in EVENTS {
        let event = make(&run, refer);
        let about_a_stage = format!("{event:?}").contains("\"t\"");
        if about_a_stage && !matches!(event, Event::RetryRequested { .. }) {
            assert_eq!(
                other.clone().try_tell(&event),
                Err(Rejected::UnknownStage(T.into())),
                "{name}"
            );
        }
    }
}
