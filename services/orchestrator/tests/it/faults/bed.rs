//! Replicas as processes, agents that roam between them, clients that keep them busy.

use std::collections::HashMap;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use contracts::agent::AGENT_TYPES;
use contracts::orchestrator::{AgentState, CreateWorkflowRequest};
use testkit::database::Database;

use super::client::{Client, Journey};
use super::figures::Figures;
use super::fleet::{Fleet, Road};
use super::invariants::{self, Begun};
use super::load::{self, Load};
use super::replica::{Replica, Setting};
use super::worker::HELD;
use crate::database;

/// A test sees at least so many workflows.
pub const MANY: usize = 100;
const IN_FLIGHT: usize = 10;
// More than ever work at once: what a replica takes in starts there.
const SLOTS: i32 = 16;
const CONNECTIONS: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(90);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Everything that a fault happens to. Declared in the order in which it goes.
#[derive(Debug)]
pub struct Bed {
    pub load: Load,
    pub fleet: Fleet,
    replicas: Vec<Option<Replica>>,
    urls: watch::Sender<Vec<String>>,
    roads: watch::Sender<Vec<Road>>,
    setting: Setting,
    database: Option<Database>,
    _folder: TempDir,
}

/// Workflows whose first stage waits for the test, and who watches them.
#[derive(Debug)]
pub struct Held(Vec<(Client, Journey)>);

impl Bed {
    /// So many replicas on a database of the test's own, each with an agent of every type, and
    /// load on all of them.
    pub async fn start(count: usize) -> Self {
        let database = database::migrated().await;
        let url = database.connection_string().to_owned();
        let settings = vec![url.clone(); count];
        Self::build(url, &settings, Some(database)).await
    }

    /// Replicas that reach one database each in their own way.
    pub async fn build(url: String, ways: &[String], database: Option<Database>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting {
            database_url: url,
            data: folder.path().join("data"),
            connections: CONNECTIONS,
            artifacts: None,
            environment: Vec::new(),
        };
        let starting = ways.iter().map(|way| {
            let setting = Setting {
                database_url: way.clone(),
                ..setting.clone()
            };
            async move { Replica::start(&setting).await }
        });
        let replicas = futures::future::join_all(starting).await;
        let urls = replicas.iter().map(|replica| replica.url().to_owned());
        let urls = watch::Sender::new(urls.collect::<Vec<_>>());
        let roads = watch::Sender::new(Vec::new());
        let fleet = Fleet::start(replicas.len(), SLOTS, &roads.subscribe()).await;
        let load = Load::start(&urls.subscribe(), IN_FLIGHT);
        let bed = Self {
            load,
            fleet,
            replicas: replicas.into_iter().map(Some).collect(),
            urls,
            roads,
            setting,
            database,
            _folder: folder,
        };
        let roads = bed.replicas.iter().flatten().map(road).collect();
        bed.roads.send_replace(roads);
        bed.spread().await;
        bed
    }

    /// Starts another replica in the place of one that is gone.
    pub async fn replace(&mut self, index: usize) {
        let replica = Replica::start(&self.setting).await;
        self.urls
            .send_modify(|urls| replica.url().clone_into(&mut urls[index]));
        self.roads
            .send_modify(|roads| roads[index] = road(&replica));
        self.replicas[index] = Some(replica);
    }

    /// Waits until each replica has an agent of every type that can be given work.
    pub async fn spread(&self) {
        let begun = Instant::now();
        for replica in self.replicas.iter().flatten() {
            while ready_count(replica).await < AGENT_TYPES.len() {
                assert!(begun.elapsed() < PATIENCE, "agents do not connect");
                sleep(ASK_EVERY).await;
            }
        }
    }

    /// One of the replicas.
    pub fn replica(&self, index: usize) -> &Replica {
        self.replicas[index].as_ref().unwrap()
    }

    /// Takes a replica out, for the test to end as it likes. Clients and agents find out themselves.
    pub fn take(&mut self, index: usize) -> Replica {
        self.replicas[index].take().unwrap()
    }

    /// Ends every connection to the database, once.
    pub async fn disconnect_everybody(&self) {
        let database = self.database.as_ref().unwrap();
        database.disconnect_everybody().await.unwrap();
    }

    /// A client that begins with a replica.
    pub fn client(&self, index: usize) -> Client {
        Client::new(self.urls.subscribe(), index)
    }

    /// Has so many workflows taken in by a replica, and waits until each is at work and waits.
    pub async fn hold(&self, index: usize, count: usize) -> Held {
        let mut held = Vec::new();
        for number in 0..count {
            let mut client = self.client(index);
            let request = held_request(&format!("held-{index}-{number}"));
            let journey = client.create(request).await;
            held.push((client, journey));
        }
        timeout(PATIENCE, self.fleet.gate().reached(count))
            .await
            .expect("held stages are at work");
        Held(held)
    }

    /// Lets the held stages go, waits for everything to end, asserts what must hold, and tells.
    pub async fn end(self, held: Held, figures: Figures) -> Vec<Journey> {
        self.fleet.gate().open();
        let Self {
            mut load,
            fleet,
            replicas,
            setting,
            database: _database,
            _folder,
            ..
        } = self;
        load.finished(MANY).await;
        let mut journeys = load.end().await;
        for (mut client, mut journey) in held.0 {
            client.finish(&mut journey).await;
            journeys.push(journey);
        }
        let living: Vec<_> = replicas
            .iter()
            .flatten()
            .map(|replica| replica.url().to_owned())
            .collect();
        let runs = fleet.runs();
        invariants::assert_all(
            &setting.database_url,
            &living,
            &journeys,
            &runs,
            Begun::PerAttempt,
        )
        .await;
        figures.print(&journeys);
        journeys
    }
}

impl Held {
    /// Waits until each has been adopted; when the first was, and when the last.
    pub async fn adopted(&mut self, since: Instant) -> (Duration, Duration) {
        let watching = self.0.iter_mut().map(|(client, journey)| async move {
            let watching = client.watch(journey, |journey| journey.adopted.is_some());
            timeout(PATIENCE, watching).await.expect("it is adopted");
            journey.adopted.unwrap() - since
        });
        let times = futures::future::join_all(watching).await;
        (
            times.iter().min().copied().unwrap_or_default(),
            times.iter().max().copied().unwrap_or_default(),
        )
    }
}

fn road(replica: &Replica) -> Road {
    Road {
        orchestrator: replica.url().to_owned(),
        calls: None,
    }
}

fn held_request(name: &str) -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        labels: HashMap::from([(HELD.to_owned(), "validation".to_owned())]),
        ..load::request(name)
    }
}

async fn ready_count(replica: &Replica) -> usize {
    let agents = invariants::agents(replica.url()).await;
    let ready = |agent: &&contracts::orchestrator::Agent| agent.state() == AgentState::Ready;
    agents.iter().filter(ready).count()
}
