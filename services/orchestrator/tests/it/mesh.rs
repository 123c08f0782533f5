//! An orchestrator on a database of its own, with scripted agents connected to it.

use std::path::Path;
use std::time::Duration;

use orchestrator::access::Mode;
use orchestrator::access::config::AccessConfig;
use orchestrator::artifacts::Location;
use orchestrator::config::Retention;
use orchestrator::{Bound, Config};
use testkit::database::Database;
use testkit::scripted_agent::{ScriptedAgent, Session};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use contracts::agent::AGENT_TYPES;
use contracts::client::{self, ClientChannel};
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::clarification_service_client::ClarificationServiceClient;
use contracts::orchestrator::decision_service_client::DecisionServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateWorkflowRequest, GetWorkflowRequest, WatchWorkflowRequest, Workflow, WorkflowEvent,
    WorkflowType, watch_workflow_response, workflow_event,
};
use contracts::task::Repository;

/// A test that takes longer has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// One replica.
pub struct Replica {
    pub url: String,
    pub channel: ClientChannel,
    shutdown: CancellationToken,
    // A runtime of its own: when it goes, everything that the replica ever started goes with it.
    runtime: Option<Runtime>,
    serving: Option<JoinHandle<Result<(), orchestrator::serve::OrchestratorError>>>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Replica {
    pub async fn start(database: &Database, artifacts: &Path) -> Self {
        Self::start_on(database.connection_string(), artifacts).await
    }

    /// One that reaches its database in its own way.
    pub async fn start_on(database_url: &str, artifacts: &Path) -> Self {
        Self::start_as(Self::config(database_url, artifacts)).await
    }

    /// Settings of a replica that anybody may call.
    pub fn config(database_url: &str, artifacts: &Path) -> Config {
        Config {
            address: "127.0.0.1:0".parse().unwrap(),
            http_address: Some("127.0.0.1:0".parse().unwrap()),
            tls: service_runtime::tls::Tls::default(),
            http_tls: false,
            enrolment: None,
            database_url: database_url.to_owned(),
            connections: 8,
            redis: None,
            artifacts: Location::Folder(artifacts.to_owned()),
            retention: Retention(None),
            live_workflows: 100_000,
            shutdown_grace: Duration::from_secs(5),
            access: AccessConfig {
                mode: Mode::Open,
                ..AccessConfig::default()
            },
            reflection: true,
            agents_are_ours: false,
            registry: None,
        }
    }

    pub async fn start_as(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let (sender, bound) = oneshot::channel();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut serving = runtime.spawn(orchestrator::serve(config, shutdown.clone(), sender));
        let bound: Bound = tokio::select! {
            biased;
            bound = bound => bound.unwrap(),
            ended = &mut serving => panic!("it did not start: {ended:?}"),
        };
        let url = format!("http://{}", bound.grpc);
        let channel = client::channel(&url, None).unwrap();
        Self {
            url,
            channel,
            shutdown,
            runtime: Some(runtime),
            serving: Some(serving),
        }
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(PATIENCE, serving)
            .await
            .expect("it stops in time")
            .unwrap()
            .unwrap();
    }

    /// Ends it as a kill would: nothing is said to anybody.
    pub fn kill(self) {
        drop(self);
    }

    pub fn workflows(&self) -> WorkflowServiceClient<ClientChannel> {
        WorkflowServiceClient::new(self.channel.clone())
    }

    pub fn agents(&self) -> AgentRegistryServiceClient<ClientChannel> {
        AgentRegistryServiceClient::new(self.channel.clone())
    }

    pub fn decisions(&self) -> DecisionServiceClient<ClientChannel> {
        DecisionServiceClient::new(self.channel.clone())
    }

    pub fn clarifications(&self) -> ClarificationServiceClient<ClientChannel> {
        ClarificationServiceClient::new(self.channel.clone())
    }

    pub async fn create(&self, request: CreateWorkflowRequest) -> Workflow {
        self.workflows()
            .create_workflow(request)
            .await
            .unwrap()
            .into_inner()
            .workflow
            .unwrap()
    }

    pub async fn get(&self, workflow_id: &str) -> Workflow {
        let request = GetWorkflowRequest {
            workflow_id: workflow_id.to_owned(),
        };
        self.workflows()
            .get_workflow(request)
            .await
            .unwrap()
            .into_inner()
            .workflow
            .unwrap()
    }

    /// Watches until the end; the events, in the order they came.
    pub async fn watch(&self, workflow_id: &str, after_sequence: i64) -> Vec<WorkflowEvent> {
        self.watch_until(workflow_id, after_sequence, |_| false)
            .await
    }

    /// Watches until an event of a kind, or the end.
    pub async fn watch_until(
        &self,
        workflow_id: &str,
        after_sequence: i64,
        enough: impl Fn(&workflow_event::Payload) -> bool,
    ) -> Vec<WorkflowEvent> {
        let request = WatchWorkflowRequest {
            workflow_id: workflow_id.to_owned(),
            after_sequence,
        };
        let mut events = Vec::new();
        let watching = async {
            let mut stream = self
                .workflows()
                .watch_workflow(request)
                .await
                .unwrap()
                .into_inner();
            while let Some(message) = stream.message().await.unwrap() {
                if let Some(watch_workflow_response::Payload::Event(event)) = message.payload {
                    let done = enough(event.payload.as_ref().unwrap());
                    events.push(event);
                    if done {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, watching)
            .await
            .expect("the watch ends in time");
        events
    }
}

/// Agents of all types that pass everything at once.
pub async fn passing_agents(url: &str) -> Vec<(ScriptedAgent, Session)> {
    let mut agents = Vec::new();
    for agent_type in AGENT_TYPES {
        let agent = ScriptedAgent::passing(agent_type).await.unwrap();
        let session = agent.connect(url, 4).await.unwrap();
        session.reachable().await.unwrap();
        agents.push((agent, session));
    }
    agents
}

/// A workflow for a new app.
pub fn app(name: &str) -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        r#type: WorkflowType::App.into(),
        name: name.to_owned(),
        ..CreateWorkflowRequest::default()
    }
}

/// A workflow for a change that is there already.
pub fn change() -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        r#type: WorkflowType::Change.into(),
        name: "change".to_owned(),
        repository: Some(Repository {
            url: "/repositories/shop.git".to_owned(),
            branch: "topic".to_owned(),
            ..Repository::default()
        }),
        ..CreateWorkflowRequest::default()
    }
}

