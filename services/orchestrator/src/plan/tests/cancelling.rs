//! Cancelling, undoing, and running out of time.

use contracts::task::DecisionCategory;

use super::build::{But, run, stage, stage_when};
use super::{Run, asking};
use crate::plan::event::ApprovalEffect::Accept;
use crate::plan::event::{Command, DecisionAsk, Entry, ErrorClass, Event, Rejected, Resolution};
use crate::plan::state::{StageState, TaskKind, Verdict, WorkflowState};

/// Two stages that can be undone, and two after them.
fn undoable() -> Run {
    run(vec![
        stage("integration", &[]).undone(),
        stage("deployment", &["integration"]).undone().retried(2, 2),
        stage("e2e", &["deployment"]),
        stage("v-last", &["e2e"]),
    ])
}

fn undoes(run: &Run) -> Vec<&str> {
    run.commands
        .iter()
        .filter_map(|command| match command {
            Command::CreateTask {
                stage,
                task: TaskKind::Undo,
                ..
            } => Some(stage.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn cancelling_takes_back_what_waits_and_stops_what_runs() {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("v-ready", &[]),
        stage("v-asks", &[]).approved(DecisionCategory::CostImpacting),
        stage("v-blocked", &["validation"]),
        stage_when(
            "v-always",
            &["v-blocked"],
            contracts::orchestrator::NeedCondition::Always,
        ),
    ]);
    let epoch = run.lease("validation");
    run.open("v-asks");
    run.cancel();
    let stage = |name: &str| name.to_owned();
    for expected in [
        Command::StopTask {
            stage: stage("validation"),
            epoch,
        },
        Command::RemoveTask {
            stage: stage("v-ready"),
        },
        Command::CloseDecision {
            stage: stage("v-asks"),
        },
    ] {
        assert!(
            run.commanded(|command| *command == expected),
            "{expected:?}"
        );
    }
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Running),
            ("v-ready", StageState::Cancelled),
            ("v-asks", StageState::Cancelled),
            ("v-blocked", StageState::Cancelled),
            ("v-always", StageState::Cancelled),
        ],
    );
    run.stopped("validation");
    run.is(
        WorkflowState::Cancelled,
        &[("validation", StageState::Cancelled)],
    );
    assert_eq!(run.ended(), (Verdict::NotProven, ""));
    assert_eq!(run.outcome().reason, "cancelled: not wanted");
}

#[test]
fn nothing_to_wait_for_means_cancelled_at_once() {
    let mut run = Run::built_in("app");
    run.cancel();
    assert_eq!(run.state.workflow, WorkflowState::Cancelled);
    assert!(run.recorded(|entry| matches!(entry, Entry::CancelRequested { .. })));
    assert!(run.recorded(|entry| *entry == Entry::Finished));
}

#[test]
fn cancelling_twice_changes_nothing() {
    let mut run = Run::built_in("app");
    run.lease("scaffold");
    run.cancel();
    let before = run.state.clone();
    run.cancel();
    assert_eq!((&run.state, run.commands.len()), (&before, 0));
}

#[test]
fn whatever_a_stopped_attempt_reports_ends_it() {
    type Report = fn(&mut Run);
    let reports: [(Report, StageState); 7] = [
        (|run| run.stopped("validation"), StageState::Cancelled),
        (|run| run.lose_running("validation"), StageState::Cancelled),
        (
            |run| run.result("validation", Verdict::Failed),
            StageState::Cancelled,
        ),
        (
            |run| run.result("validation", Verdict::NotProven),
            StageState::Cancelled,
        ),
        (
            |run| run.result("validation", Verdict::Passed),
            StageState::Succeeded,
        ),
        (
            |run| {
                let epoch = run.epoch("validation");
                run.tell(&Event::BudgetExhausted {
                    stage: "validation".into(),
                    epoch,
                    reason: "the tokens ran out".into(),
                });
            },
            StageState::Cancelled,
        ),
        (
            |run| {
                let epoch = run.epoch("validation");
                run.tell(&Event::Refused {
                    stage: "validation".into(),
                    epoch,
                    reason: "full".into(),
                });
            },
            StageState::Cancelled,
        ),
    ];
    for (report, state) in reports {
        let mut run = run(vec![stage("validation", &[]), stage("v2", &["validation"])]);
        run.lease("validation");
        run.cancel();
        report(&mut run);
        run.is(
            WorkflowState::Cancelled,
            &[("validation", state), ("v2", StageState::Cancelled)],
        );
    }
}

#[test]
fn a_late_success_during_a_cancellation_is_undone() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.lease("deployment");
    run.cancel();
    run.result("deployment", Verdict::Passed);
    assert_eq!(run.state.workflow, WorkflowState::Compensating);
    assert_eq!(undoes(&run), ["deployment"]);
}

