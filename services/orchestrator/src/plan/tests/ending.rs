//! What can and cannot follow an end.

use super::Run;
use super::build::{But, run, stage};
use crate::plan::event::{Command, Entry, ErrorClass, Event, Rejected};
use crate::plan::state::{StageState, TaskKind, Verdict, WorkflowState};

#[test]
fn a_retry_goes_on_from_what_did_not_succeed() {
    let mut run = Run::built_in("change");
    run.pass(&["validation"]);
    run.error("e2e", ErrorClass::Permanent);
    run.retry(None);
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Succeeded),
            ("e2e", StageState::Ready),
            ("integration", StageState::Blocked),
        ],
    );
    assert!(
        run.recorded(
            |entry| matches!(entry, Entry::Retried { from_stage } if from_stage.is_empty())
        )
    );
    run.pass(&["e2e", "integration", "deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn epochs_attempts_and_generations_go_on_growing() {
    let mut run = run(vec![stage("validation", &[]).retried(1, 1)]);
    run.error("validation", ErrorClass::Retryable);
    run.retry(None);
    let stage = &run.state.stages[0];
    assert_eq!(
        (stage.lease_epoch, stage.attempt, stage.generation),
        (1, 1, 2)
    );
    assert_eq!(run.lease("validation"), 2);
    run.result("validation", Verdict::Passed);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn a_retry_from_a_stage_runs_it_and_all_that_need_it_again() {
    let mut run = Run::built_in("change");
    run.pass(&["validation", "e2e", "integration"]);
    run.finish("deployment", Verdict::Failed);
    // The merge is taken back first.
    run.pass(&["integration"]);
    run.retry(Some("e2e"));
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Succeeded),
            ("e2e", StageState::Ready),
            ("integration", StageState::Blocked),
            ("deployment", StageState::Blocked),
        ],
    );
}

#[test]
fn a_retry_is_no_way_around_a_gate() {
    let mut run = Run::built_in("change");
    run.finish("validation", Verdict::Failed);
    run.retry(Some("integration"));
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Ready),
            ("integration", StageState::Blocked),
        ],
    );
}

#[test]
fn what_was_undone_runs_again() {
    let mut run = run(vec![
        stage("integration", &[]).undone(),
        stage("v-between", &["integration"]),
        stage("e2e", &[]),
        stage("deployment", &["v-between", "e2e"]),
    ]);
    run.pass(&["integration", "v-between", "e2e"]);
    run.finish("deployment", Verdict::Failed);
    run.pass(&["integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    run.retry(None);
    run.is(
        WorkflowState::Running,
        &[
            ("integration", StageState::Ready),
            ("v-between", StageState::Blocked),
            ("e2e", StageState::Succeeded),
        ],
    );
}

#[test]
fn a_cancelled_workflow_can_be_retried_and_cancelled_again() {
    let mut run = Run::built_in("change");
    for _ in 0..3 {
        run.lease("validation");
        run.cancel();
        run.stopped("validation");
        assert_eq!(run.state.workflow, WorkflowState::Cancelled);
        run.retry(None);
    }
    run.pass(&["validation", "e2e", "integration", "deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn repair_rounds_begin_anew_with_a_retry_and_an_unfinished_repair_is_finished() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold"]);
    run.finish("validation", Verdict::Failed);
    run.error("scaffold", ErrorClass::Permanent);
    let repairs = |run: &Run| {
        run.commanded(|command| {
            matches!(
                command,
                Command::CreateTask {
                    task: TaskKind::Repair { .. },
                    ..
                }
            )
        })
    };
    let mut anew = run.clone();
    anew.retry(Some("scaffold"));
    assert!(!repairs(&anew));
    run.retry(None);
    assert!(repairs(&run));
    assert_eq!(run.state.stage("validation").unwrap().repair_round, 0);
}

#[test]
fn only_an_end_without_success_can_be_retried() {
    let mut run = Run::built_in("change");
    let retry = Event::RetryRequested { from_stage: None };
    assert!(matches!(
        run.try_tell(&retry),
        Err(Rejected::WrongState { .. })
    ));
    run.pass(&["validation", "e2e", "integration", "deployment"]);
    assert!(matches!(
        run.try_tell(&retry),
        Err(Rejected::WrongState { .. })
    ));
}

#[test]
fn an_unknown_stage_is_refused_by_name_and_nothing_changes() {
    let mut run = Run::built_in("change");
    run.finish("validation", Verdict::Failed);
    let before = run.state.clone();
    let from_stage = Some("nowhere".to_owned());
    assert_eq!(
        run.try_tell(&Event::RetryRequested { from_stage }),
        Err(Rejected::UnknownStage("nowhere".into()))
    );
    assert_eq!(run.state, before);
}

#[test]
fn an_optional_stage_that_failed_is_retried_only_when_something_asks_for_it() {
    let mut run = run(vec![stage("validation", &[]).optional(), stage("v2", &[])]);
    run.finish("validation", Verdict::Failed);
    run.finish("v2", Verdict::Failed);
    let mut all = run.clone();
    all.retry(None);
    assert_eq!(all.waiting(), ["validation", "v2"]);
    run.retry(Some("v2"));
    assert_eq!(run.waiting(), ["v2"]);
}

#[test]
fn the_first_failure_is_the_reason() {
    let mut run = run(vec![stage("validation", &[]), stage("v2", &[])]);
    run.lease("validation");
    run.finish("v2", Verdict::NotProven);
    run.result("validation", Verdict::Failed);
    assert_eq!(run.ended(), (Verdict::NotProven, "v2"));
}

#[test]
fn a_repair_that_fails_after_a_retry_answers_for_itself() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold"]);
    run.finish("validation", Verdict::Failed);
    run.error("scaffold", ErrorClass::Permanent);
    assert_eq!(run.ended(), (Verdict::Failed, "validation"));
    run.retry(None);
    run.error("scaffold", ErrorClass::Permanent);
    run.is(
        WorkflowState::Failed,
        &[("validation", StageState::Cancelled)],
    );
    assert_eq!(run.ended(), (Verdict::NotProven, "scaffold"));
}

#[test]
fn what_could_not_be_undone_is_tried_again_after_a_retry() {
    let mut run = run(vec![
        stage("deployment", &[]).undone(),
        stage("e2e", &["deployment"]),
    ]);
    run.pass(&["deployment"]);
    run.finish("e2e", Verdict::Failed);
    run.finish("deployment", Verdict::Failed);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    run.retry(None);
    // What still stands need not run again.
    run.is(
        WorkflowState::Running,
        &[
            ("deployment", StageState::Succeeded),
            ("e2e", StageState::Ready),
        ],
    );
    run.finish("e2e", Verdict::Failed);
    run.pass(&["deployment"]);
    assert_eq!(run.outcome().reason, "Failed");
}
