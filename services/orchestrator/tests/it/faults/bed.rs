//! Replicas as processes, agents that roam between them, clients that keep them busy.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use contracts::agent::AGENT_TYPES;
use contracts::orchestrator::{AgentState, CreateWorkflowRequest};
use testkit::database::{Connection, Database};

use super::client::{Client, Journey};
use super::figures::Figures;
use super::fleet::{Fleet, Road};
use super::invariants::{self, Begun};
use super::load::{self, Load};
use super::network::{DatabaseLink, Network};
use super::replica::{Replica, Setting};
use super::server::Server;
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
    network: Option<Network>,
    server: Option<Server>,
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
        let mut bed = Self::build(url, count, None, |_, _| {}).await;
        bed.database = Some(database);
        bed
    }

    /// The same, each replica with a clock that is so many seconds ahead, by way of a library that
    /// is loaded first.
    pub async fn with_clocks(shim: &Path, ahead: &[i64]) -> Self {
        let database = database::migrated().await;
        let url = database.connection_string().to_owned();
        let mut bed = Self::build(url, ahead.len(), None, |index, setting| {
            setting.environment = vec![
                ("LD_PRELOAD".to_owned(), shim.to_str().unwrap().to_owned()),
                ("CLOCK_AHEAD_SECONDS".to_owned(), ahead[index].to_string()),
            ];
        })
        .await;
        bed.database = Some(database);
        bed
    }

    /// The same on a database server of the test's own.
    pub async fn with_server(count: usize) -> Self {
        let server = Server::start().await;
        let mut bed = Self::build(server.url().to_owned(), count, None, |_, _| {}).await;
        bed.server = Some(server);
        bed
    }

    /// The same, with a bad network around the first replica.
    pub async fn with_network(count: usize) -> Self {
        let database = database::migrated().await;
        let url = database.connection_string().to_owned();
        let link = DatabaseLink::start(&url).await;
        let mut bed = Self::build(url, count, Some(link), |_, _| {}).await;
        bed.database = Some(database);
        bed
    }

    async fn build(
        url: String,
        count: usize,
        link: Option<DatabaseLink>,
        set: impl Fn(usize, &mut Setting),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting {
            database_url: url,
            data: folder.path().join("data"),
            connections: CONNECTIONS,
            artifacts: None,
            environment: Vec::new(),
        };
        let starting = (0..count).map(|index| {
            let mut setting = setting.clone();
            set(index, &mut setting);
            if let (0, Some(link)) = (index, &link) {
                link.url().clone_into(&mut setting.database_url);
            }
            async move { Replica::start(&setting).await }
        });
        let replicas = futures::future::join_all(starting).await;
        let roads = watch::Sender::new(Vec::new());
        let fleet = Fleet::start(replicas.len(), SLOTS, &roads.subscribe()).await;
        let mut urls: Vec<_> = replicas.iter().map(|one| one.url().to_owned()).collect();
        let mut ways: Vec<_> = replicas.iter().map(road).collect();
        let mut network = None;
        if let Some(link) = link {
            let around = Network::start(link, &replicas[0], &fleet).await;
            urls[0] = around.url();
            ways[0] = around.road();
            network = Some(around);
        }
        let urls = watch::Sender::new(urls);
        roads.send_replace(ways);
        let bed = Self {
            load: Load::start(&urls.subscribe(), IN_FLIGHT),
            fleet,
            replicas: replicas.into_iter().map(Some).collect(),
            urls,
            roads,
            setting,
            network,
            server: None,
            database: None,
            _folder: folder,
        };
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

    /// What is around the first replica.
    pub fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    /// The test's own database server.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().unwrap()
    }

    /// A connection to the database that no fault is in the way of.
    pub async fn connection(&self) -> Connection {
        Connection::open(&self.setting.database_url).await.unwrap()
    }

    /// Asks a replica until it says that its database is away; how long it took to say so.
    pub async fn refused(&self, index: usize) -> Duration {
        let client = self.client(index);
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            match client.ask().await {
                Ok(()) => sleep(ASK_EVERY).await,
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    return asked.elapsed();
                }
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on without a database");
        }
    }

    /// Waits until a replica's readiness check says so.
    pub async fn readiness(&self, index: usize, wanted: u16) {
        let begun = Instant::now();
        while self.replica(index).readiness().await != wanted {
            assert!(begun.elapsed() < PATIENCE, "it never says {wanted}");
            sleep(ASK_EVERY).await;
        }
    }

    /// Waits until a replica's health says so of the services that need the database; how long that took.
    pub async fn health(&self, index: usize, wanted: ServingStatus) -> Duration {
        let begun = Instant::now();
        let channel = contracts::client::channel(&self.url(index), None).unwrap();
        let mut health = HealthClient::new(channel);
        let mut status = async |service: &str| {
            let service = service.to_owned();
            let answer = health.check(HealthCheckRequest { service }).await;
            answer.unwrap().into_inner().status()
        };
        for service in ["WorkflowService", "DecisionService", "AgentRegistryService"] {
            while status(&format!("agentic.orchestrator.v1.{service}")).await != wanted {
                assert!(begun.elapsed() < PATIENCE, "{service} is never {wanted:?}");
                sleep(ASK_EVERY).await;
            }
        }
        let process = status("").await;
        assert_eq!(process, ServingStatus::Serving, "a restart would not help");
        begun.elapsed()
    }

    /// Ends every connection to the database, once.
    pub async fn disconnect_everybody(&self) {
        let database = self.database.as_ref().unwrap();
        database.disconnect_everybody().await.unwrap();
    }

    /// Where clients find a replica.
    pub fn url(&self, index: usize) -> String {
        self.urls.borrow()[index].clone()
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
            server,
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
        drop(replicas);
        if let Some(mut server) = server {
            server.stop().await;
        }
        journeys
    }
}

impl Held {
    /// Another workflow, which somebody waits for.
    pub fn add(&mut self, client: Client, journey: Journey) {
        self.0.push((client, journey));
    }

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
