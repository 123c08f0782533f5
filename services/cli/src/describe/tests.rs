//! What people read of single events.

use contracts::orchestrator::{RetryScheduled, StageState};

use super::*;

fn plain(payload: Payload) -> String {
    let subject = WorkflowEvent {
        payload: Some(payload),
        ..WorkflowEvent::default()
    };
    event(&subject, Painter::new(false)).unwrap()
}

#[test]
fn the_end_of_a_stage_says_verdict_and_reason() {
    let mut stage = Stage {
        summary: "2 of 14 tests failed".into(),
        ..Stage::default()
    };
    stage.set_state(StageState::Failed);
    stage.set_verdict(Verdict::Failed);
    let said = plain(Payload::StageFinished(StageFinished { stage: Some(stage) }));
    assert_eq!(said, "failed: 2 of 14 tests failed");
}

#[test]
fn not_proven_is_never_told_as_passed_or_failed() {
    let mut stage = Stage::default();
    stage.set_state(StageState::Failed);
    stage.set_verdict(Verdict::NotProven);
    assert_eq!(stage_word(&stage), "not proven");
    stage.set_state(StageState::Succeeded);
    assert_eq!(stage_word(&stage), "not proven");
    stage.waived = true;
    assert_eq!(stage_word(&stage), "waived");
}

#[test]
fn a_lost_agent_is_told_apart_from_failed_work() {
    let said = plain(Payload::RetryScheduled(RetryScheduled {
        attempt: 1,
        error_class: "lost".into(),
        reason: "no beat for 30 s".into(),
        ready_time: None,
    }));
    assert_eq!(
        said,
        "attempt 1 was lost with its agent, another one follows: no beat for 30 s"
    );
}

#[test]
fn a_finding_names_its_place() {
    let finding = super::finding(&Finding {
        path: "src/shop.py".into(),
        line: 12,
        message: "expected 2\ngot 3".into(),
        rule: "pytest".into(),
        ..Finding::default()
    });
    assert_eq!(finding, "src/shop.py:12  expected 2 got 3  [pytest]");
}
