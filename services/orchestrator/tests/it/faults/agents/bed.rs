//! One replica, agents that stay well, agents that something happens to, and load on all of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use contracts::agent::AGENT_TYPES;
use contracts::orchestrator::{
    Agent, AgentState, CreateWorkflowRequest, Pipeline, StageDefinition, StageTask, WorkflowType,
    stage_task,
};
use contracts::task::AgentType;
use contracts::validation::ValidationTask;
use contracts::wire_time;
use testkit::database::Database;

use crate::database;
use crate::faults::client::{Again, Client, Journey, Start};
use crate::faults::figures::Figures;
use crate::faults::invariants::{self, Begun, Run};
use crate::faults::load::{self, Load};
use crate::faults::replica::{Replica, Setting};
use crate::faults::worker::{self, HELD, MANNER, Manner, Orders, Worker};

/// A test sees at least so many workflows.
pub const MANY: usize = 100;
/// The stage that is held, and the type of the agents that something happens to.
pub const STAGE: &str = "validation";
pub const SLOTS: usize = 16;
const DOES_SOMETHING_WITHIN: Duration = Duration::from_secs(5);
const IN_FLIGHT: usize = 8;
const CONNECTIONS: u16 = 16;
const PATIENCE: Duration = Duration::from_secs(100);
const ASK_EVERY: Duration = Duration::from_millis(100);
// Work makes a mark every 50 ms.
const STILL_FOR: Duration = Duration::from_millis(1500);

/// Everything that a fault happens to. Declared in the order in which it goes.
#[derive(Debug)]
pub struct Bed {
    _steady: Worker,
    pub replica: Replica,
    urls: watch::Sender<Vec<String>>,
    pub setting: Setting,
    pub database: Database,
    // Held work that none of the victims has.
    others: Mutex<Vec<Held>>,
    folder: TempDir,
}

/// A workflow whose stage goes on until the test lets it go, and who watches it.
#[derive(Debug)]
pub struct Held {
    client: Client,
    pub journey: Journey,
}

/// An agent that something happens to, and the held work that it has.
#[derive(Debug)]
pub struct Victim {
    pub worker: Worker,
    pub instance_id: String,
    pub held: Vec<Held>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
        }
    }
}

