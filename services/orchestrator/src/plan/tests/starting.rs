//! What starts, when, and how far the workflow says that it is.

use contracts::orchestrator::NeedCondition::{Always, Completed};

use super::build::{But, run, stage, stage_when};
use super::{Run, outcome};
use crate::plan::event::{Command, Delay, Entry, Event, Rejected, StageOutcome};
use crate::plan::state::{StageState, TaskKind, Verdict, WorkflowState};

fn says_app(is_app: bool) -> StageOutcome {
    StageOutcome {
        project_is_app: Some(is_app),
        ..outcome(Verdict::Passed)
    }
}

#[test]
fn the_built_in_app_pipeline_runs_to_its_end() {
    let mut run = Run::built_in("app");
    run.is(WorkflowState::Pending, &[("scaffold", StageState::Ready)]);
    run.pass(&["scaffold", "validation", "e2e", "integration"]);
    run.is(WorkflowState::Running, &[("deployment", StageState::Ready)]);
    run.pass(&["deployment"]);
    assert!(run.recorded(|entry| *entry == Entry::Finished));
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
    assert_eq!(run.ended(), (Verdict::Passed, ""));
    assert_eq!(run.outcome().reason, "5 stages passed");
}

#[test]
fn submitting_creates_the_first_task_and_says_so() {
    let run = Run::built_in("change");
    let stage = || "validation".to_owned();
    assert_eq!(
        run.commands,
        [
            Command::Record(Entry::Created),
            Command::CreateTask {
                stage: stage(),
                task: TaskKind::Run,
                generation: 1,
                attempt: 1,
                after: Delay::None,
            },
            Command::Record(Entry::StageQueued {
                stage: stage(),
                attempt: 1,
            }),
        ]
    );
}

#[test]
fn a_result_and_the_next_task_come_of_one_event() {
    let mut run = Run::built_in("change");
    run.pass(&["validation"]);
    let kinds: Vec<_> = run
        .commands
        .iter()
        .map(|command| match command {
            Command::Record(Entry::StageFinished { stage }) => format!("finished {stage}"),
            Command::CreateTask { stage, .. } => format!("task {stage}"),
            Command::Record(Entry::StageQueued { stage, .. }) => format!("queued {stage}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["finished validation", "task e2e", "queued e2e"]);
}

#[test]
fn independent_stages_start_together_and_a_join_waits_for_all() {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("v2", &[]),
        stage("v3", &["validation", "v2"]),
    ]);
    assert_eq!(run.waiting(), ["validation", "v2"]);
    run.pass(&["v2"]);
    assert_eq!(run.waiting(), ["validation"]);
    run.pass(&["validation"]);
    assert_eq!(run.waiting(), ["v3"]);
}

#[test]
fn a_library_has_no_e2e_and_no_deployment() {
    let mut run = Run::built_in("change");
    run.finish_with("validation", says_app(false));
    run.is(
        WorkflowState::Running,
        &[
            ("e2e", StageState::Skipped),
            ("integration", StageState::Ready),
            ("deployment", StageState::Blocked),
        ],
    );
    assert_eq!(
        run.state.stage("e2e").unwrap().summary,
        "the project is a library"
    );
    let skipped = Entry::StageFinished {
        stage: "e2e".into(),
    };
    assert!(run.recorded(|entry| *entry == skipped));
    run.pass(&["integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
    assert_eq!(
        run.outcome().reason,
        "2 stages passed; not needed: `e2e`, `deployment`"
    );
}

#[test]
fn what_nobody_knows_to_be_a_library_is_treated_as_an_app() {
    for known in [None, Some(true)] {
        let mut run = Run::built_in("change");
        let outcome = StageOutcome {
            project_is_app: known,
            ..outcome(Verdict::Passed)
        };
        run.finish_with("validation", outcome);
        assert_eq!(run.waiting(), ["e2e"], "{known:?}");
    }
}

#[test]
fn the_newest_word_on_whether_it_is_an_app_counts() {
    let mut run = Run::built_in("change");
    run.finish_with("validation", says_app(true));
    run.finish_with("e2e", says_app(false));
    run.pass(&["integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
    assert_eq!(
        run.state.stage("deployment").unwrap().state,
        StageState::Skipped
    );
}

#[test]
fn conditions_decide_what_runs_after_a_failure() {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("v-next", &["validation"]),
        stage_when("v-report", &["validation"], Completed),
        stage_when("v-clean", &["v-next"], Always),
        stage_when("v-never", &["v-next"], Completed),
    ]);
    run.finish("validation", Verdict::Failed);
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Failed),
            ("v-next", StageState::Cancelled),
            ("v-report", StageState::Ready),
            ("v-clean", StageState::Ready),
            ("v-never", StageState::Cancelled),
        ],
    );
    run.pass(&["v-report", "v-clean"]);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::Failed, "validation"));
}

