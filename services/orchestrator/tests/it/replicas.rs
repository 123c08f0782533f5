//! Several orchestrators on one database: what one does, the others see at once; without their
//! hints, a second later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use testkit::database::Database;
use testkit::scripted_agent::{Gate, ScriptedAgent, Step};
use tokio::task::JoinSet;

use contracts::orchestrator::{
    Agent, AgentState, CancelWorkflowRequest, DrainAgentRequest, GetAgentRequest,
    ListAgentsRequest, StageDefinition, WatchWorkflowLogsRequest, WatchWorkflowLogsResponse,
    WatchWorkflowsRequest, WorkflowEvent, WorkflowState, watch_workflows_response, workflow_event,
};
use contracts::task::{AgentType, Log, Verdict, task_event};

use crate::database;
use crate::mesh::{PATIENCE, Replica, app, assert_gapless, eventually, passing_agents};
use crate::timeouts::only;

const LISTENERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'agentic-orchestrator-hints'";

/// Ends whatever listens for hints, again and again, until this is dropped.
struct Deaf(#[allow(dead_code, reason = "aborts when dropped")] JoinSet<()>);

async fn deaf(database: &Database) -> Deaf {
    let client = database.connect().await.unwrap();
    let ended = client.query(LISTENERS, &[]).await.unwrap().len();
    assert!(ended > 0, "somebody listened");
    let mut killing = JoinSet::new();
    killing.spawn(async move {
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            client.query(LISTENERS, &[]).await.unwrap();
        }
    });
    Deaf(killing)
}

async fn two(database: &Database, folder: &std::path::Path) -> (Replica, Replica) {
    let first = Replica::start(database, folder).await;
    let second = Replica::start(database, folder).await;
    // They hear of each other: from then on each has somebody to tell.
    (first, second)
}

pub fn percentile(delays: &mut [Duration], percent: usize) -> Duration {
    delays.sort_unstable();
    delays[(delays.len() * percent / 100).min(delays.len() - 1)]
}

/// When each event came to a watcher.
async fn times(replica: &Replica, workflow_id: &str) -> Vec<(i64, Instant)> {
    let seen = std::sync::Mutex::new(Vec::new());
    let events = replica
        .watch_until(workflow_id, 0, |_| {
            seen.lock().unwrap().push(Instant::now());
            false
        })
        .await;
    assert_gapless(&events, 0);
    let sequences = events.iter().map(|event| event.sequence);
    sequences.zip(seen.into_inner().unwrap()).collect()
}

pub async fn delays(driving: &Replica, watching: &Replica, count: usize) -> Vec<Duration> {
    let mut delays = Vec::new();
    for _ in 0..count {
        let id = driving.create(app("shop")).await.workflow_id;
        let (near, far) = tokio::join!(times(driving, &id), times(watching, &id));
        assert_eq!(near.len(), far.len());
        for ((_, near), (_, far)) in near.into_iter().zip(far) {
            delays.push(far.saturating_duration_since(near));
        }
    }
    delays
}

#[tokio::test]
async fn a_watcher_on_another_replica_is_hardly_behind_and_misses_nothing_when_hints_are_cut() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (driving, watching) = two(&database, folder.path()).await;
    let _agents = passing_agents(&driving.url).await;

    let mut with = delays(&driving, &watching, 20).await;
    let deaf = deaf(&database).await;
    let mut without = delays(&driving, &watching, 5).await;
    drop(deaf);
    let [with_p50, with_p99] = [50, 99].map(|percent| percentile(&mut with, percent));
    let [p50, p99] = [50, 99].map(|percent| percentile(&mut without, percent));
    println!(
        "watcher on another replica behind one on the driving replica: \
         with hints p50 {with_p50:?} p99 {with_p99:?}, without p50 {p50:?} p99 {p99:?}"
    );
    assert!(with_p50 < Duration::from_millis(100), "{with_p50:?}");
    assert!(p50 > with_p50, "hints are faster than looking");
    assert!(p99 < Duration::from_secs(10), "looking is the guarantee");
    driving.stop().await;
    watching.stop().await;
}

