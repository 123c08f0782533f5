//! What runs in an agent's process: the agent runtime, serving agents whose work is [`Work`].

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::{env, process, thread};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use agent_runtime::serve::{AgentConfig, AgentError, serve};
use agent_runtime::{Agent, Assignment};
use contracts::deployment::deployment_service_server::DeploymentServiceServer;
use contracts::e2e::e2e_service_server::E2eServiceServer;
use contracts::error::Error;
use contracts::integration::integration_service_server::IntegrationServiceServer;
use contracts::orchestrator::Capability;
use contracts::scaffold::scaffold_service_server::ScaffoldServiceServer;
use contracts::task::AgentType;
use contracts::validation::validation_service_server::ValidationServiceServer;
use contracts::{deployment, e2e, integration, scaffold, validation};
use service_runtime::shutdown;
use service_runtime::telemetry::{self, LogFormat, TelemetryArgs};

use super::work::Work;
use super::{ORDERS, Orders, SERVES};

macro_rules! agent {
    ($name:ident, $module:ident :: $task:ident, $result:ident) => {
        struct $name(Work);

        impl Agent for $name {
            type Task = $module::$task;
            type Result = $module::$result;
            const TYPE: AgentType = AgentType::$name;

            async fn capabilities(&self) -> Vec<Capability> {
                Vec::new()
            }

            async fn run(&self, assignment: Assignment<Self::Task>) -> Result<Self::Result, Error> {
                let outcome = self.0.run(&assignment).await?;
                Ok(Self::Result {
                    outcome: Some(outcome),
                    ..Self::Result::default()
                })
            }
        }
    };
}

agent!(Scaffold, scaffold::ScaffoldTask, ScaffoldResult);
agent!(Validation, validation::ValidationTask, ValidationResult);
agent!(E2e, e2e::E2eTask, E2eResult);
agent!(Integration, integration::IntegrationTask, IntegrationResult);
agent!(Deployment, deployment::DeploymentTask, DeploymentResult);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by other tests as a process of its own"]
async fn process() {
    let orders = env::var_os(ORDERS).expect("other tests give orders");
    let orders: Orders = serde_json::from_str(orders.to_str().unwrap()).unwrap();
    // It ends when the test does, however that ends.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(1);
    });
    let settings = TelemetryArgs {
        log: "info".to_owned(),
        log_format: LogFormat::Json,
        otlp_endpoint: None,
        otlp_ca: None,
    };
    let _telemetry = telemetry::start("worker", &settings).unwrap();
    let stop = shutdown::on_signal(&TaskTracker::new()).unwrap();
    let mut serving = JoinSet::new();
    for agent_type in &orders.agent_types {
        let agent_type = AgentType::try_from(*agent_type).unwrap();
        let (bound, address) = oneshot::channel();
        serving.spawn(serve_one(agent_type, orders.clone(), bound, stop.clone()));
        println!("\n{SERVES}{}", address.await.unwrap());
    }
    while let Some(ended) = serving.join_next().await {
        ended.unwrap().unwrap();
    }
}

async fn serve_one(
    agent_type: AgentType,
    orders: Orders,
    bound: oneshot::Sender<SocketAddr>,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let config = AgentConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        http_address: None,
        tls: service_runtime::tls::Tls::default(),
        http_tls: false,
        enrolment: None,
        advertise: orders.advertise.clone(),
        orchestrator_url: Some(orders.orchestrator.clone()),
        token: None,
        slot_count: orders.slots,
        data: orders.data.join(contracts::agent::type_name(agent_type)),
        shutdown_grace: orders.grace,
        reflection: false,
        registry: None,
    };
    let (work, bound) = (Work::new(&orders), Some(bound));
    macro_rules! serve {
        ($agent:ident, $server:ident) => {
            serve(Arc::new($agent(work)), config, $server::new, bound, stop).await
        };
    }
    match agent_type {
        AgentType::Unspecified => panic!("an agent has a type"),
        AgentType::Scaffold => serve!(Scaffold, ScaffoldServiceServer),
        AgentType::Validation => serve!(Validation, ValidationServiceServer),
        AgentType::E2e => serve!(E2e, E2eServiceServer),
        AgentType::Integration => serve!(Integration, IntegrationServiceServer),
        AgentType::Deployment => serve!(Deployment, DeploymentServiceServer),
    }
}
