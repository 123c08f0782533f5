//! Findings go back to whoever wrote the change, within their rounds.

use super::build::{But, run, stage};
use super::{Run, outcome};
use crate::plan::event::{Command, Entry, ErrorClass, Event, StageOutcome};
use crate::plan::state::{StageState, TaskKind, Verdict, WorkflowState};

fn found(finding_count: u32) -> StageOutcome {
    StageOutcome {
        finding_count,
        summary: "2 tests fail".into(),
        ..outcome(Verdict::Failed)
    }
}

fn task_of(run: &Run, stage: &str) -> Option<(TaskKind, u32)> {
    run.commands.iter().find_map(|command| match command {
        Command::CreateTask {
            stage: of,
            task,
            generation,
            ..
        } if of == stage => Some((task.clone(), *generation)),
        _ => None,
    })
}

#[test]
fn findings_go_back_and_everything_after_the_writer_runs_again() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold", "validation"]);
    run.finish_with("e2e", found(2));
    run.is(
        WorkflowState::Running,
        &[
            ("scaffold", StageState::Ready),
            ("validation", StageState::Blocked),
            ("e2e", StageState::Repairing),
            ("integration", StageState::Blocked),
        ],
    );
    let requested = Entry::RepairRequested {
        stage: "e2e".into(),
        repairing_stage: "scaffold".into(),
        round: 1,
        finding_count: 2,
    };
    assert!(run.recorded(|entry| *entry == requested));
    let kind = TaskKind::Repair {
        findings_of: "e2e".into(),
        round: 1,
    };
    // A new piece of work: a new generation, so that the old result does not answer for it.
    assert_eq!(task_of(&run, "scaffold"), Some((kind, 2)));
    assert_eq!(run.state.stage("e2e").unwrap().summary, "2 tests fail");

    run.pass(&["scaffold"]);
    assert_eq!(run.waiting(), ["validation"]);
    run.pass(&["validation", "e2e", "integration", "deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
    assert_eq!(run.state.stage("e2e").unwrap().attempt, 2);
}

#[test]
fn rounds_run_out_and_the_findings_are_the_reason() {
    let mut run = Run::built_in("bugfix");
    for _ in 0..3 {
        run.pass(&["scaffold"]);
        run.finish_with("validation", found(2));
        run.is(
            WorkflowState::Running,
            &[("validation", StageState::Repairing)],
        );
    }
    run.pass(&["scaffold"]);
    run.finish_with("validation", found(2));
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::Failed, "validation"));
    assert_eq!(
        run.outcome().reason,
        "2 tests fail; 3 rounds of repair by `scaffold` did not help"
    );
    assert_eq!(run.state.stage("validation").unwrap().repair_round, 3);
}

#[test]
fn rounds_of_two_judges_are_counted_apart_and_for_the_whole_workflow() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 1),
        stage("e2e", &["validation"]).repaired_by("scaffold", 1),
    ]);
    run.pass(&["scaffold"]);
    run.finish_with("validation", found(1));
    run.pass(&["scaffold", "validation"]);
    run.finish_with("e2e", found(1));
    run.pass(&["scaffold"]);
    // Its one round is spent, although the stage was reset since.
    run.finish_with("validation", found(1));
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::Failed, "validation"));
}

#[test]
fn not_proven_is_not_repaired() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold"]);
    run.finish("validation", Verdict::NotProven);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
}

#[test]
fn a_repair_that_does_not_succeed_leaves_the_findings_as_the_reason() {
    type Ending = fn(&mut Run);
    let endings: [(Ending, &str); 3] = [
        (|run| run.finish("scaffold", Verdict::Failed), "Failed"),
        (
            |run| run.finish("scaffold", Verdict::NotProven),
            "NotProven",
        ),
        (
            |run| run.error("scaffold", ErrorClass::Permanent),
            "it broke",
        ),
    ];
    for (end, why) in endings {
        let mut run = Run::built_in("app");
        run.pass(&["scaffold"]);
        run.finish_with("validation", found(2));
        end(&mut run);
        run.is(
            WorkflowState::Failed,
            &[
                ("scaffold", StageState::Failed),
                ("validation", StageState::Failed),
            ],
        );
        assert_eq!(run.ended(), (Verdict::Failed, "validation"));
        assert_eq!(
            run.outcome().reason,
            format!("2 tests fail; round 1 of repair by `scaffold` did not succeed: {why}")
        );
    }
}

#[test]
fn a_retried_repair_is_still_a_repair() {
    let mut run = Run::built_in("app");
    run.pass(&["scaffold"]);
    run.finish_with("validation", found(2));
    run.lose("scaffold");
    assert!(matches!(
        task_of(&run, "scaffold"),
        Some((TaskKind::Repair { round: 1, .. }, 2))
    ));
}