#[test]
fn what_is_meant_for_success_does_not_start_once_a_required_stage_failed() {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("v2", &[]),
        stage("v3", &["v2"]),
    ]);
    run.lease("v2");
    run.finish("validation", Verdict::Failed);
    run.is(
        WorkflowState::Running,
        &[("v2", StageState::Running), ("v3", StageState::Cancelled)],
    );
    run.result("v2", Verdict::Passed);
    run.is(
        WorkflowState::Failed,
        &[("v2", StageState::Succeeded), ("v3", StageState::Cancelled)],
    );
    assert_eq!(run.ended(), (Verdict::Failed, "validation"));
}

#[test]
fn a_merge_never_follows_a_failed_judge_through_a_detour() {
    // e2e runs whatever validation says, and passes; that must not open the way to integration.
    let mut run = run(vec![
        stage("validation", &[]),
        stage_when("e2e", &["validation"], Completed),
        stage("integration", &["e2e"]),
    ]);
    run.finish("validation", Verdict::Failed);
    run.pass(&["e2e"]);
    run.is(
        WorkflowState::Failed,
        &[
            ("e2e", StageState::Succeeded),
            ("integration", StageState::Cancelled),
        ],
    );
}

#[test]
fn an_optional_stage_blocks_nothing_and_its_verdict_is_shown() {
    for verdict in [Verdict::Failed, Verdict::NotProven] {
        let mut run = run(vec![
            stage("validation", &[]).optional(),
            stage("integration", &["validation"]),
        ]);
        run.finish("validation", verdict);
        run.is(
            WorkflowState::Running,
            &[
                ("validation", StageState::Failed),
                ("integration", StageState::Ready),
            ],
        );
        assert_eq!(
            run.state.stage("validation").unwrap().verdict,
            Some(verdict)
        );
        run.pass(&["integration"]);
        assert_eq!(run.state.workflow, WorkflowState::Succeeded);
        assert_eq!(
            run.outcome().reason,
            "1 stage passed; optional and without success: `validation`"
        );
    }
}

#[test]
fn progress_is_by_weight_and_never_complete_before_the_end() {
    let mut run = run(vec![
        stage("validation", &[]).weighing(30),
        stage("v2", &["validation"]).weighing(70),
    ]);
    let percent = |run: &Run, running: f64| run.state.percent(&run.pipeline, |_| running);
    assert!((percent(&run, 50.0) - 0.0).abs() < 1e-9);
    run.lease("validation");
    assert!((percent(&run, 50.0) - 15.0).abs() < 1e-9);
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0] {
        assert!((percent(&run, wrong) - 0.0).abs() < 1e-9, "{wrong}");
    }
    assert!((percent(&run, 1e9) - 30.0).abs() < 1e-9);
    run.result("validation", Verdict::Passed);
    run.lease("v2");
    assert!((percent(&run, 50.0) - 65.0).abs() < 1e-9);
    assert!((percent(&run, 100.0) - 99.0).abs() < 1e-9);
    run.result("v2", Verdict::Passed);
    assert!((percent(&run, 0.0) - 100.0).abs() < 1e-9);
}

#[test]
fn a_workflow_that_failed_never_reaches_a_hundred() {
    let mut run = run(vec![stage("validation", &[])]);
    run.finish("validation", Verdict::Failed);
    assert!(run.state.percent(&run.pipeline, |_| 100.0) < 100.0);
}

#[test]
fn a_state_survives_storage() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold"]);
    run.finish("validation", Verdict::Failed);
    let stored = serde_json::to_string(&run.state).unwrap();
    let read: crate::plan::state::State = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, run.state);
}

#[test]
fn a_state_of_another_pipeline_is_refused() {
    let run = Run::built_in("app");
    let other = Run::built_in("change");
    assert_eq!(
        run.state
            .clone()
            .apply(&other.pipeline, &Event::BudgetGranted),
        Err(Rejected::PipelineMismatch)
    );
}
