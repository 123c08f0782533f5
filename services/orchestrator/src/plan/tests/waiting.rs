//! Pauses, budgets, and questions about the requirements.

use contracts::id::ClarificationId;

use super::Run;
use super::build::{But, run, stage};
use crate::plan::event::{Command, Entry, ErrorClass, Event, Rejected};
use crate::plan::state::{StageState, Verdict, WorkflowState};

fn ask(run: &mut Run, stage: Option<&str>, epoch: Option<i64>) -> ClarificationId {
    let clarification_id = ClarificationId::new();
    run.tell(&Event::ClarificationAsked {
        stage: stage.map(str::to_owned),
        epoch,
        clarification_id,
    });
    clarification_id
}

fn answer(run: &mut Run, clarification_id: ClarificationId) {
    run.tell(&Event::ClarificationAnswered { clarification_id });
}

fn exhaust(run: &mut Run, stage: &str) {
    let epoch = run.lease(stage);
    run.tell(&Event::BudgetExhausted {
        stage: stage.into(),
        epoch,
        reason: "the tokens ran out".into(),
    });
}

#[test]
fn a_pause_takes_back_what_waits_and_lets_run_what_runs() {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("v2", &[]),
        stage("v3", &["validation"]),
    ]);
    run.lease("validation");
    run.pause();
    assert!(
        run.commanded(|command| matches!(command, Command::RemoveTask { stage } if stage == "v2"))
    );
    run.is(
        WorkflowState::Paused,
        &[
            ("validation", StageState::Running),
            ("v2", StageState::Ready),
        ],
    );
    run.result("validation", Verdict::Passed);
    assert!(run.waiting().is_empty());
    run.is(WorkflowState::Paused, &[("v3", StageState::Ready)]);
    run.resume();
    assert_eq!(run.waiting(), ["v2", "v3"]);
    run.is(WorkflowState::Running, &[("v3", StageState::Ready)]);
}

#[test]
fn a_pause_before_anything_started_gives_way_to_pending() {
    let mut run = Run::built_in("app");
    run.pause();
    assert_eq!(run.state.workflow, WorkflowState::Paused);
    run.resume();
    assert_eq!(run.state.workflow, WorkflowState::Pending);
}

#[test]
fn pausing_twice_changes_nothing_and_only_what_is_paused_resumes() {
    let mut run = Run::built_in("app");
    run.pause();
    let before = run.state.clone();
    run.pause();
    assert_eq!((&run.state, run.commands.len()), (&before, 0));
    run.resume();
    let reason = String::new();
    assert!(run.try_tell(&Event::Resumed { reason }).is_err());
}

#[test]
fn a_failure_during_a_pause_is_on_record_and_tried_again_after_it() {
    let mut run = run(vec![stage("validation", &[])]);
    run.lease("validation");
    run.pause();
    run.tell(&Event::AttemptFailed {
        stage: "validation".into(),
        epoch: 1,
        class: ErrorClass::Retryable,
        reason: "it broke".into(),
        retry_after: None,
    });
    assert!(run.recorded(|entry| matches!(entry, Entry::RetryScheduled { .. })));
    assert!(run.waiting().is_empty());
    run.resume();
    assert_eq!(run.waiting(), ["validation"]);
}

#[test]
fn a_paused_workflow_ends_but_is_not_undone_before_it_resumes() {
    let mut run = run(vec![stage("validation", &[])]);
    run.lease("validation");
    run.pause();
    run.result("validation", Verdict::Passed);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);

    let mut run = super::build::run(vec![
        stage("integration", &[]).undone(),
        stage("validation", &["integration"]),
    ]);
    run.pass(&["integration"]);
    run.lease("validation");
    run.pause();
    run.result("validation", Verdict::Failed);
    run.is(WorkflowState::Paused, &[("validation", StageState::Failed)]);
    assert!(run.waiting().is_empty());
    run.resume();
    assert_eq!(run.state.workflow, WorkflowState::Compensating);
}