/// Kinds of events, in a word each.
pub fn kinds(events: &[WorkflowEvent]) -> Vec<String> {
    use workflow_event::Payload;
    events
        .iter()
        .map(|event| {
            let kind = match event.payload.as_ref().unwrap() {
                Payload::Created(_) => "created",
                Payload::StageQueued(_) => "queued",
                Payload::StageStarted(_) => "started",
                Payload::StageProgressed(_) => "progressed",
                Payload::StageFinished(_) => "finished",
                Payload::DecisionAsked(_) => "asked",
                Payload::DecisionResolved(_) => "resolved",
                Payload::ClarificationAsked(_) => "clarification-asked",
                Payload::ClarificationAnswered(_) => "clarification-answered",
                Payload::ArtifactStored(_) => "artifact",
                Payload::RetryScheduled(_) => "retry",
                Payload::LeaseChanged(_) => "lease",
                Payload::Paused(_) => "paused",
                Payload::Resumed(_) => "resumed",
                Payload::CancelRequested(_) => "cancel",
                Payload::Retried(_) => "retried",
                Payload::RepairRequested(_) => "repair",
                Payload::StageCompensated(_) => "compensated",
                Payload::Finished(_) => "end",
            };
            if event.stage.is_empty() {
                kind.to_owned()
            } else {
                format!("{} {kind}", event.stage)
            }
        })
        .collect()
}

/// Sequences without gap or repeat, from a start.
pub fn assert_gapless(events: &[WorkflowEvent], after: i64) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.sequence, after + 1 + i64::try_from(index).unwrap());
    }
}

/// Looks until something is as it should be; what was seen last, when it never is.
pub async fn eventually<T, Look>(mut look: impl FnMut() -> Look, is_so: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
    Look: Future<Output = T>,
{
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut again = tokio::time::interval(Duration::from_millis(20));
    loop {
        again.tick().await;
        let seen = look().await;
        if is_so(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < until, "still {seen:?}");
    }
}
