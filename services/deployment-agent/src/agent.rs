//! The agent: carries out one task on the app that it names. Leaves what a deployment is to the
//! sites, and streams, leases and cancellation to the runtime.

mod deploying;
mod imaging;
mod subject;

use std::{sync::Arc, time::Duration};

use agent_runtime::{Agent, Assignment, repository::RepositoryCache};
use contracts::{
    deployment::{DeploymentResult, DeploymentTask},
    error::Error,
    error_reason::ErrorReason,
    orchestrator::Capability,
    task::AgentType,
};
use tokio::time::Instant;

use crate::{
    config::Settings,
    ports::InstancePorts,
    site::{self, Bounds},
    sites::{self, Claim, Sites},
    target::{Targets, docker::DockerTarget, process::ProcessTarget},
    task::{Action, Task},
    wire,
};

/// Most time that is kept back from a task's deadline for taking a deployment back.
const ROLLBACK_RESERVE: Duration = Duration::from_secs(30);

/// The deployment agent.
#[derive(Debug)]
pub struct DeploymentAgent {
    sites: Sites,
    cache: RepositoryCache,
}

impl DeploymentAgent {
    /// Claims the data folder, ends what an earlier agent left running, and begins to bring back
    /// what was live.
    pub async fn open(settings: Settings) -> Result<Self, sites::Error> {
        let claim = Claim::take(&settings.sites.data)?;
        let ports = InstancePorts::new(settings.instance_ports);
        let process = ProcessTarget::new(ports, claim.owner());
        let mut targets = Targets::new(Arc::new(process));
        if let Some(engine) = settings.engine {
            let engine = Arc::new(engine);
            let docker = DockerTarget::new(Arc::clone(&engine), claim.owner());
            targets = targets.with_docker(engine, Arc::new(docker));
        }
        Ok(Self {
            sites: Sites::open(settings.sites, targets, claim).await?,
            cache: RepositoryCache::new(settings.cache),
        })
    }

    /// What this agent runs.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    async fn work(
        &self,
        assignment: &Assignment<DeploymentTask>,
    ) -> Result<DeploymentResult, Error> {
        let Assignment { context, .. } = assignment;
        let task = Task::parse(context, &assignment.task)?;
        let repository = context.repository.clone();
        match &task.action {
            Action::Deploy(wish) => self.deploy(assignment, &task, wish).await,
            Action::Rollback(reason) => self.roll_back(assignment, &task, reason).await,
            Action::Verify(wanted) => self.verify(assignment, &task, *wanted).await,
            Action::Diff => self.diff(assignment, &task).await,
            Action::CheckHealth(path) => {
                let site = self.site(&task).await?;
                let account = site
                    .check_health(path.as_deref())
                    .await
                    .map_err(site_error)?;
                Ok(wire::health(&account, repository))
            }
            Action::Status => {
                let site = self.site(&task).await?;
                let ledger = site
                    .ledger()
                    .await
                    .map_err(|error| site_error(error.into()))?;
                let live = ledger.live().is_some();
                let endpoint = ledger.port.filter(|_| live).map(|port| site.endpoint(port));
                Ok(wire::status(&ledger, endpoint, repository))
            }
            Action::Build(build) => self.build(assignment, &task, build).await,
            Action::Push(push) => self.push(assignment, push).await,
        }
    }

    async fn site(&self, task: &Task) -> Result<Arc<site::Site>, Error> {
        let site = self.sites.site(&task.environment, &task.app).await;
        site.map_err(|error| site_error(error.into()))
    }
}

impl Agent for DeploymentAgent {
    type Task = DeploymentTask;
    type Result = DeploymentResult;
    const TYPE: AgentType = AgentType::Deployment;

    async fn capabilities(&self) -> Vec<Capability> {
        let capability = |kind: &str, name: &str, version: &str| Capability {
            kind: kind.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let mut found = vec![capability("target", "process", "")];
        if let Ok(engine) = self.sites.targets().engine()
            && let Ok(version) = engine.version().await
        {
            found.push(capability("target", "docker", &version));
        }
        let strategies = ["rolling", "blue_green", "canary", "recreate"];
        found.extend(strategies.map(|name| capability("strategy", name, "")));
        found
    }

    async fn run(&self, assignment: Assignment<DeploymentTask>) -> Result<DeploymentResult, Error> {
        Box::pin(self.work(&assignment)).await
    }
}

/// A deployment needs time to be taken back in, so it gives up before the task does.
fn bounds<T>(assignment: &Assignment<T>) -> Bounds {
    let remaining = assignment.remaining();
    let reserve = (remaining / 5).min(ROLLBACK_RESERVE);
    Bounds {
        cancel: assignment.cancel.clone(),
        deadline: Instant::now() + remaining.saturating_sub(reserve),
    }
}

fn site_error(error: site::Error) -> Error {
    let message = error.to_string();
    match error {
        site::Error::Ledger(error) => {
            tracing::error!(%error, cause = ?std::error::Error::source(&error), "the ledger cannot be used");
            Error::new(ErrorReason::Infrastructure, message)
        }
        site::Error::CancelledWhileWaiting | site::Error::DeadlineWhileWaiting => {
            Error::new(ErrorReason::ConcurrentChange, message)
        }
        site::Error::Broken(error) => {
            tracing::error!(%error, "a deployment broke off");
            Error::internal()
        }
        site::Error::ShuttingDown => Error::new(ErrorReason::Draining, message),
    }
}
