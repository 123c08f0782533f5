//! An orchestrator that says what the test tells it to, over real gRPC: one workflow with a log of
//! events, and answers that may be wrong on purpose.

mod other_services;
mod story;
mod workflow_service;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use contracts::orchestrator::{
    Clarification, CreateWorkflowRequest, Decision, Pipeline, ResolveDecisionRequest,
    StoredArtifact, WatchWorkflowResponse, Workflow, WorkflowEvent,
};
use testkit::loopback::LoopbackServer;
use tokio::sync::watch;
use tonic::Status;
use tonic::service::Routes;

pub use story::{Story, resolved};
pub use workflow_service::say;

/// What one call of `WatchWorkflow` does. The default is to follow the log to its end.
#[derive(Debug, Clone)]
pub enum Watch {
    /// Refuses the call.
    Refuse(Status),
    /// Sends so many events of the log, then breaks off.
    BreakAfter(usize, Status),
    /// Sends exactly this, then ends or breaks.
    Say(Vec<Result<WatchWorkflowResponse, Status>>),
    /// Sends exactly this, then nothing any more.
    SayAndHang(Vec<Result<WatchWorkflowResponse, Status>>),
}

/// What the orchestrator knows, and what it was asked.
#[derive(Default)]
pub struct Knowledge {
    /// The workflow as `GetWorkflow` gives it.
    pub workflow: Workflow,
    /// Its log.
    pub events: Vec<WorkflowEvent>,
    /// What the next watches do.
    pub watches: VecDeque<Watch>,
    /// Where each watch began.
    pub watched_after: Vec<i64>,
    /// `traceparent` of each creation and watch.
    pub traceparents: Vec<String>,
    /// What was created.
    pub created: Vec<CreateWorkflowRequest>,
    /// Refusals of the next calls of any unary RPC.
    pub refusals: VecDeque<Status>,
    /// Open decisions.
    pub decisions: Vec<Decision>,
    /// Answers to decisions.
    pub resolutions: Vec<ResolveDecisionRequest>,
    /// Open clarifications.
    pub clarifications: Vec<Clarification>,
    /// Artifacts, with their bytes.
    pub artifacts: Vec<(StoredArtifact, Vec<u8>)>,
    /// Pipelines.
    pub pipelines: Vec<Pipeline>,
    /// Workflows of `ListWorkflows`, page by page, with tokens.
    pub pages: VecDeque<(Vec<Workflow>, String)>,
    /// Names of the RPCs that changed something.
    pub changes: Vec<String>,
}

/// A scripted orchestrator. Cheap to clone; all clones know the same.
#[derive(Clone)]
pub struct Scripted {
    knowledge: Arc<Mutex<Knowledge>>,
    grown: watch::Sender<u64>,
}

impl Scripted {
    /// One that knows a story.
    pub fn new(story: Story) -> Self {
        let knowledge = Knowledge {
            workflow: story.workflow,
            events: story.events,
            pipelines: story::pipelines(),
            ..Knowledge::default()
        };
        Self {
            knowledge: Arc::new(Mutex::new(knowledge)),
            grown: watch::Sender::new(0),
        }
    }

    /// What it knows.
    pub fn know(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends events to the log; live watches get them.
    pub fn append(&self, events: impl IntoIterator<Item = WorkflowEvent>) {
        self.know().events.extend(events);
        self.grown.send_modify(|count| *count += 1);
    }

    /// The next watches do this.
    pub fn script(&self, watches: impl IntoIterator<Item = Watch>) {
        self.know().watches.extend(watches);
    }

    /// Waits until so many watches were asked for in all.
    pub async fn watched(&self, count: usize) -> Result<()> {
        let mut grown = self.grown.subscribe();
        while self.know().watched_after.len() < count {
            grown.changed().await?;
        }
        Ok(())
    }

    /// Serves on a free port.
    pub async fn serve(&self) -> Result<LoopbackServer> {
        let mut routes = Routes::builder();
        routes
            .add_service(workflow_service::service(self.clone()))
            .add_service(other_services::pipelines(self.clone()))
            .add_service(other_services::decisions(self.clone()))
            .add_service(other_services::clarifications(self.clone()))
            .add_service(other_services::artifacts(self.clone()))
            .add_service(other_services::agents(self.clone()));
        Ok(LoopbackServer::start(routes.routes()).await?)
    }

    fn refused(&self) -> Result<(), Status> {
        match self.know().refusals.pop_front() {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}
