//! What must hold for every pipeline and every order of events.

use proptest::collection::vec;
use proptest::prelude::*;

use super::random::{Choose, Given, any_event, apt_event, pipeline};
use super::world::World;
use crate::plan::event::{Event, Rejected};
use crate::plan::state::WorkflowState;

/// Steps in which every workflow must have ended once attempts report and people answer. Seven
/// stages, nine rounds of repair at most, and a few attempts of each.
const STEPS_MOST: usize = 5_000;

fn choices() -> impl Strategy<Value = Given> {
    vec(any::<u16>(), 0..600).prop_map(|choices| Given { choices, next: 0 })
}

fn world(choose: &mut impl Choose) -> World {
    let (pipeline, protected) = pipeline(choose);
    World::new(pipeline, &protected)
}

fn drive_to_the_end(world: &mut World, choose: &mut impl Choose) {
    let mut fuel = 30;
    for _ in 0..STEPS_MOST {
        if world.state.is_terminal() {
            return;
        }
        let event = apt_event(choose, world, &mut fuel);
        let event = event.unwrap_or_else(|| panic!("stuck: {:#?}", world.state));
        if let Err(rejected) = world.tell(&event) {
            panic!("{event:?}: {rejected}");
        }
    }
    panic!("it does not end: {:#?}", world.state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The world's own checks are the property: see `world.rs`.
    #[test]
    fn whatever_comes_in_whatever_order_the_rules_hold(mut given in choices()) {
        let mut world = world(&mut given);
        while given.next < given.choices.len() {
            let event = any_event(&mut given, &world);
            let _ = world.tell(&event);
        }
        drive_to_the_end(&mut world, &mut given);
    }

    #[test]
    fn an_ended_workflow_takes_nothing_but_a_retry(mut given in choices()) {
        let mut world = world(&mut given);
        drive_to_the_end(&mut world, &mut given);
        let end = world.state.clone();
        for _ in 0..20 {
            let event = any_event(&mut given, &world);
            match (&event, end.workflow) {
                (Event::RetryRequested { .. }, WorkflowState::Failed | WorkflowState::Cancelled) => {}
                (Event::Submitted | Event::RetryRequested { .. }, _) => {
                    let refused = matches!(world.tell(&event), Err(Rejected::WrongState { .. }));
                    prop_assert!(refused);
                }
                _ => prop_assert_eq!(world.tell(&event), Err(Rejected::AlreadyFinished(end.workflow))),
            }
        }
        prop_assert_eq!(&world.state, &end);
    }

    #[test]
    fn the_same_event_in_the_same_state_has_the_same_answer(mut given in choices()) {
        let mut world = world(&mut given);
        for _ in 0..50 {
            let event = any_event(&mut given, &world);
            let once = world.state.clone().apply(&world.pipeline, &event);
            prop_assert_eq!(&once, &world.state.clone().apply(&world.pipeline, &event));
            let _ = world.tell(&event);
        }
    }

    /// Retried as often as it fails, a workflow whose stages all pass succeeds.
    #[test]
    fn a_retried_workflow_can_still_succeed(mut given in choices()) {
        let mut world = world(&mut given);
        drive_to_the_end(&mut world, &mut given);
        for _ in 0..3 {
            if world.state.workflow == WorkflowState::Succeeded {
                break;
            }
            let retry = Event::RetryRequested { from_stage: None };
            world.tell(&retry).unwrap();
            // Nothing but zeroes: every attempt passes, every question is approved.
            drive_kindly(&mut world);
        }
        prop_assert_eq!(world.state.workflow, WorkflowState::Succeeded);
    }
}

fn drive_kindly(world: &mut World) {
    use contracts::id::{DecisionId, InstanceId};

    use super::outcome;
    use crate::plan::event::Resolution;
    use crate::plan::state::{TaskState, Verdict};

    for _ in 0..STEPS_MOST {
        if world.state.is_terminal() {
            return;
        }
        let stages = &world.state.stages;
        let stage = stages.iter().find(|stage| stage.task != TaskState::Absent);
        let event = if let Some(stage) = stage {
            match stage.task {
                TaskState::Leased => Event::ResultAccepted {
                    stage: stage.name.clone(),
                    epoch: stage.lease_epoch,
                    outcome: outcome(Verdict::Passed),
                },
                TaskState::Waiting | TaskState::Absent => Event::LeaseGranted {
                    stage: stage.name.clone(),
                    epoch: stage.lease_epoch + 1,
                    instance: InstanceId::new(),
                },
            }
        } else if let Some((stage, known)) = world.decisions.first_key_value() {
            match known {
                None => Event::DecisionOpened {
                    stage: stage.clone(),
                    decision_id: DecisionId::new(),
                },
                Some(decision_id) => super::resolved(stage, *decision_id, Resolution::Approve),
            }
        } else {
            panic!("stuck: {:#?}", world.state);
        };
        world.tell(&event).unwrap();
    }
    panic!("it does not end: {:#?}", world.state);
}
