//! What is tried again, when, and at whose charge; and who is first when many wait.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use testkit::scripted_agent::{Gate, ScriptedAgent, Step};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    CreateWorkflowRequest, Priority, RetryPolicy, StageDefinition, WorkflowState,
    workflow_event::Payload,
};
use contracts::task::{AgentType, Verdict};
use contracts::wire_time::{system_time, wire_duration};

use crate::database;
use crate::mesh::{PATIENCE, Replica, eventually};
use crate::timeouts::{agent, ended, only};

fn fail(error: Error) -> Vec<Step> {
    vec![Step::fail(error)]
}

fn retryable() -> Error {
    Error::new(ErrorReason::RepositoryUnreachable, "the host is away")
}

fn policy(max_attempts: i32, max_lost: i32, backoff: Duration) -> StageDefinition {
    StageDefinition {
        retry: Some(RetryPolicy {
            max_attempts,
            max_lost,
            initial_backoff: Some(wire_duration(backoff)),
            max_backoff: Some(wire_duration(backoff)),
        }),
        ..StageDefinition::default()
    }
}

const SOON: Duration = Duration::from_millis(1);

#[tokio::test]
async fn what_may_pass_another_time_is_tried_as_often_as_the_policy_says() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let (_agent, _session) = agent(&replica, (0..5).map(|_| fail(retryable())).collect()).await;
    // Three of the five, then two and one that passes.
    let (failed, retries) = ended(&replica, only(policy(3, 1, SOON))).await;
    assert_eq!(failed.state(), WorkflowState::Failed);
    assert_eq!(failed.outcome.unwrap().verdict(), Verdict::NotProven);
    let retry = ("retryable".to_owned(), "the host is away".to_owned());
    assert_eq!(retries, [retry.clone(), retry.clone()]);
    let (passed, retries) = ended(&replica, only(policy(3, 1, SOON))).await;
    assert_eq!(passed.state(), WorkflowState::Succeeded);
    assert_eq!(retries, [retry.clone(), retry]);
    let stage = &passed.stages[0];
    assert_eq!((stage.attempt_count, stage.lost_count), (3, 0));
    replica.stop().await;
}

#[tokio::test]
async fn what_cannot_pass_another_time_is_not_tried_again() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let permanent = Error::new(ErrorReason::ProjectInvalid, "line 3 is wrong");
    let (agent, _session) = agent(&replica, vec![fail(permanent)]).await;
    let (failed, retries) = ended(&replica, only(policy(3, 3, SOON))).await;
    assert_eq!(failed.state(), WorkflowState::Failed);
    let reason = failed.outcome.unwrap().reason;
    assert!(reason.contains("line 3 is wrong"), "{reason}");
    assert_eq!((retries.len(), agent.calls().len()), (0, 1));
    replica.stop().await;
}

#[tokio::test]
async fn lost_attempts_are_counted_apart_from_failed_ones() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    // The agent says that it does not know what it accepted, as one that was restarted does.
    let lost = || fail(Error::new(ErrorReason::TaskNotFound, "no such task here"));
    let (_agent, _session) = agent(&replica, vec![lost(), lost(), fail(retryable()), lost()]).await;
    // Neither two lost ones nor one that failed use up what there is of the other.
    let (passed, retries) = ended(&replica, only(policy(2, 4, SOON))).await;
    assert_eq!(passed.state(), WorkflowState::Succeeded);
    let classes: Vec<_> = retries.iter().map(|(class, _)| class.as_str()).collect();
    assert_eq!(classes, ["lost", "lost", "retryable", "lost"]);
    let stage = &passed.stages[0];
    assert_eq!((stage.attempt_count, stage.lost_count), (5, 3));
    replica.stop().await;
}

