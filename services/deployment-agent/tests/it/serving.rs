//! The agent over gRPC: in this process, or as a process of its own that can be killed.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Parser as _;
use contracts::{
    client::ClientChannel,
    deployment::{
        Deploy, DeploymentResult, DeploymentTask, ExecuteRequest,
        deployment_service_client::DeploymentServiceClient, deployment_task::Action,
        execute_response::Payload,
    },
    task::{Repository as WireRepository, TaskContext, TaskEvent},
};
use deployment_agent::{Config, ServeError, config::Cli};
use testkit::repository::{Commit, Repository};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{apps::APP, ports};

/// The agent, serving.
pub struct Serving {
    pub address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
}

fn arguments(data: &Path) -> Vec<String> {
    let data = data.display().to_string();
    let ports = ports::claim();
    let ports = format!("{}-{}", ports.start(), ports.end());
    ["--data", &data, "--router-ports", &ports, "--slots", "8"]
        .map(str::to_owned)
        .to_vec()
}

impl Serving {
    /// Starts on a data folder.
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// Starts on a data folder, with further settings.
    pub async fn start_with(data: &Path, more: &[&str]) -> Self {
        let program = ["deployment-agent", "--listen", "127.0.0.1:0"].map(str::to_owned);
        let more = more.iter().map(ToString::to_string);
        let arguments = program.into_iter().chain(arguments(data)).chain(more);
        let cli = Cli::try_parse_from(arguments).unwrap();
        let config = Config::new(cli.agent, cli.deployment).unwrap();
        let stop = CancellationToken::new();
        let (bound, address) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(Box::pin(deployment_agent::serve(
            config,
            Some(bound),
            stop.clone(),
        )));
        Self {
            address: address.await.unwrap(),
            stop,
            tasks,
        }
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// The agent as a process. Dropping it kills it.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts the program and waits until it serves.
    pub async fn start(data: &Path) -> Self {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let child = Command::new(env!("CARGO_BIN_EXE_deployment-agent"))
            .args(["--listen", &port.to_string()])
            .args(arguments(data))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self {
            child,
            address: port,
        };
        while tokio::net::TcpStream::connect(port).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }

    /// As a power cut or the kernel's memory killer would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, as a service manager would, and says whether it ended well.
    pub fn terminate(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the agent.
pub fn client(address: SocketAddr) -> DeploymentServiceClient<ClientChannel> {
    let channel = contracts::client::channel(&format!("http://{address}"), None).unwrap();
    DeploymentServiceClient::new(channel)
}

/// Runs a task to its end.
pub async fn execute(
    address: SocketAddr,
    context: TaskContext,
    action: Action,
) -> Result<(Vec<TaskEvent>, DeploymentResult), Status> {
    let task = DeploymentTask {
        action: Some(action),
        ..DeploymentTask::default()
    };
    let request = ExecuteRequest {
        context: Some(context),
        task: Some(task),
    };
    let mut stream = client(address).execute(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await? {
        match response.payload.unwrap() {
            Payload::Event(event) => events.push(event),
            Payload::Result(result) => return Ok((events, result)),
        }
    }
    Err(Status::unavailable("the stream ended without a result"))
}

/// What a deployment of a commit is told.
pub fn context(task_id: &str, repository: &Repository, head: &str) -> TaskContext {
    TaskContext {
        task_id: task_id.to_owned(),
        attempt: 1,
        workflow_name: "Shop".to_owned(),
        environment: "production".to_owned(),
        repository: Some(WireRepository {
            url: repository.url(),
            head_commit: head.to_owned(),
            ..WireRepository::default()
        }),
        ..TaskContext::default()
    }
}

/// Deploys with what the project declares.
pub fn deploy() -> Action {
    Action::Deploy(Deploy::default())
}

/// Describes the app of these tests.
pub fn project(version: &str, vice: &str, environment: &str) -> String {
    format!(
        "version: 1
app:
  start: {{command: [python3, -u, app.py], port_variable: PORT, environment: {{VERSION: \"{version}\", VICE: \"{vice}\"}}}}
  ready: {{http: {{path: /health, status: 200}}, within: 20s}}
  stop_within: 5s
  endpoints: [{{method: GET, path: /health, status: 200, contains: healthy}}]
environments:
  production: {environment}
"
    )
}

/// Quick probes and a short watch.
pub const QUICK: &str =
    "{target: process, strategy: blue_green, bake: 500ms, drain: 2s, probe: {interval: 100ms}}";

/// A repository of the app.
pub fn repository(version: &str, vice: &str) -> Repository {
    let project = project(version, vice, QUICK);
    Repository::with_files([("app.py", APP), (".agentic/project.yaml", &project)]).unwrap()
}

/// Commits another version of the app.
pub fn commit(repository: &mut Repository, version: &str, vice: &str) -> String {
    let project = project(version, vice, QUICK);
    let commit = Commit::on("main")
        .message("Next")
        .write(".agentic/project.yaml", &project);
    repository.commit(commit).unwrap()
}