#[tokio::test]
async fn a_task_without_room_here_is_taken_at_once_where_there_is_room() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (full, free) = two(&database, folder.path()).await;
    let _agents = passing_agents(&free.url).await;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        let created = full.create(app("shop")).await;
        let events = full.watch(&created.workflow_id, 0).await;
        assert_gapless(&events, 0);
        waits.push(begun.elapsed());
        // Whoever was asked first is told the truth, though the other one did it all.
        let ended = full.get(&created.workflow_id).await;
        assert_eq!(ended.state(), WorkflowState::Succeeded);
    }
    let median = percentile(&mut waits, 50);
    println!("five stages on another replica: median {median:?}");
    // Looking alone takes half a second for the first stage, and more for the last event.
    assert!(median < Duration::from_millis(500), "{median:?}");

    // Cut off, it is a matter of seconds, and still done.
    let deaf = deaf(&database).await;
    let id = full.create(app("shop")).await.workflow_id;
    assert_gapless(&full.watch(&id, 0).await, 0);
    drop(deaf);
    full.stop().await;
    free.stop().await;
}

#[tokio::test]
async fn a_cancel_through_any_replica_stops_the_attempt_that_another_one_drives() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (driving, asked) = two(&database, folder.path()).await;
    let gate = Gate::new();
    let held = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Scaffold, move |_, _| {
        vec![Step::Accept, Step::Wait(held.clone())]
    })
    .await
    .unwrap();
    let session = agent.connect(&driving.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    let mut deafened = None;
    for round in 1..=2 {
        let id = driving.create(app("shop")).await.workflow_id;
        gate.reached(round).await;
        if round == 2 {
            deafened = Some(deaf(&database).await);
        }
        let begun = Instant::now();
        let request = CancelWorkflowRequest {
            workflow_id: id.clone(),
            reason: "no longer wanted".into(),
            ..Default::default()
        };
        asked.workflows().cancel_workflow(request).await.unwrap();
        let mut cancelled = agent.watch_cancelled();
        let stopped = cancelled.wait_for(|tasks| tasks.len() == round);
        tokio::time::timeout(PATIENCE, stopped)
            .await
            .expect("the attempt is stopped in time")
            .unwrap();
        println!(
            "stop through another replica, hints cut: {}: {:?}",
            round == 2,
            begun.elapsed()
        );
        asked.watch(&id, 0).await;
        assert_eq!(asked.get(&id).await.state(), WorkflowState::Cancelled);
        assert_eq!(driving.get(&id).await.state(), WorkflowState::Cancelled);
    }
    drop(deafened);
    driving.stop().await;
    asked.stop().await;
}