#[tokio::test]
async fn too_many_lost_attempts_end_the_stage() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let lost = || fail(Error::new(ErrorReason::TaskNotFound, "no such task here"));
    let (_agent, _session) = agent(&replica, vec![lost(), lost()]).await;
    let (failed, _) = ended(&replica, only(policy(9, 2, SOON))).await;
    assert_eq!(failed.state(), WorkflowState::Failed);
    let reason = failed.outcome.unwrap().reason;
    assert!(reason.contains("2 attempts were lost"), "{reason}");
    replica.stop().await;
}

/// From the failure of the first attempt to when the next one may start.
async fn delay(replica: &Replica, request: CreateWorkflowRequest) -> Duration {
    let id = replica.create(request).await.workflow_id;
    let is_retry = |payload: &Payload| matches!(payload, Payload::RetryScheduled(_));
    let events = replica.watch_until(&id, 0, is_retry).await;
    let event = events.last().unwrap();
    let Some(Payload::RetryScheduled(retry)) = &event.payload else {
        panic!("{events:?}");
    };
    let time = |stamp: Option<prost_types::Timestamp>| system_time(stamp.unwrap()).unwrap();
    let (failed, ready) = (time(event.time), time(retry.ready_time));
    ready.duration_since(failed).unwrap_or_default()
}

#[tokio::test]
async fn retries_are_spread_over_the_whole_backoff_unless_the_agent_names_the_delay() {
    const COUNT: usize = 12;
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let named = Duration::from_secs(77);
    let script = (0..COUNT)
        .map(|_| fail(retryable()))
        .chain([fail(retryable().retry_after(named))])
        .collect();
    let (_agent, _session) = agent(&replica, script).await;
    let backoff = Duration::from_mins(30);
    let mut delays = BTreeSet::new();
    for _ in 0..COUNT {
        delays.insert(delay(&replica, only(policy(3, 3, backoff))).await);
    }
    assert!(*delays.last().unwrap() <= backoff, "{delays:?}");
    // Twelve that all fall into one half are bad luck of one in two thousand; into one tenth, none at all.
    let shortest = *delays.first().unwrap();
    assert!(
        *delays.last().unwrap() > shortest + backoff / 10,
        "{delays:?}"
    );
    let exactly = delay(&replica, only(policy(3, 3, backoff))).await;
    assert_eq!(exactly, named);
    replica.stop().await;
}

#[tokio::test]
async fn waiting_raises_the_priority_and_a_delay_is_waited_for() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let mut ids = Vec::new();
    for priority in [
        Priority::Low,
        Priority::Normal,
        Priority::High,
        Priority::High,
    ] {
        let request = CreateWorkflowRequest {
            priority: priority.into(),
            ..only(StageDefinition::default())
        };
        ids.push(replica.create(request).await.workflow_id);
    }
    // The first has waited for 15 min, which is more than one level; the last must wait for a while yet.
    let connection = database.connect().await.unwrap();
    let id = |index: usize| ids[index].parse::<uuid::Uuid>().unwrap();
    let older = "UPDATE tasks SET ready_time = ready_time - interval '15 min',
                        order_time = order_time - interval '15 min' WHERE workflow_id = $1";
    assert_eq!(connection.execute(older, &[&id(0)]).await.unwrap(), 1);
    let until = SystemTime::now() + PATIENCE / 12;
    let later = "UPDATE tasks SET ready_time = $2 WHERE workflow_id = $1";
    let later = connection.execute(later, &[&id(3), &until]).await;
    assert_eq!(later.unwrap(), 1);

    let gate = Gate::new();
    let held = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        vec![
            Step::Accept,
            Step::Wait(held.clone()),
            Step::finish(AgentType::Validation, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let _session = agent.connect(&replica.url, 1).await.unwrap();
    gate.open();
    let calls = eventually(|| async { agent.calls() }, |calls| calls.len() == ids.len()).await;
    let begun: Vec<_> = calls.iter().map(|call| &call.context.workflow_id).collect();
    assert_eq!(begun, [&ids[2], &ids[0], &ids[1], &ids[3]]);
    assert!(SystemTime::now() >= until);
    replica.stop().await;
}
