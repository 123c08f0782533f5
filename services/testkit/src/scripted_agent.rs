//! An agent that does what a test says: real gRPC, real health, every promise of the contract about task streams, and work that is
//! a list of steps. Where a test wants a promise broken, a step breaks it. It knows nothing of what agents really do.

mod gate;
mod service;
mod session;
mod work;

use std::{io, net::SocketAddr, time::Duration};

use contracts::{
    agent::{AgentMessage, service_name},
    id::InstanceId,
    orchestrator::{StageResult, StageTask, stage_result},
    task::{AgentType, Outcome, TaskContext, Verdict, task_event},
};
use tokio::sync::watch;
use tonic::{Status, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::{gate::Gate, session::Session};
use self::{service::Service, work::Workbench};
use crate::loopback::LoopbackServer;

/// One step of a scripted task.
#[derive(Debug, Clone)]
pub enum Step {
    /// Says that the task was taken on.
    Accept,
    /// Says anything else that an event can say; sequence and time are added.
    Event(task_event::Payload),
    /// Says exactly this, with whatever sequence it has, and goes on.
    Say(Box<AgentMessage>),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Is at work for so long.
    Work(Duration),
    /// Ends with a result.
    Finish(Box<StageResult>),
    /// Ends the stream without a result.
    Vanish,
    /// Ends the call with an error. As the first step: nothing ran.
    Fail(Box<Status>),
}

impl Step {
    /// Ends with a result that has this verdict and nothing else.
    pub fn finish(agent_type: AgentType, verdict: Verdict) -> Self {
        let outcome = Outcome {
            verdict: verdict.into(),
            summary: format!("scripted: {}", verdict.as_str_name()),
            ..Outcome::default()
        };
        Self::Finish(Box::new(result(agent_type, outcome)))
    }

    /// Fails the call with an error of the contract.
    pub fn fail(error: contracts::error::Error) -> Self {
        Self::Fail(Box::new(error.into()))
    }
}

/// A result of an agent type that has this outcome and nothing else.
pub fn result(agent_type: AgentType, outcome: Outcome) -> StageResult {
    use stage_result::Result;
    let outcome = Some(outcome);
    let result = match agent_type {
        AgentType::Unspecified => None,
        AgentType::Scaffold => Some(Result::Scaffold(contracts::scaffold::ScaffoldResult {
            outcome,
            ..Default::default()
        })),
        AgentType::Validation => Some(Result::Validation(
            contracts::validation::ValidationResult {
                outcome,
                ..Default::default()
            },
        )),
        AgentType::E2e => Some(Result::E2e(contracts::e2e::E2eResult {
            outcome,
            ..Default::default()
        })),
        AgentType::Integration => Some(Result::Integration(
            contracts::integration::IntegrationResult {
                outcome,
                ..Default::default()
            },
        )),
        AgentType::Deployment => Some(Result::Deployment(
            contracts::deployment::DeploymentResult {
                outcome,
                ..Default::default()
            },
        )),
    };
    StageResult { result }
}

/// One call that reached the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What every task is told.
    pub context: TaskContext,
    /// The task.
    pub task: StageTask,
    /// It began work, rather than going on with work that was there.
    pub began: bool,
}

/// The agent; dropping it ends it as a kill would.
#[derive(Debug)]
pub struct ScriptedAgent {
    agent_type: AgentType,
    instance_id: InstanceId,
    workbench: Workbench,
    health: HealthReporter,
    server: LoopbackServer,
}

impl ScriptedAgent {
    /// Serves tasks on a free port, each with the steps that the script gives for it.
    pub async fn start(
        agent_type: AgentType,
        script: impl Fn(&TaskContext, &StageTask) -> Vec<Step> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let instance_id = InstanceId::new();
        let workbench = Workbench::new(instance_id, Box::new(script));
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status(service_name(agent_type), ServingStatus::Serving)
            .await;
        let routes =
            Service::new(workbench.clone()).add_to(agent_type, Routes::new(health_service));
        let server = LoopbackServer::start(routes).await?;
        Ok(Self {
            agent_type,
            instance_id,
            workbench,
            health,
            server,
        })
    }

    /// An agent that passes everything at once.
    pub async fn passing(agent_type: AgentType) -> io::Result<Self> {
        Self::start(agent_type, move |_, _| {
            vec![Step::Accept, Step::finish(agent_type, Verdict::Passed)]
        })
        .await
    }

    /// What it is.
    pub fn agent_type(&self) -> AgentType {
        self.agent_type
    }

    /// Which instance it is.
    pub fn instance_id(&self) -> InstanceId {
        self.instance_id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where it listens, as orchestrators want it.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Makes its health say whether it serves.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.health
            .set_service_status(service_name(self.agent_type), status)
            .await;
    }

    /// Registers with an orchestrator, at its own address and with so many slots.
    pub async fn connect(&self, orchestrator: &str, slots: i32) -> anyhow::Result<Session> {
        self.connect_as(orchestrator, slots, &self.url()).await
    }

    /// Registers at another address, such as that of a [`crate::fault_proxy::FaultProxy`] in front of it.
    pub async fn connect_as(
        &self,
        orchestrator: &str,
        slots: i32,
        address: &str,
    ) -> anyhow::Result<Session> {
        Session::open(
            self.agent_type,
            &self.workbench,
            orchestrator,
            slots,
            address,
        )
        .await
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.workbench.calls().borrow().clone()
    }

    /// Waits until so many calls were made, and gives them.
    pub async fn called(&self, count: usize) -> Vec<Call> {
        let mut calls = self.workbench.calls();
        // The sender lives in the workbench, so this cannot fail while `self` is there.
        calls
            .wait_for(|calls| calls.len() >= count)
            .await
            .map_or_else(|_| Vec::new(), |calls| calls.clone())
    }

    /// Tasks that somebody asked to cancel.
    pub fn cancelled(&self) -> Vec<String> {
        self.workbench.cancelled().borrow().clone()
    }

    /// A view of the cancelled tasks that can be waited on.
    pub fn watch_cancelled(&self) -> watch::Receiver<Vec<String>> {
        self.workbench.cancelled()
    }

    /// What a task has said so far; empty when there is no such task.
    pub fn messages(&self, task_id: &str) -> Vec<AgentMessage> {
        self.workbench.messages(task_id)
    }
}