#[tokio::test]
async fn a_watch_of_all_workflows_sees_those_of_every_replica_in_order_and_once() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = two(&database, folder.path()).await;
    let _agents = (
        passing_agents(&first.url).await,
        passing_agents(&second.url).await,
    );
    // Before the watch: none of its business.
    let before = first.create(app("shop")).await.workflow_id;
    first.watch(&before, 0).await;
    let mut stream = second
        .workflows()
        .watch_workflows(WatchWorkflowsRequest::default())
        .await
        .unwrap()
        .into_inner();

    let mut wanted = 0;
    let mut deafened = None;
    for round in 0..3 {
        if round == 2 {
            deafened = Some(deaf(&database).await);
        }
        let created = (0..10).map(|_| async {
            first.create(app("shop")).await;
            second.create(app("shop")).await;
        });
        futures::future::join_all(created).await;
        wanted += 20;
    }
    let mut seen: HashMap<String, Vec<WorkflowEvent>> = HashMap::new();
    let mut ended = 0;
    let all = async {
        while ended < wanted {
            let message = stream.message().await.unwrap().unwrap();
            if let Some(watch_workflows_response::Payload::Event(event)) = message.payload {
                if matches!(event.payload, Some(workflow_event::Payload::Finished(_))) {
                    ended += 1;
                }
                seen.entry(event.workflow_id.clone())
                    .or_default()
                    .push(event);
            }
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("all come in time");
    drop(deafened);
    assert_eq!(seen.len(), wanted);
    assert!(!seen.contains_key(&before));
    for (id, events) in seen {
        assert_gapless(&events, 0);
        assert_eq!(events, first.watch(&id, 0).await);
    }
    first.stop().await;
    second.stop().await;
}

async fn agents(replica: &Replica) -> Vec<Agent> {
    let mut client = replica.agents();
    let listed = client.list_agents(ListAgentsRequest::default()).await;
    listed.unwrap().into_inner().agents
}

#[tokio::test]
async fn agents_of_all_replicas_are_listed_and_drained_through_any() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (owner, asked) = two(&database, folder.path()).await;
    let agent = ScriptedAgent::passing(AgentType::Scaffold).await.unwrap();
    let session = agent.connect(&owner.url, 3).await.unwrap();
    session.reachable().await.unwrap();
    let other = ScriptedAgent::passing(AgentType::E2e).await.unwrap();
    let _other = other.connect(&asked.url, 2).await.unwrap();

    let ready = |agents: &Vec<Agent>| {
        agents.len() == 2
            && agents
                .iter()
                .all(|agent| agent.state() == AgentState::Ready)
    };
    let seen = eventually(|| agents(&asked), ready).await;
    eventually(|| agents(&owner), ready).await;
    let id = agent.instance_id().to_string();
    assert_eq!((&seen[0].instance_id, seen[0].slot_count), (&id, 3));
    assert_ne!(seen[0].replica_id, seen[1].replica_id);

    let request = DrainAgentRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let drained = asked
        .agents()
        .drain_agent(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(drained.agent.unwrap().state(), AgentState::Draining);
    let one = || async {
        let request = GetAgentRequest {
            instance_id: id.clone(),
        };
        owner
            .agents()
            .get_agent(request)
            .await
            .unwrap()
            .into_inner()
            .agent
            .unwrap()
    };
    eventually(one, |agent| agent.state() == AgentState::Draining).await;
    // It takes nothing any more, and stays drained when it comes back through another replica.
    let waits = owner.create(app("shop")).await.workflow_id;
    assert!(agent.calls().is_empty());
    drop(session);
    let _session = agent.connect(&asked.url, 3).await.unwrap();
    let moved = eventually(
        || agents(&owner),
        |agents: &Vec<Agent>| {
            agents.iter().any(|agent| {
                agent.instance_id == id
                    && agent.state() == AgentState::Draining
                    && agent.replica_id == seen[1].replica_id
            })
        },
    );
    moved.await;
    assert_eq!(owner.get(&waits).await.stages[0].attempt_count, 0);

    // A replica that dies takes no agent out of sight.
    asked.kill();
    let dead = "UPDATE replicas SET renew_time = now() - interval '1 minute' WHERE replica_id = $1";
    let client = database.connect().await.unwrap();
    client.execute(dead, &[&seen[1].replica_id]).await.unwrap();
    let left = agents(&owner).await;
    assert_eq!(left.len(), 2);
    for agent in left {
        assert_eq!(agent.state(), AgentState::Suspect, "{agent:?}");
        assert!(agent.reason.contains("gone"), "{agent:?}");
    }
    owner.stop().await;
}

#[tokio::test]
async fn a_replica_that_comes_later_knows_all_agents_at_once() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Replica::start(&database, folder.path()).await;
    let agent = ScriptedAgent::passing(AgentType::Scaffold).await.unwrap();
    let session = agent.connect(&first.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    let second = Replica::start(&database, folder.path()).await;
    let seen = eventually(|| agents(&second), |agents: &Vec<Agent>| !agents.is_empty()).await;
    assert_eq!(seen[0].instance_id, agent.instance_id().to_string());
    first.stop().await;
    second.stop().await;
}

// Log lines of a workflow, as they come.
async fn logs(
    replica: &Replica,
    workflow_id: &str,
    stage: &str,
    follow: bool,
) -> tonic::Streaming<WatchWorkflowLogsResponse> {
    let request = WatchWorkflowLogsRequest {
        workflow_id: workflow_id.to_owned(),
        stage: stage.to_owned(),
        follow,
    };
    let stream = replica.workflows().watch_workflow_logs(request).await;
    stream.unwrap().into_inner()
}

async fn line(stream: &mut tonic::Streaming<WatchWorkflowLogsResponse>) -> Option<String> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    let line = message.expect("a line, or the end").unwrap()?;
    Some(line.log.unwrap().text)
}