fn beside() -> Run {
    run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 2),
        stage("e2e", &["scaffold"]).repaired_by("scaffold", 2),
        stage("v-done", &["scaffold"]),
        stage("integration", &["validation", "e2e", "v-done"]),
    ])
}

#[test]
fn what_judges_the_old_commit_is_stopped_and_waited_for() {
    let mut run = beside();
    run.pass(&["scaffold", "v-done"]);
    let epoch = run.lease("e2e");
    run.finish_with("validation", found(1));
    let stop = Command::StopTask {
        stage: "e2e".into(),
        epoch,
    };
    assert!(run.commanded(|command| *command == stop));
    run.is(
        WorkflowState::Running,
        &[
            ("scaffold", StageState::Succeeded),
            ("validation", StageState::Repairing),
            ("e2e", StageState::Running),
        ],
    );
    assert!(run.waiting().is_empty());
    run.stopped("e2e");
    run.is(
        WorkflowState::Running,
        &[
            ("scaffold", StageState::Ready),
            ("validation", StageState::Repairing),
            ("e2e", StageState::Blocked),
            ("v-done", StageState::Blocked),
        ],
    );
    run.pass(&["scaffold", "validation", "e2e", "v-done", "integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn a_late_verdict_on_the_old_commit_does_not_count() {
    for verdict in [Verdict::Passed, Verdict::Failed, Verdict::NotProven] {
        let mut run = beside();
        run.pass(&["scaffold"]);
        run.lease("e2e");
        run.finish_with("validation", found(1));
        run.result("e2e", verdict);
        run.is(
            WorkflowState::Running,
            &[
                ("scaffold", StageState::Ready),
                ("e2e", StageState::Blocked),
            ],
        );
        assert_eq!(run.state.stage("e2e").unwrap().repair_round, 0);
    }
}

#[test]
fn what_waits_beside_a_repair_is_taken_back() {
    let mut run = beside();
    run.pass(&["scaffold"]);
    assert_eq!(run.waiting(), ["validation", "e2e", "v-done"]);
    run.finish_with("validation", found(1));
    let removed = Command::RemoveTask {
        stage: "e2e".into(),
    };
    assert!(run.commanded(|command| *command == removed));
    assert_eq!(run.waiting(), ["scaffold"]);
}

#[test]
fn nothing_is_repaired_once_another_stage_has_failed() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 3),
        stage("v2", &[]),
    ]);
    run.pass(&["scaffold"]);
    run.lease("validation");
    run.finish("v2", Verdict::Failed);
    run.result("validation", Verdict::Failed);
    run.is(WorkflowState::Failed, &[("validation", StageState::Failed)]);
    assert_eq!(run.ended(), (Verdict::Failed, "v2"));
}

#[test]
fn a_repair_ends_when_another_stage_fails() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 3),
        stage("v2", &[]),
    ]);
    run.pass(&["scaffold"]);
    run.finish("validation", Verdict::Failed);
    run.finish("v2", Verdict::Failed);
    run.is(
        WorkflowState::Failed,
        &[
            ("scaffold", StageState::Cancelled),
            ("validation", StageState::Cancelled),
        ],
    );
    assert_eq!(run.ended(), (Verdict::Failed, "v2"));
}

#[test]
fn an_approval_holds_for_one_round_only() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"])
            .approved(contracts::task::DecisionCategory::CostImpacting),
        stage("e2e", &["validation"]).repaired_by("scaffold", 1),
    ]);
    run.pass(&["scaffold"]);
    run.decide("validation", crate::plan::event::Resolution::Approve);
    run.pass(&["validation"]);
    run.finish("e2e", Verdict::Failed);
    run.pass(&["scaffold"]);
    run.is(
        WorkflowState::AwaitingDecision,
        &[("validation", StageState::AwaitingDecision)],
    );
}

#[test]
fn a_repair_that_waits_is_adopted_and_stopped_again_by_the_new_server() {
    let mut run = beside();
    run.pass(&["scaffold"]);
    run.lease("e2e");
    run.finish_with("validation", found(1));
    run.tell(&Event::LeaseAdopted {
        stage: "e2e".into(),
        epoch: 9,
    });
    let stop = Command::StopTask {
        stage: "e2e".into(),
        epoch: 9,
    };
    assert!(run.commanded(|command| *command == stop));
}

#[test]
fn what_a_stopped_stage_did_all_the_same_is_undone_later() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 1),
        stage("deployment", &["scaffold"]).undone(),
    ]);
    run.pass(&["scaffold"]);
    run.lease("deployment");
    run.finish("validation", Verdict::Failed);
    run.result("deployment", Verdict::Passed);
    run.finish("scaffold", Verdict::Failed);
    assert_eq!(run.state.workflow, WorkflowState::Compensating);
    assert_eq!(run.waiting(), ["deployment"]);
}
