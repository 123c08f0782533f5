//! Concurrency keys over two replicas: one stage with a key runs at a time, the others wait in
//! order of priority and age, and none waits for ever.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::database::Database;
use testkit::scripted_agent::{Gate, ScriptedAgent, Session, Step};

use contracts::orchestrator::{
    CreateWorkflowRequest, Pipeline, Priority, RetryPolicy, StageDefinition, StageTask,
    WorkflowState, WorkflowType, stage_task, workflow_event,
};
use contracts::task::{AgentType, Verdict};
use contracts::validation::ValidationTask;
use contracts::wire_time;

use crate::database;
use crate::mesh::{PATIENCE, Replica, assert_gapless, eventually};

/// One validation stage with a key.
fn keyed(priority: Priority) -> CreateWorkflowRequest {
    let soon = wire_time::wire_duration(Duration::from_millis(10));
    CreateWorkflowRequest {
        r#type: WorkflowType::Custom.into(),
        name: "keyed".into(),
        environment: "staging".into(),
        priority: priority.into(),
        pipeline: Some(Pipeline {
            name: "keyed".into(),
            stages: vec![StageDefinition {
                name: "only".into(),
                task: Some(StageTask {
                    task: Some(stage_task::Task::Validation(ValidationTask::default())),
                }),
                concurrency_key: Some("slot in {environment}".into()),
                retry: Some(RetryPolicy {
                    initial_backoff: Some(soon),
                    max_backoff: Some(soon),
                    ..RetryPolicy::default()
                }),
                ..StageDefinition::default()
            }],
            ..Pipeline::default()
        }),
        ..CreateWorkflowRequest::default()
    }
}

/// Calls of an agent in the order they came, each held at a gate of its own.
type Held = Arc<Mutex<Vec<(String, Gate)>>>;

async fn holding_agent(url: &str, held: &Held) -> (ScriptedAgent, Session) {
    let held = held.clone();
    let agent = ScriptedAgent::start(AgentType::Validation, move |context, _| {
        let gate = Gate::new();
        let call = (context.workflow_id.clone(), gate.clone());
        held.lock().unwrap().push(call);
        vec![
            Step::Accept,
            Step::Wait(gate),
            Step::finish(AgentType::Validation, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let session = agent.connect(url, 4).await.unwrap();
    session.reachable().await.unwrap();
    (agent, session)
}

async fn running(database: &Database) -> i64 {
    let client = database.connect().await.unwrap();
    let row = client.query_one("SELECT count(*) FROM tasks WHERE leased", &[]);
    row.await.unwrap().get(0)
}

#[tokio::test]
async fn one_stage_with_a_key_runs_at_a_time_and_the_others_wait_by_priority_and_age() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Replica::start(&database, folder.path()).await;
    let second = Replica::start(&database, folder.path()).await;
    let held = Held::default();
    let _agents = (
        holding_agent(&first.url, &held).await,
        holding_agent(&second.url, &held).await,
    );
    let mut order = Vec::new();
    for (replica, priority) in [
        (&first, Priority::Normal),
        (&second, Priority::Normal),
        (&first, Priority::Low),
        (&second, Priority::Normal),
        (&first, Priority::Critical),
    ] {
        order.push(replica.create(keyed(priority)).await.workflow_id);
    }
    // Who waits is told for whom.
    let waits = second.get(&order[2]).await.stages[0].waits_for.clone();
    assert!(
        waits.contains(&order[0]) && waits.contains("slot in staging"),
        "{waits}"
    );
    let queued = |payload: &workflow_event::Payload| {
        matches!(payload, workflow_event::Payload::StageQueued(_))
    };
    let events = first.watch_until(&order[2], 0, queued).await;
    let Some(workflow_event::Payload::StageQueued(queued)) = &events.last().unwrap().payload else {
        panic!("{events:?}");
    };
    assert_eq!(queued.concurrency_key, "slot in staging");

    let wanted: Vec<_> = [0, 4, 1, 3, 2].map(|index| order[index].clone()).into();
    for turn in 0..wanted.len() {
        let calls = eventually(
            || async {
                held.lock()
                    .unwrap()
                    .iter()
                    .map(|(id, _)| id.clone())
                    .collect::<Vec<_>>()
            },
            |calls| calls.len() > turn,
        )
        .await;
        assert_eq!(calls, wanted[..=turn]);
        assert_eq!(running(&database).await, 1);
        let gate = held.lock().unwrap()[turn].1.clone();
        gate.open();
        assert_gapless(&first.watch(&wanted[turn], 0).await, 0);
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn many_stages_with_one_key_all_have_their_turn() {
    const COUNT: usize = 60;
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Replica::start(&database, folder.path()).await;
    let second = Replica::start(&database, folder.path()).await;
    let mut agents = Vec::new();
    for replica in [&first, &second] {
        let agent = ScriptedAgent::passing(AgentType::Validation).await.unwrap();
        let session = agent.connect(&replica.url, 8).await.unwrap();
        session.reachable().await.unwrap();
        agents.push((agent, session));
    }
    let begun = Instant::now();
    let ended = (0..COUNT).map(|number| {
        let (first, second) = (&first, &second);
        async move {
            let replica = if number % 2 == 0 { first } else { second };
            let id = replica.create(keyed(Priority::Normal)).await.workflow_id;
            replica.watch(&id, 0).await;
            replica.get(&id).await.state()
        }
    });
    let ended = tokio::time::timeout(PATIENCE, futures::future::join_all(ended));
    let ended = ended.await.expect("nobody waits for ever");
    assert!(ended.iter().all(|state| *state == WorkflowState::Succeeded));
    let calls: usize = agents.iter().map(|(agent, _)| agent.calls().len()).sum();
    assert_eq!(calls, COUNT, "each ran once");
    println!(
        "{COUNT} stages with one key over two replicas: {:?}",
        begun.elapsed()
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_lost_holder_keeps_its_key_until_its_lease_is_given_up() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Replica::start(&database, folder.path()).await;
    let second = Replica::start(&database, folder.path()).await;
    let held = Held::default();
    let (doomed, session) = holding_agent(&first.url, &held).await;
    let lost = first.create(keyed(Priority::Normal)).await.workflow_id;
    doomed.called(1).await;
    let waits = second.create(keyed(Priority::Normal)).await.workflow_id;
    let agent = ScriptedAgent::passing(AgentType::Validation).await.unwrap();
    let _session = agent.connect(&second.url, 4).await.unwrap();
    // The attempt is lost with its agent; until that is on record, nobody else runs.
    drop(session);
    drop(doomed);
    for id in [&lost, &waits] {
        second.watch(id, 0).await;
        assert_eq!(second.get(id).await.state(), WorkflowState::Succeeded);
    }
    let stage = &second.get(&lost).await.stages[0];
    assert_eq!((stage.attempt_count, stage.lost_count), (2, 1));
    let first_call = &agent.calls()[0].context;
    assert_eq!(
        first_call.workflow_id, waits,
        "the lost one had had its turn"
    );
    first.stop().await;
    second.stop().await;
}