async fn rest(mut stream: tonic::Streaming<WatchWorkflowLogsResponse>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = line(&mut stream).await {
        lines.push(line);
    }
    lines
}

fn says(text: &str) -> Step {
    Step::Event(task_event::Payload::Log(Log {
        text: text.to_owned(),
        ..Log::default()
    }))
}

#[tokio::test]
async fn logs_of_an_attempt_are_live_on_every_replica_and_end_with_the_workflow() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let (driving, reading) = two(&database, folder.path()).await;
    let (first, second, third) = (Gate::new(), Gate::new(), Gate::new());
    let steps = |open: &Gate, end: &Gate| {
        vec![
            Step::Accept,
            says("before anybody reads"),
            Step::Wait(open.clone()),
            says("while somebody reads"),
            says(&"x".repeat(60_000)),
            Step::Wait(end.clone()),
            says("at the end"),
            Step::finish(AgentType::Validation, Verdict::Passed),
        ]
    };
    let scripts = vec![steps(&first, &second), steps(&first, &third)];
    let scripts = std::sync::Mutex::new(scripts.into_iter());
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        scripts.lock().unwrap().next().unwrap()
    })
    .await
    .unwrap();
    let session = agent.connect(&driving.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    let created = driving.create(only(StageDefinition::default())).await;
    let id = created.workflow_id;
    first.reached(1).await;

    // Whoever only looks sees what is there now.
    let looked = rest(logs(&reading, &id, "", false).await).await;
    assert_eq!(looked, ["before anybody reads"]);
    let other_stage = rest(logs(&reading, &id, "other", false).await).await;
    assert!(other_stage.is_empty(), "{other_stage:?}");

    let mut following = logs(&reading, &id, "only", true).await;
    assert_eq!(line(&mut following).await.unwrap(), "before anybody reads");
    first.open();
    assert_eq!(line(&mut following).await.unwrap(), "while somebody reads");
    assert_eq!(line(&mut following).await.unwrap().len(), 60_000);
    // Who comes later gets the same, though it was shown long ago.
    let later = logs(&reading, &id, "", true).await;
    second.reached(1).await;
    second.open();
    assert_eq!(rest(following).await, ["at the end"]);
    let all = rest(later).await;
    let lengths: Vec<_> = all.iter().map(String::len).collect();
    assert_eq!(lengths, [20, 20, 60_000, 10], "{all:?}");

    // Without hints it takes a second or two longer.
    let deaf = deaf(&database).await;
    let id = driving
        .create(only(StageDefinition::default()))
        .await
        .workflow_id;
    let mut following = logs(&reading, &id, "", true).await;
    assert_eq!(line(&mut following).await.unwrap(), "before anybody reads");
    third.reached(1).await;
    third.open();
    assert_eq!(rest(following).await.last().unwrap(), "at the end");
    drop(deaf);
    driving.stop().await;
    reading.stop().await;
}