impl Bed {
    /// A replica, and a process with an agent of every type that nothing happens to.
    pub async fn start(change: impl FnOnce(&mut Setting, &mut Orders)) -> Self {
        let database = database::migrated().await;
        let folder = tempfile::Builder::new()
            .prefix("agent-faults-")
            .tempdir()
            .unwrap();
        for name in ["runs", "marks", "gates"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut setting = Setting {
            database_url: database.connection_string().to_owned(),
            data: folder.path().join("orchestrator"),
            connections: CONNECTIONS,
            artifacts: None,
            environment: Vec::new(),
        };
        let mut orders = Orders {
            orchestrator: String::new(),
            advertise: None,
            agent_types: AGENT_TYPES.map(Into::into).to_vec(),
            slots: SLOTS,
            data: folder.path().join("steady"),
            shared: folder.path().to_owned(),
            artifact_bytes: 0,
            grace: Duration::from_secs(10),
        };
        change(&mut setting, &mut orders);
        let replica = Replica::start(&setting).await;
        orders.orchestrator = replica.url().to_owned();
        let bed = Self {
            _steady: Worker::start(&orders, "steady").await,
            urls: watch::Sender::new(vec![replica.url().to_owned()]),
            replica,
            setting,
            database,
            others: Mutex::default(),
            folder,
        };
        bed.ready(AGENT_TYPES.len()).await;
        bed
    }

    /// What an agent with a name is told.
    pub fn orders(&self, name: &str) -> Orders {
        Orders {
            orchestrator: self.replica.url().to_owned(),
            advertise: None,
            agent_types: vec![AgentType::Validation.into()],
            slots: SLOTS,
            data: self.folder.path().join(name),
            shared: self.shared().to_owned(),
            artifact_bytes: 0,
            grace: Duration::from_secs(2),
        }
    }

    /// The folder that agents share with the test.
    pub fn shared(&self) -> &Path {
        self.folder.path()
    }

    /// Puts held work on each of the agents.
    pub async fn victims<const N: usize>(
        &self,
        workers: [Worker; N],
        each: usize,
        manner: Manner,
    ) -> [Victim; N] {
        let mut victims = Vec::new();
        for worker in workers {
            let ready = |agent: &Agent| agent.state() == AgentState::Ready;
            let instance_id = self.until(worker.url(), ready).await.instance_id;
            victims.push(Victim {
                worker,
                instance_id,
                held: Vec::new(),
            });
        }
        for number in 0.. {
            if victims.iter().all(|victim| victim.held.len() >= each) {
                break;
            }
            assert!(
                number < 5 * (N + 1) * each,
                "work is not spread: {victims:#?}"
            );
            let held = self.hold(&format!("held-{number}"), manner).await;
            let on = &held.start().instance_id;
            match victims.iter_mut().find(|victim| victim.instance_id == *on) {
                Some(victim) => victim.held.push(held),
                // It keeps the slot, so that the next goes elsewhere.
                None => self.others.lock().unwrap().push(held),
            }
        }
        victims.try_into().unwrap()
    }

    /// Has a workflow taken in whose stage goes on until the test lets it go, and waits until it
    /// has begun.
    pub async fn hold(&self, name: &str, manner: Manner) -> Held {
        let mut client = self.client();
        let labels = [(HELD, STAGE.to_owned()), (MANNER, manner.label())];
        let mut request = CreateWorkflowRequest {
            labels: HashMap::from(labels.map(|(name, value)| (name.to_owned(), value))),
            ..load::request(name)
        };
        if manner == Manner::Stuck {
            request.r#type = WorkflowType::Custom.into();
            request.pipeline = Some(impatient());
        }
        let journey = client.create(request).await;
        let mut held = Held { client, journey };
        held.watch(|journey| !journey.starts.is_empty()).await;
        let start = held.start().clone();
        let begun = || self.marks(&start.task_id, &start.instance_id) > 0;
        eventually(begun).await;
        held
    }

    /// Load, from now on.
    pub fn load(&self) -> Load {
        Load::start(&self.urls.subscribe(), IN_FLIGHT)
    }

    pub fn client(&self) -> Client {
        Client::new(self.urls.subscribe(), 0)
    }

    /// Lets the held work of a task go on to its end.
    pub fn open(&self, task_id: &str) {
        fs::write(worker::gate(self.shared(), Some(task_id)), "").unwrap();
    }

    /// How often held work of a task on an agent has made a mark.
    pub fn marks(&self, task_id: &str, instance_id: &str) -> u64 {
        let mark = worker::mark(self.shared(), task_id, instance_id);
        fs::metadata(mark).map_or(0, |data| data.len())
    }

    /// Waits until held work of a task on an agent makes no more marks; since when.
    pub async fn stopped(&self, task_id: &str, instance_id: &str) -> Instant {
        let mut last = (self.marks(task_id, instance_id), Instant::now());
        eventually(|| {
            let marks = self.marks(task_id, instance_id);
            if marks != last.0 {
                last = (marks, Instant::now());
            }
            last.1.elapsed() > STILL_FOR
        })
        .await;
        last.1
    }

    /// How often an agent has begun work.
    pub fn begun_by(&self, instance_id: &str) -> usize {
        let runs = self.runs();
        let by = runs.iter().filter(|run| run.told.ends_with(instance_id));
        by.count()
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for file in fs::read_dir(worker::runs(self.shared())).unwrap() {
            let file = file.unwrap();
            let task_id = file.file_name().into_string().unwrap();
            for line in fs::read_to_string(file.path()).unwrap().lines() {
                runs.push(Run {
                    task_id: task_id.clone(),
                    began: true,
                    told: line.to_owned(),
                });
            }
        }
        runs
    }

    /// Waits until the agent at an address is listed as is wanted.
    pub async fn until(&self, url: &str, is_wanted: impl Fn(&Agent) -> bool) -> Agent {
        let begun = Instant::now();
        loop {
            let agents = invariants::agents(self.replica.url()).await;
            let agent = agents.into_iter().find(|agent| agent.address == url);
            match agent {
                Some(agent) if is_wanted(&agent) => return agent,
                _ => assert!(begun.elapsed() < PATIENCE, "still {agent:?}"),
            }
            sleep(ASK_EVERY).await;
        }
    }

    async fn ready(&self, count: usize) {
        let begun = Instant::now();
        loop {
            let agents = invariants::agents(self.replica.url()).await;
            let ready = |agent: &&Agent| agent.state() == AgentState::Ready;
            if agents.iter().filter(ready).count() >= count {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "agents do not connect");
            sleep(ASK_EVERY).await;
        }
    }

    /// Lets everything go, waits for it to end, asserts what must hold, and tells.
    pub async fn end(
        &self,
        load: Load,
        held: Vec<Held>,
        figures: Vec<Figures>,
        most: Begun,
    ) -> Vec<Journey> {
        self.end_with(load, held, figures, most, Vec::new).await
    }

    /// The same where other agents had work, too.
    pub async fn end_with(
        &self,
        mut load: Load,
        held: Vec<Held>,
        figures: Vec<Figures>,
        most: Begun,
        others: impl Fn() -> Vec<Run>,
    ) -> Vec<Journey> {
        fs::write(worker::gate(self.shared(), None), "").unwrap();
        load.finished(MANY).await;
        let mut journeys = load.end().await;
        let spare = std::mem::take(&mut *self.others.lock().unwrap());
        for mut held in held.into_iter().chain(spare) {
            held.client.finish(&mut held.journey).await;
            journeys.push(held.journey);
        }
        let replicas = [self.replica.url().to_owned()];
        let database_url = &self.setting.database_url;
        let runs: Vec<_> = self.runs().into_iter().chain(others()).collect();
        invariants::assert_all(database_url, &replicas, &journeys, &runs, most).await;
        for figures in figures {
            figures.print(&journeys);
        }
        journeys
    }
}

impl Held {
    /// Where it was begun last.
    pub fn start(&self) -> &Start {
        self.journey.starts.last().unwrap()
    }

