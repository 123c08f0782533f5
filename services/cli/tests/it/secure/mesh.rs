//! A real orchestrator and real agents that know each other by their certificates.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::Parser;
use contracts::client::ClientChannel;
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::enrolment_service_client::EnrolmentServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    Agent, AgentState, CreateEnrolmentTokenRequest, CreateWorkflowRequest, GetWorkflowRequest,
    ListAgentsRequest, Pipeline, StageDefinition, StageTask, WorkflowState, WorkflowType,
    stage_task,
};
use contracts::scaffold::ScaffoldTask;
use contracts::task::AgentType;
use service_runtime::tls::{Expected, Files, Tls};
use tempfile::TempDir;
use testkit::database::Database;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::certs::certs;

const PATIENCE: Duration = Duration::from_mins(1);

/// An orchestrator with the certificates of `agentic certs`, which issues others.
pub struct Mesh {
    _stop: DropGuard,
    pub home: TempDir,
    pub address: SocketAddr,
    _database: Database,
}

impl Mesh {
    pub async fn start(lifetime: &str) -> Result<Self> {
        service_runtime::tls::install_crypto();
        let home = tempfile::tempdir()?;
        let made = certs(home.path(), &[]).await?;
        assert_eq!(made.code, 0, "{}", made.err);
        let database = Database::empty().await?;
        let file = |name: &str| home.path().join("certs").join(name);
        let mut line = vec![
            "orchestrator".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--http-listen=127.0.0.1:0".to_owned(),
            "--http-tls".to_owned(),
            "--access=open".to_owned(),
            format!("--database-url={}", database.connection_string()),
            format!("--data={}", home.path().join("data").display()),
            format!("--enrolment-lifetime={lifetime}"),
            "--shutdown-grace=2s".to_owned(),
        ];
        for (flag, name) in [
            ("tls-cert", "orchestrator.crt"),
            ("tls-key", "orchestrator.key"),
            ("tls-ca", "ca.crt"),
            ("enrolment-ca-cert", "ca.crt"),
            ("enrolment-ca-key", "ca.key"),
        ] {
            line.push(format!("--{flag}={}", file(name).display()));
        }
        let arguments = orchestrator::config::Arguments::try_parse_from(line)?;
        let config = orchestrator::Config::new(arguments.orchestrator)?;
        let stop = CancellationToken::new();
        let (sender, bound) = oneshot::channel();
        let mut serving =
            TaskTracker::new().spawn(orchestrator::serve(config, stop.clone(), sender));
        let bound = tokio::select! {
            biased;
            Ok(bound) = bound => bound,
            ended = &mut serving => bail!("it did not start: {ended:?}"),
        };
        Ok(Self {
            home,
            address: bound.grpc,
            _database: database,
            _stop: stop.drop_guard(),
        })
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn file(&self, name: &str) -> String {
        self.home
            .path()
            .join("certs")
            .join(name)
            .display()
            .to_string()
    }

    /// A person's way to it.
    pub fn person(&self) -> Result<ClientChannel> {
        let tls = Tls::read(Files {
            own: None,
            authorities: Some(self.file("ca.crt").into()),
        })?;
        Ok(tls.channel(&self.url(), None, Expected::Host)?)
    }

    /// A real agent in a data folder of its own.
    pub fn scaffold(&self, data: &Path, more: &[&str]) -> Result<Running> {
        let ca = format!("--tls-ca={}", self.file("ca.crt"));
        let url = format!("--orchestrator-url={}", self.url());
        let data = format!("--data={}", data.display());
        let mut line = vec!["scaffold-agent", "--listen=127.0.0.1:0", &ca, &url, &data];
        line.extend(more);
        let cli = scaffold_agent::config::Cli::try_parse_from(line)?;
        let config = scaffold_agent::Config::new(cli.agent, cli.scaffold)?;
        let stop = CancellationToken::new();
        let serving = TaskTracker::new().spawn(scaffold_agent::serve(config, None, stop.clone()));
        Ok(Running { stop, serving })
    }

    pub async fn token(&self) -> Result<String> {
        let request = CreateEnrolmentTokenRequest {
            agent_type: AgentType::Scaffold.into(),
            name: "one".to_owned(),
            lifetime: None,
        };
        let mut client = EnrolmentServiceClient::new(self.person()?);
        Ok(client
            .create_enrolment_token(request)
            .await?
            .into_inner()
            .token)
    }

    pub async fn agents(&self) -> Result<Vec<Agent>> {
        let mut client = AgentRegistryServiceClient::new(self.person()?);
        let answer = client.list_agents(ListAgentsRequest::default()).await?;
        Ok(answer.into_inner().agents)
    }

    /// Waits until so many agents can be given work.
    pub async fn ready(&self, count: usize) -> Result<()> {
        let waiting = async {
            loop {
                let agents = self.agents().await?;
                let ready = agents
                    .iter()
                    .filter(|agent| agent.state() == AgentState::Ready);
                if ready.count() == count {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await?
    }

    /// One scaffold stage, to its end.
    pub async fn work(&self, name: &str) -> Result<WorkflowState> {
        let task = ScaffoldTask {
            template: "python-http".to_owned(),
            ..ScaffoldTask::default()
        };
        let stage = StageDefinition {
            name: "only".to_owned(),
            task: Some(StageTask {
                task: Some(stage_task::Task::Scaffold(task)),
            }),
            ..StageDefinition::default()
        };
        let request = CreateWorkflowRequest {
            r#type: WorkflowType::Custom.into(),
            name: name.to_owned(),
            requirements: "answers hello".to_owned(),
            pipeline: Some(Pipeline {
                name: "one-stage".to_owned(),
                stages: vec![stage],
                ..Pipeline::default()
            }),
            ..CreateWorkflowRequest::default()
        };
        let mut client = WorkflowServiceClient::new(self.person()?);
        let made = client.create_workflow(request).await?.into_inner();
        let workflow_id = made.workflow.unwrap_or_default().workflow_id;
        let waiting = async {
            loop {
                let request = GetWorkflowRequest {
                    workflow_id: workflow_id.clone(),
                };
                let workflow = client.get_workflow(request).await?.into_inner().workflow;
                let now = workflow.unwrap_or_default().state();
                if matches!(
                    now,
                    WorkflowState::Succeeded | WorkflowState::Failed | WorkflowState::Cancelled
                ) {
                    return anyhow::Ok(now);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await?
    }
}

/// An agent that was started.
pub struct Running {
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), scaffold_agent::ServeError>>,
}

impl Running {
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.serving.await??)
    }

    /// How it ends by itself.
    pub async fn ended(self) -> Result<String> {
        let ended = tokio::time::timeout(PATIENCE, self.serving).await??;
        let told = ended.map_err(anyhow::Error::from);
        Ok(told
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default())
    }
}

#[tokio::test]
async fn work_goes_through_agents_that_have_certificates() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let data = tempfile::tempdir()?;
    let certificate = format!("--tls-cert={}", mesh.file("scaffold-agent.crt"));
    let key = format!("--tls-key={}", mesh.file("scaffold-agent.key"));
    let agent = mesh.scaffold(data.path(), &[&certificate, &key])?;
    mesh.ready(1).await?;
    assert!(mesh.agents().await?[0].address.starts_with("https://"));
    assert_eq!(mesh.work("shop").await?, WorkflowState::Succeeded);
    agent.stop().await
}

#[tokio::test]
async fn an_agent_that_enrolled_goes_on_over_renewals_and_its_own_restart() -> Result<()> {
    let mesh = Mesh::start("15s").await?;
    let data = tempfile::tempdir()?;
    let token = data.path().join("token");
    std::fs::write(&token, mesh.token().await?)?;
    let flag = format!("--enrolment-token-file={}", token.display());
    let agent = mesh.scaffold(data.path(), &[&flag])?;
    mesh.ready(1).await?;
    let instance = mesh.agents().await?[0].instance_id.clone();
    assert_eq!(mesh.work("before").await?, WorkflowState::Succeeded);

    let file = data.path().join("scaffold/identity.pem");
    let files = Files {
        own: Some((file.clone(), file.clone())),
        authorities: Some(mesh.file("ca.crt").into()),
    };
    let first = std::fs::read_to_string(&file)?;
    let end = Tls::read(files.clone())?
        .not_after()
        .unwrap_or(SystemTime::UNIX_EPOCH);
    // Beyond the end of the first certificate, and with another key.
    let renewed = async {
        while SystemTime::now() < end + Duration::from_secs(1)
            || std::fs::read_to_string(&file)? == first
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, renewed).await??;
    assert!(Tls::read(files)?.not_after() > Some(end));
    assert_eq!(mesh.work("after").await?, WorkflowState::Succeeded);
    assert_eq!(mesh.agents().await?[0].instance_id, instance);
    agent.stop().await?;

    // Its token is used up; what it has is enough.
    let agent = mesh.scaffold(data.path(), &[&flag])?;
    let connected = async {
        loop {
            let agents = mesh.agents().await?;
            let is_new = |agent: &&Agent| {
                agent.instance_id != instance && agent.state() == AgentState::Ready
            };
            if agents.iter().any(|agent| is_new(&agent)) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await??;
    assert_eq!(mesh.work("restarted").await?, WorkflowState::Succeeded);
    agent.stop().await?;

    // Another agent gets nothing for it.
    let elsewhere = tempfile::tempdir()?;
    let said = mesh.scaffold(elsewhere.path(), &[&flag])?.ended().await?;
    assert!(said.contains("used already"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_agent_whose_certificate_was_revoked_by_the_command_is_out_of_the_mesh() -> Result<()> {
    let mesh = Mesh::start("1h").await?;
    let data = tempfile::tempdir()?;
    let token = data.path().join("token");
    std::fs::write(&token, mesh.token().await?)?;
    let flag = format!("--enrolment-token-file={}", token.display());
    let agent = mesh.scaffold(data.path(), &[&flag])?;
    mesh.ready(1).await?;

    let file = data
        .path()
        .join("scaffold/identity.pem")
        .display()
        .to_string();
    let ca = mesh.file("ca.crt");
    let revoke = ["--tls-ca", &ca, "certs", "revoke", &file];
    let ended = crate::command::run(&mesh.url(), &revoke).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let identity = "spiffe://agentic/agent/scaffold/one";
    assert!(ended.err.contains(identity), "{ended:?}");
    mesh.ready(0).await?;
    agent.stop().await?;

    let revoke = [
        "--tls-ca",
        &ca,
        "certs",
        "revoke",
        "--identity",
        identity,
        "--json",
    ];
    let again = crate::command::run(&mesh.url(), &revoke).await?;
    assert_eq!(again.code, 0, "{again:?}");
    let serials = again.json()?[0]["serials"].clone();
    assert_eq!(serials.as_array().map(Vec::len), Some(1), "{again:?}");
    Ok(())
}