#[test]
fn a_spent_budget_holds_everything_and_charges_nothing() {
    let mut run = run(vec![
        stage("validation", &[]).retried(1, 1),
        stage("v2", &[]),
    ]);
    exhaust(&mut run, "validation");
    run.is(
        WorkflowState::AwaitingBudget,
        &[("validation", StageState::Ready), ("v2", StageState::Ready)],
    );
    assert!(run.waiting().is_empty());
    assert!(run.recorded(
        |entry| matches!(entry, Entry::Paused { reason } if reason == "the tokens ran out")
    ));
    run.tell(&Event::BudgetGranted);
    assert_eq!(run.waiting(), ["validation", "v2"]);
    run.pass(&["validation", "v2"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn resuming_is_granting_and_a_grant_does_not_end_a_pause() {
    let mut run = run(vec![stage("validation", &[])]);
    exhaust(&mut run, "validation");
    run.resume();
    assert_eq!(run.waiting(), ["validation"]);
    exhaust(&mut run, "validation");
    run.pause();
    run.tell(&Event::BudgetGranted);
    assert_eq!(run.state.workflow, WorkflowState::Paused);
    assert!(run.try_tell(&Event::BudgetGranted).is_err());
}

#[test]
fn a_question_at_intake_holds_everything() {
    let mut run = Run::built_in("app");
    let id = ask(&mut run, None, None);
    run.is(
        WorkflowState::AwaitingClarification,
        &[("scaffold", StageState::Ready)],
    );
    assert!(run.waiting().is_empty());
    answer(&mut run, id);
    assert_eq!(run.waiting(), ["scaffold"]);
    assert_eq!(run.state.workflow, WorkflowState::Pending);
}

#[test]
fn a_question_of_an_agent_ends_its_attempt_and_holds_only_its_stage() {
    let mut run = run(vec![stage("scaffold", &[]).retried(1, 1), stage("v2", &[])]);
    let epoch = run.lease("scaffold");
    let id = ask(&mut run, Some("scaffold"), Some(epoch));
    assert_eq!(run.waiting(), ["v2"]);
    run.pass(&["v2"]);
    assert_eq!(run.state.workflow, WorkflowState::AwaitingClarification);
    answer(&mut run, id);
    let again = run.commands.iter().any(|command| {
        matches!(
            command,
            Command::CreateTask {
                generation: 2,
                attempt: 2,
                ..
            }
        )
    });
    assert!(again, "{:?}", run.commands);
}

#[test]
fn nobody_answering_is_not_proven() {
    let mut run = Run::built_in("app");
    let clarification_id = ask(&mut run, None, None);
    run.tell(&Event::ClarificationExpired { clarification_id });
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::NotProven, ""));

    let mut run = Run::built_in("app");
    let epoch = run.lease("scaffold");
    let clarification_id = ask(&mut run, Some("scaffold"), Some(epoch));
    run.tell(&Event::ClarificationExpired { clarification_id });
    assert_eq!(run.ended(), (Verdict::NotProven, "scaffold"));
}

#[test]
fn there_are_at_most_three_questions() {
    let mut run = Run::built_in("app");
    for _ in 0..3 {
        let epoch = run.lease("scaffold");
        let id = ask(&mut run, Some("scaffold"), Some(epoch));
        answer(&mut run, id);
    }
    assert!(matches!(
        run.try_tell(&Event::ClarificationAsked {
            stage: None,
            epoch: None,
            clarification_id: ClarificationId::new(),
        }),
        Err(Rejected::WrongState { .. })
    ));
    let epoch = run.lease("scaffold");
    ask(&mut run, Some("scaffold"), Some(epoch));
    assert_eq!(run.ended(), (Verdict::NotProven, "scaffold"));
}

#[test]
fn a_clarification_is_answered_once_and_void_after_the_end() {
    let mut run = Run::built_in("app");
    let id = ask(&mut run, None, None);
    answer(&mut run, id);
    assert_eq!(
        run.try_tell(&Event::ClarificationAnswered {
            clarification_id: id
        }),
        Err(Rejected::ClarificationNotOpen(id))
    );
    let id = ask(&mut run, Some("deployment"), None);
    run.cancel();
    let closed = Command::CloseClarification {
        clarification_id: id,
    };
    assert!(run.commanded(|command| *command == closed));
}

#[test]
fn a_question_that_arrives_twice_is_asked_once() {
    let mut run = Run::built_in("app");
    let epoch = run.lease("scaffold");
    let clarification_id = ask(&mut run, Some("scaffold"), Some(epoch));
    let again = |epoch| Event::ClarificationAsked {
        stage: Some("scaffold".into()),
        epoch,
        clarification_id,
    };
    let stale = run.try_tell(&again(Some(epoch)));
    assert!(matches!(stale, Err(Rejected::StaleLease { held: 1, .. })));
    let open = run.try_tell(&again(None));
    assert!(matches!(open, Err(Rejected::WrongState { .. })));
}

#[test]
fn a_running_stage_cannot_be_asked_about_from_outside() {
    let mut run = Run::built_in("app");
    run.lease("scaffold");
    assert!(matches!(
        run.try_tell(&Event::ClarificationAsked {
            stage: Some("scaffold".into()),
            epoch: None,
            clarification_id: ClarificationId::new(),
        }),
        Err(Rejected::StageState { .. })
    ));
}
