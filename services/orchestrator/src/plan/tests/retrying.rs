//! Attempts that fail, are lost, or are refused, and leases that are stale.

use std::time::Duration;

use contracts::id::InstanceId;

use super::build::{But, run, stage};
use super::{Run, outcome};
use crate::plan::attempt::REFUSALS_MOST;
use crate::plan::event::{Command, Delay, Entry, ErrorClass, Event, Rejected, RetryClass};
use crate::plan::state::{StageState, TaskKind, Verdict, WorkflowState};

fn one(max_attempts: i32, max_lost: i32) -> Run {
    run(vec![
        stage("validation", &[]).retried(max_attempts, max_lost),
    ])
}

fn delay(run: &Run) -> Option<Delay> {
    run.commands.iter().find_map(|command| match command {
        Command::CreateTask { after, .. } => Some(*after),
        _ => None,
    })
}

fn at_most(millis: u64) -> Delay {
    Delay::Backoff {
        most: Duration::from_millis(millis),
    }
}

fn refuse(run: &mut Run) {
    let epoch = run.lease("validation");
    run.tell(&Event::Refused {
        stage: "validation".into(),
        epoch,
        reason: "full".into(),
    });
}

#[test]
fn a_task_that_was_handed_back_counts_as_tried_and_is_not_charged() {
    let mut run = one(2, 2);
    for attempt in 1..=5 {
        let epoch = run.lease("validation");
        run.tell(&Event::HandedBack {
            stage: "validation".into(),
            epoch,
            reason: "the agent stopped".into(),
        });
        run.is(WorkflowState::Running, &[("validation", StageState::Ready)]);
        let stage = &run.state.stages[0];
        assert_eq!((stage.attempt, stage.lost_count), (attempt, 0));
        assert_eq!((stage.charges.failed, stage.charges.lost), (0, 0));
    }
}

#[test]
fn errors_are_retried_up_to_the_limit_and_then_the_verdict_is_not_proven() {
    for class in [ErrorClass::Retryable, ErrorClass::TimedOut] {
        let mut run = one(3, 5);
        run.error("validation", class);
        assert_eq!(delay(&run), Some(at_most(1000)));
        run.error("validation", class);
        assert_eq!(delay(&run), Some(at_most(2000)));
        run.is(WorkflowState::Running, &[("validation", StageState::Ready)]);
        run.error("validation", class);
        run.is(WorkflowState::Failed, &[("validation", StageState::Failed)]);
        assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
        assert_eq!(
            run.outcome().reason,
            "3 attempts failed; the last: it broke"
        );
        assert_eq!(run.state.stages[0].attempt, 3);
    }
}

#[test]
fn a_retry_is_the_same_piece_of_work_and_is_on_record() {
    let mut run = one(3, 5);
    run.error("validation", ErrorClass::TimedOut);
    let stage = || "validation".to_owned();
    assert_eq!(
        run.commands,
        [
            Command::CreateTask {
                stage: stage(),
                task: TaskKind::Run,
                generation: 1,
                attempt: 2,
                after: Delay::Backoff {
                    most: Duration::from_secs(1)
                },
            },
            Command::Record(Entry::RetryScheduled {
                stage: stage(),
                attempt: 1,
                class: RetryClass::TimedOut,
                reason: "it broke".into(),
            }),
        ]
    );
}

#[test]
fn a_permanent_error_is_not_retried() {
    let mut run = one(20, 5);
    run.error("validation", ErrorClass::Permanent);
    assert_eq!(run.state.workflow, WorkflowState::Failed);
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
    assert_eq!(run.outcome().reason, "it broke");
}

#[test]
fn lost_attempts_are_counted_apart() {
    let mut run = one(1, 3);
    run.lose("validation");
    assert!(run.recorded(|entry| matches!(
        entry,
        Entry::LeaseChanged {
            epoch: 2,
            adopted: false,
            ..
        }
    )));
    assert!(run.recorded(|entry| matches!(
        entry,
        Entry::RetryScheduled {
            class: RetryClass::Lost,
            attempt: 1,
            ..
        }
    )));
    run.lose("validation");
    assert_eq!(run.state.stages[0].lost_count, 2);
    assert_eq!(run.state.stages[0].failed_count, 0);
    run.lose("validation");
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
    assert_eq!(
        run.outcome().reason,
        "3 attempts were lost; the last: no beat"
    );
}

#[test]
fn refusals_cost_nothing_but_are_not_for_ever() {
    let mut run = one(1, 1);
    refuse(&mut run);
    assert_eq!(delay(&run), Some(at_most(100)));
    assert_eq!(run.state.stages[0].attempt, 0);
    for _ in 2..REFUSALS_MOST {
        refuse(&mut run);
    }
    assert_eq!(delay(&run), Some(at_most(60_000)));
    run.is(WorkflowState::Running, &[("validation", StageState::Ready)]);
    refuse(&mut run);
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
}

