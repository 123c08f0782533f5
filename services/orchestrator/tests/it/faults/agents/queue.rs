//! Very many workflows wait for one slot.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use contracts::client;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateWorkflowRequest, Pipeline, Priority, StageDefinition, StageTask, WorkflowState,
    WorkflowType, stage_task,
};
use contracts::task::{AgentType, Verdict};
use contracts::validation::ValidationTask;
use testkit::database::Connection;
use testkit::scripted_agent::{Gate, ScriptedAgent, Step};

use crate::database;
use crate::faults::invariants;
use crate::faults::replica::{Replica, Setting};

const WAITING: usize = 10_000;
// So many are looked at one by one.
const IN_ORDER: usize = 300;
const CREATORS: usize = 32;
const TYPE: AgentType = AgentType::Validation;
const PRIORITIES: [Priority; 4] = [
    Priority::Low,
    Priority::Normal,
    Priority::High,
    Priority::Critical,
];
// engine.md: 10 000 live workflows.
const MEMORY_BYTES: u64 = 200 << 20;
const PATIENCE: Duration = Duration::from_mins(2);

/// What decides when a workflow has its turn: priority, and then age.
#[derive(Debug, Clone, Copy)]
struct Turn {
    priority: Priority,
    asked: Instant,
    answered: Instant,
}

impl Turn {
    // Of two that were taken in side by side nobody knows which is older.
    fn is_before(&self, other: &Self) -> bool {
        self.priority > other.priority
            || self.priority == other.priority && self.answered < other.asked
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_workflows_wait_for_one_slot_in_order_and_in_little_memory() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&Setting {
        database_url: database.connection_string().to_owned(),
        data: folder.path().to_owned(),
        connections: 16,
        artifacts: None,
        // All of them come from one caller.
        environment: vec![("AGENTIC_CREATE_RATE".to_owned(), "1000000".to_owned())],
    })
    .await;
    let idle = replica.resident_bytes();
    let begun = Instant::now();
    let turns = create(&replica, WAITING).await;
    let created = begun.elapsed();
    let connection = database.connect().await.unwrap();
    let waiting = count(&connection, "SELECT count(*) FROM tasks WHERE NOT leased").await;
    assert_eq!(waiting, i64::try_from(WAITING).unwrap());
    let full = replica.resident_bytes();
    assert!(full < MEMORY_BYTES, "{full} bytes");

    let begun = Instant::now();
    let (one, gate) = one_that_stops().await;
    let session = one.connect(replica.url(), 1).await.unwrap();
    gate.reached(1).await;
    let taken = begun.elapsed();
    assert_in_order(&one, &turns);
    gate.open();
    drain(&replica, &connection).await;
    let drained = replica.resident_bytes();
    assert!(drained < MEMORY_BYTES, "{drained} bytes");
    // Not `eprintln!`, whose words the test harness keeps to itself when a test passes.
    let _ = writeln!(
        io::stderr(),
        "QUEUE {WAITING} workflows taken in within {:.1} s; one slot: {:.0} a second in order; \
         memory idle {} MiB, waiting {} MiB, afterwards {} MiB",
        created.as_secs_f64(),
        IN_ORDER as f64 / taken.as_secs_f64(),
        idle >> 20,
        full >> 20,
        drained >> 20,
    );
    drop(session);
}

// Passes everything at once, until the test has seen enough.
async fn one_that_stops() -> (ScriptedAgent, Gate) {
    let gate = Gate::new();
    let (held, count) = (gate.clone(), AtomicUsize::new(0));
    let agent = ScriptedAgent::start(TYPE, move |_, _| {
        let wait = Step::Wait(held.clone());
        let is_enough = count.fetch_add(1, Ordering::Relaxed) == IN_ORDER;
        let wait = Some(wait).filter(|_| is_enough);
        let end = Step::finish(TYPE, Verdict::Passed);
        [Some(Step::Accept), wait, Some(end)]
            .into_iter()
            .flatten()
            .collect()
    });
    (agent.await.unwrap(), gate)
}

async fn create(replica: &Replica, number: usize) -> HashMap<String, Turn> {
    let channel = client::channel(replica.url(), None).unwrap();
    let creating = (0..number).map(|number| {
        let mut workflows = WorkflowServiceClient::new(channel.clone());
        async move {
            let priority = PRIORITIES[number % PRIORITIES.len()];
            let request = client::request(request(number, priority), PATIENCE);
            let asked = Instant::now();
            let answer = workflows.create_workflow(request).await.unwrap();
            let turn = Turn {
                priority,
                asked,
                answered: Instant::now(),
            };
            (answer.into_inner().workflow.unwrap().workflow_id, turn)
        }
    });
    stream::iter(creating)
        .buffer_unordered(CREATORS)
        .collect()
        .await
}

fn request(number: usize, priority: Priority) -> CreateWorkflowRequest {
    let task = stage_task::Task::Validation(ValidationTask::default());
    CreateWorkflowRequest {
        r#type: WorkflowType::Custom.into(),
        name: format!("waits-{number}"),
        priority: priority.into(),
        pipeline: Some(Pipeline {
            name: "one-stage".to_owned(),
            stages: vec![StageDefinition {
                name: "only".to_owned(),
                task: Some(StageTask { task: Some(task) }),
                ..StageDefinition::default()
            }],
            ..Pipeline::default()
        }),
        ..CreateWorkflowRequest::default()
    }
}

// Whoever was served, nobody who waited meanwhile should have been served before.
fn assert_in_order(agent: &ScriptedAgent, turns: &HashMap<String, Turn>) {
    let mut waiting = turns.clone();
    for call in &agent.calls()[..IN_ORDER] {
        let served = waiting.remove(&call.context.workflow_id).unwrap();
        for other in waiting.values() {
            assert!(!other.is_before(&served), "{other:?} waits for {served:?}");
        }
    }
}

// The rest is done by more agents; nothing of it is lost, doubled or left.
async fn drain(replica: &Replica, connection: &Connection) {
    let agent = ScriptedAgent::passing(TYPE).await.unwrap();
    let _session = agent.connect(replica.url(), 64).await.unwrap();
    let begun = Instant::now();
    loop {
        let left = count(connection, "SELECT count(*) FROM tasks").await;
        let agents = invariants::agents(replica.url()).await;
        let free = agents
            .iter()
            .all(|agent| agent.free_slot_count == agent.slot_count);
        if left == 0 && free {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{left} are left on {agents:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let rows = connection
        .query(
            "SELECT w.workflow_id::text, w.state = $1, w.last_sequence = count(*) AND max(e.sequence) = count(*),
                    (SELECT count(*) FROM attempts a WHERE a.workflow_id = w.workflow_id) = 1
             FROM workflows w JOIN events e USING (workflow_id) GROUP BY w.workflow_id",
            &[&(WorkflowState::Succeeded as i16)],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), WAITING, "workflows are lost");
    let mut seen = HashSet::new();
    for row in rows {
        let id: String = row.get(0);
        for column in 1..4 {
            assert!(row.get::<_, bool>(column), "{id} in column {column}");
        }
        assert!(seen.insert(id));
    }
}

async fn count(connection: &Connection, query: &str) -> i64 {
    connection.query_one(query, &[]).await.unwrap().get(0)
}