#[test]
fn a_failure_undoes_what_stands_newest_first() {
    let mut run = undoable();
    run.pass(&["integration", "deployment"]);
    run.finish("e2e", Verdict::Failed);
    run.is(
        WorkflowState::Compensating,
        &[
            ("deployment", StageState::Succeeded),
            ("v-last", StageState::Cancelled),
        ],
    );
    assert_eq!(undoes(&run), ["deployment"]);
    assert_eq!(run.waiting(), ["deployment"]);
    run.pass(&["deployment"]);
    assert!(run.recorded(|entry| matches!(
        entry,
        Entry::StageCompensated { stage, verdict: Verdict::Passed, .. } if stage == "deployment"
    )));
    assert_eq!(undoes(&run), ["integration"]);
    run.pass(&["integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::Failed, "e2e"));
    assert_eq!(run.outcome().reason, "Failed");
}

#[test]
fn an_undo_is_a_new_piece_of_work() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.finish("deployment", Verdict::Failed);
    let undo = run.commands.iter().find_map(|command| match command {
        Command::CreateTask {
            stage,
            generation,
            attempt,
            ..
        } => Some((stage.as_str(), *generation, *attempt)),
        _ => None,
    });
    assert_eq!(undo, Some(("integration", 2, 2)));
}

#[test]
fn what_could_not_be_undone_is_said_and_the_rest_is_undone_all_the_same() {
    for verdict in [Verdict::Failed, Verdict::NotProven] {
        let mut run = undoable();
        run.pass(&["integration", "deployment"]);
        run.finish("e2e", Verdict::Failed);
        run.finish("deployment", verdict);
        assert_eq!(undoes(&run), ["integration"]);
        run.pass(&["integration"]);
        assert_eq!(run.state.workflow, WorkflowState::Failed);
        assert_eq!(
            run.outcome().reason,
            format!("Failed; `deployment` could not be undone: {verdict:?}")
        );
    }
}

#[test]
fn what_lost_attempts_may_have_done_outside_is_not_passed_over() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.lose("deployment");
    run.lose("deployment");
    assert_eq!(undoes(&run), ["integration"]);
    run.pass(&["integration"]);
    assert_eq!(run.ended(), (Verdict::NotProven, "deployment"));
    assert_eq!(
        run.outcome().reason,
        "2 attempts were lost; the last: no beat; what they did outside is not known, and was not undone"
    );
}

#[test]
fn an_undo_is_retried_within_its_own_limits() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.error("deployment", ErrorClass::Retryable);
    run.pass(&["deployment"]);
    run.finish("e2e", Verdict::Failed);
    run.error("deployment", ErrorClass::Retryable);
    assert_eq!(undoes(&run), ["deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Compensating);
    run.error("deployment", ErrorClass::Retryable);
    assert_eq!(undoes(&run), ["integration"]);
    assert_eq!(
        run.state.stage("deployment").unwrap().undo,
        Some(Verdict::NotProven)
    );
}

#[test]
fn an_undo_that_no_agent_takes_does_not_hold_up_the_end() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.finish("deployment", Verdict::Failed);
    run.tell(&Event::ScheduleTimedOut {
        stage: "integration".into(),
    });
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert!(run.outcome().reason.contains("could not be undone"));
}

#[test]
fn a_failed_workflow_that_is_being_undone_cannot_be_cancelled_or_paused() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.finish("deployment", Verdict::Failed);
    for event in [
        Event::CancelRequested {
            reason: String::new(),
        },
        Event::Paused {
            reason: String::new(),
        },
    ] {
        assert!(matches!(
            run.try_tell(&event),
            Err(Rejected::WrongState {
                state: WorkflowState::Compensating,
                ..
            })
        ));
    }
}

#[test]
fn what_a_repair_made_run_again_is_undone_once() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("deployment", &["scaffold"]).undone(),
        stage("e2e", &["deployment"]).repaired_by("scaffold", 1),
    ]);
    run.pass(&["scaffold", "deployment"]);
    run.finish("e2e", Verdict::Failed);
    // The first deployment still stands when its repair fails.
    let mut early = run.clone();
    early.finish("scaffold", Verdict::Failed);
    assert_eq!(undoes(&early), ["deployment"]);
    run.pass(&["scaffold", "deployment"]);
    run.finish("e2e", Verdict::Failed);
    assert_eq!(undoes(&run), ["deployment"]);
    run.pass(&["deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
}

#[test]
fn a_stage_that_a_person_rejected_has_nothing_to_undo() {
    let ask = DecisionAsk {
        category: DecisionCategory::Merge,
        on_approval: Accept,
        confidence: 0.0,
        has_choices: false,
    };
    let mut run = run(vec![stage("integration", &[]).undone()]);
    run.finish_with("integration", asking(Verdict::Failed, ask));
    run.decide("integration", Resolution::Reject);
    assert_eq!(run.ended(), (Verdict::Failed, "integration"));
}

#[test]
fn a_workflow_that_takes_too_long_is_stopped_undone_and_not_proven() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.lease("deployment");
    run.tell(&Event::WorkflowTimedOut);
    assert!(run.commanded(|command| matches!(command, Command::StopTask { .. })));
    run.stopped("deployment");
    assert_eq!(undoes(&run), ["integration"]);
    run.pass(&["integration"]);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::NotProven, "deployment"));
    assert_eq!(
        run.outcome().reason,
        "the workflow did not end in time; `deployment` was still running"
    );
}

#[test]
fn cancelling_overrides_a_pause() {
    let mut run = undoable();
    run.pass(&["integration"]);
    run.pause();
    run.cancel();
    assert_eq!(run.state.workflow, WorkflowState::Compensating);
}