#[test]
fn an_agent_may_name_the_delay_within_reason() {
    for (asked, given) in [(5, 5), (1_000_000, 3600)] {
        let mut run = one(3, 5);
        let epoch = run.lease("validation");
        run.tell(&Event::AttemptFailed {
            stage: "validation".into(),
            epoch,
            class: ErrorClass::Retryable,
            reason: "overloaded".into(),
            retry_after: Some(Duration::from_secs(asked)),
        });
        assert_eq!(
            delay(&run),
            Some(Delay::Exactly(Duration::from_secs(given)))
        );
    }
}

#[test]
fn backoff_grows_to_its_limit_without_overflow() {
    let mut run = one(20, 100);
    for attempt in 1..100 {
        run.lose("validation");
        let most = (1000_u64 << (attempt - 1).min(6)).min(60_000);
        assert_eq!(delay(&run), Some(at_most(most)), "{attempt}");
    }
}

#[test]
fn only_the_newest_lease_counts() {
    let mut run = one(3, 5);
    let old = run.lease("validation");
    run.lose_running("validation");
    let new = run.lease("validation");
    assert!(new > old);
    let late = |epoch| Event::ResultAccepted {
        stage: "validation".into(),
        epoch,
        outcome: outcome(Verdict::Passed),
    };
    let stale = |epoch| {
        Err(Rejected::StaleLease {
            stage: "validation".into(),
            epoch,
            held: new,
        })
    };
    for epoch in [old, new + 1, 0, -1, i64::MAX, i64::MIN] {
        assert_eq!(run.try_tell(&late(epoch)), stale(epoch));
    }
    run.is(
        WorkflowState::Running,
        &[("validation", StageState::Running)],
    );
    run.tell(&late(new));
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn a_result_is_accepted_once() {
    let mut run = Run::built_in("change");
    run.pass(&["validation"]);
    let again = Event::ResultAccepted {
        stage: "validation".into(),
        epoch: 1,
        outcome: outcome(Verdict::Failed),
    };
    assert!(matches!(
        run.try_tell(&again),
        Err(Rejected::StaleLease { held: 1, .. })
    ));
    run.is(
        WorkflowState::Running,
        &[("validation", StageState::Succeeded)],
    );
}

#[test]
fn a_lease_with_an_old_epoch_is_never_granted() {
    let mut run = one(3, 5);
    run.lose("validation");
    for epoch in [i64::MIN, -1, 0, 1] {
        let granted = Event::LeaseGranted {
            stage: "validation".into(),
            epoch,
            instance: InstanceId::new(),
        };
        assert!(matches!(
            run.try_tell(&granted),
            Err(Rejected::StaleLease { held: 1, .. })
        ));
    }
}

#[test]
fn an_adopted_attempt_goes_on_under_its_new_epoch_uncharged() {
    let mut run = one(1, 1);
    run.lease("validation");
    run.tell(&Event::LeaseAdopted {
        stage: "validation".into(),
        epoch: 7,
    });
    assert!(run.recorded(|entry| matches!(
        entry,
        Entry::LeaseChanged {
            epoch: 7,
            adopted: true,
            ..
        }
    )));
    assert_eq!(run.state.stages[0].attempt, 1);
    run.result("validation", Verdict::Passed);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn an_attempt_that_stops_by_itself_is_lost() {
    let mut run = one(1, 2);
    run.lease("validation");
    run.stopped("validation");
    assert_eq!(run.state.stages[0].lost_count, 1);
    run.lease("validation");
    run.stopped("validation");
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
}

#[test]
fn a_stage_that_no_agent_takes_in_time_is_not_proven() {
    let mut run = one(3, 5);
    run.tell(&Event::ScheduleTimedOut {
        stage: "validation".into(),
    });
    assert!(run.commanded(|command| matches!(command, Command::RemoveTask { .. })));
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
    assert_eq!(
        run.outcome().reason,
        "no validation agent took it within 3600 s"
    );
}

#[test]
fn after_a_failure_elsewhere_nothing_is_tried_again() {
    let mut run = run(vec![stage("validation", &[]), stage("v2", &[])]);
    run.lease("v2");
    run.finish("validation", Verdict::Failed);
    run.lose_running("v2");
    run.is(WorkflowState::Failed, &[("v2", StageState::Cancelled)]);
    assert!(!run.commanded(|command| matches!(command, Command::CreateTask { .. })));
}

#[test]
fn a_new_piece_of_work_has_all_its_attempts_again() {
    let mut run = run(vec![
        stage("scaffold", &[]).retried(2, 2),
        stage("validation", &["scaffold"])
            .retried(2, 2)
            .repaired_by("scaffold", 1),
    ]);
    for round in 1..=2 {
        run.error("scaffold", ErrorClass::Retryable);
        run.lose("scaffold");
        run.pass(&["scaffold"]);
        run.error("validation", ErrorClass::Retryable);
        run.lose("validation");
        let verdict = if round == 1 {
            Verdict::Failed
        } else {
            Verdict::Passed
        };
        run.finish("validation", verdict);
    }
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
    let stage = run.state.stage("validation").unwrap();
    assert_eq!(
        (stage.attempt, stage.failed_count, stage.lost_count),
        (6, 2, 2)
    );
}
