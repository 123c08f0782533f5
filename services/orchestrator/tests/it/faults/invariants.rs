//! What must hold after every fault: no workflow lost, at most one result accepted per task and
//! epoch, event logs without gap or repeat, every slot free again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use contracts::client;
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::{Agent, AgentState, ListAgentsRequest, WorkflowState};
use testkit::database::Connection;

use super::client::Journey;

const SETTLE_WITHIN: Duration = Duration::from_secs(45);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// One call that reached an agent.
#[derive(Debug)]
pub struct Run {
    pub task_id: String,
    /// It began work, rather than going on with work that was there.
    pub began: bool,
    /// In words.
    pub told: String,
}

/// How often the work of a task may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Once for each attempt on record.
    PerAttempt,
    /// Once for each lease: where the network is lost, nobody knows whether an agent has begun, and
    /// what was not begun is not charged.
    PerLease,
}

/// Asserts all four. `runs`: all that agents got.
pub async fn assert_all(
    database_url: &str,
    replicas: &[String],
    journeys: &[Journey],
    runs: &[Run],
    most: Begun,
) {
    assert_none_lost(journeys);
    let connection = Connection::open(database_url).await.unwrap();
    assert_logs(&connection, journeys).await;
    assert_results(&connection, journeys, runs, most).await;
    assert_slots(&connection, replicas).await;
}

fn assert_none_lost(journeys: &[Journey]) {
    for journey in journeys {
        assert_eq!(journey.end, Some(WorkflowState::Succeeded), "{journey:?}");
    }
}

// What watchers saw is what is written, and nothing else was begun.
async fn assert_logs(connection: &Connection, journeys: &[Journey]) {
    let rows = connection
        .query(
            "SELECT w.workflow_id, w.last_sequence, count(e.*), coalesce(min(e.sequence), 0),
                    coalesce(max(e.sequence), 0), w.end_time IS NOT NULL
             FROM workflows w LEFT JOIN events e USING (workflow_id) GROUP BY w.workflow_id",
            &[],
        )
        .await
        .unwrap();
    let mut seen: HashMap<String, i64> = journeys
        .iter()
        .map(|journey| (journey.workflow_id.clone(), journey.last_sequence))
        .collect();
    assert_eq!(seen.len(), journeys.len(), "a request was taken in twice");
    for row in rows {
        let workflow_id: Uuid = row.get(0);
        let (last, count, first, newest): (i64, i64, i64, i64) =
            (row.get(1), row.get(2), row.get(3), row.get(4));
        assert_eq!((count, first, newest), (last, 1, last), "{workflow_id}");
        assert!(row.get::<_, bool>(5), "{workflow_id} has not ended");
        let watched = seen.remove(&workflow_id.to_string());
        assert_eq!(watched, Some(last), "{workflow_id} as its watcher saw it");
    }
    assert!(seen.is_empty(), "not in the database: {seen:?}");
}

// Each task was completed once, and begun no more often than that took.
async fn assert_results(connection: &Connection, journeys: &[Journey], runs: &[Run], most: Begun) {
    let doubled = connection
        .query(
            "SELECT task_id, lease_epoch FROM attempts WHERE ending = 'completed'
             GROUP BY task_id, lease_epoch HAVING count(*) > 1",
            &[],
        )
        .await
        .unwrap();
    assert!(doubled.is_empty(), "accepted twice: {doubled:?}");
    let tasks = connection
        .query(
            "SELECT task_id, count(*) FILTER (WHERE ending = 'completed'), count(*) FROM attempts
             GROUP BY task_id",
            &[],
        )
        .await
        .unwrap();
    for row in tasks {
        let (task_id, completed, all): (Uuid, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(completed, 1, "{task_id} was completed");
        let id = task_id.to_string();
        let runs: Vec<_> = runs.iter().filter(|run| run.task_id == id).collect();
        let begun = runs.iter().filter(|run| run.began).count();
        let most = match most {
            Begun::PerAttempt => usize::try_from(all).unwrap(),
            Begun::PerLease => {
                let starts = journeys.iter().flat_map(|journey| &journey.starts);
                starts.filter(|start| start.task_id == id).count()
            }
        };
        assert!(
            begun <= most && begun > 0,
            "{task_id} was begun {begun} times, {all} attempts, at most {most}: {runs:#?}",
        );
    }
}

// Nothing is leased, and no agent has a slot taken, wherever it is connected.
async fn assert_slots(connection: &Connection, replicas: &[String]) {
    let begun = Instant::now();
    loop {
        let leased: i64 = connection
            .query_one("SELECT count(*) FROM tasks", &[])
            .await
            .unwrap()
            .get(0);
        let mut busy = Vec::new();
        let mut ready = 0;
        for url in replicas {
            for agent in agents(url).await {
                if agent.free_slot_count != agent.slot_count {
                    busy.push(agent.clone());
                }
                ready += usize::from(agent.state() == AgentState::Ready);
            }
        }
        if leased == 0 && busy.is_empty() && ready > 0 {
            return;
        }
        assert!(
            begun.elapsed() < SETTLE_WITHIN,
            "{leased} tasks are left, {ready} agents are ready, slots are taken on {busy:?}"
        );
        sleep(ASK_EVERY).await;
    }
}

/// Agents as a replica lists them.
pub async fn agents(url: &str) -> Vec<Agent> {
    let channel = client::channel(url, None).unwrap();
    let request = ListAgentsRequest {
        page_size: 1000,
        ..ListAgentsRequest::default()
    };
    AgentRegistryServiceClient::new(channel)
        .list_agents(request)
        .await
        .unwrap()
        .into_inner()
        .agents
}