    pub fn task_id(&self) -> &str {
        &self.start().task_id
    }

    /// Waits until it is to be tried again.
    pub async fn retried(&mut self) -> Again {
        self.watch(|journey| !journey.retries.is_empty()).await;
        self.journey.retries[0].clone()
    }

    /// Waits until another agent has begun it, after so many starts.
    pub async fn restarted(&mut self, starts: usize) -> Start {
        self.watch(|journey| journey.starts.len() > starts).await;
        self.journey.starts[starts].clone()
    }

    /// Watches it to its end.
    pub async fn finish(&mut self) {
        self.watch(|journey| journey.end.is_some()).await;
    }

    async fn watch(&mut self, enough: impl Fn(&Journey) -> bool) {
        let watching = self.client.watch(&mut self.journey, enough);
        let waited = timeout(PATIENCE, watching).await;
        assert!(waited.is_ok(), "not seen of {:?}", self.journey);
    }
}

impl Victim {
    /// Waits until all its held work is to be tried again; why, and when the last was.
    pub async fn retried(&mut self) -> Vec<Again> {
        let waiting = self.held.iter_mut().map(Held::retried);
        futures::future::join_all(waiting).await
    }

    /// Waits until all its held work was begun by others; when the last was.
    pub async fn restarted(&mut self) -> Instant {
        let waiting = self.held.iter_mut().map(|held| held.restarted(1));
        let starts = futures::future::join_all(waiting).await;
        for start in &starts {
            assert_ne!(start.instance_id, self.instance_id);
        }
        starts.iter().map(|start| start.at).max().unwrap()
    }
}

// The held stage alone, with little patience.
fn impatient() -> Pipeline {
    let task = stage_task::Task::Validation(ValidationTask::default());
    Pipeline {
        name: "impatient".to_owned(),
        stages: vec![StageDefinition {
            name: STAGE.to_owned(),
            task: Some(StageTask { task: Some(task) }),
            progress_timeout: Some(wire_time::wire_duration(DOES_SOMETHING_WITHIN)),
            ..StageDefinition::default()
        }],
        ..Pipeline::default()
    }
}

/// The processes of victims, and their held work.
pub fn parts(victims: impl IntoIterator<Item = Victim>) -> (Vec<Worker>, Vec<Held>) {
    let parts = victims
        .into_iter()
        .map(|victim| (victim.worker, victim.held));
    let (workers, held): (_, Vec<_>) = parts.unzip();
    (workers, held.into_iter().flatten().collect())
}

/// Looks until it is so.
pub async fn eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never is so");
        sleep(ASK_EVERY).await;
    }
}
