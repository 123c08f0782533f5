//! Where instances run. A target starts one run of an instance and tells how it ended; restarts,
//! health and traffic are the same for all targets and are decided elsewhere.

pub mod docker;
pub mod process;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    instance_log::InstanceLog,
    probe::Observation,
    spec::{Spec, TargetKind},
};

/// Starts instances.
pub trait Target: Send + Sync + std::fmt::Debug {
    /// Starts one run of an instance. Dropping the future leaves nothing running.
    fn launch<'a>(&'a self, launch: &'a Launch)
    -> BoxFuture<'a, Result<Box<dyn Run>, LaunchError>>;

    /// Ends what an agent that died left running, and says how much that was. Must not be called
    /// while anything of this agent is to stay.
    fn end_leftovers<'a>(&'a self, marks: &'a [Mark]) -> BoxFuture<'a, usize>;
}

/// One run of an instance, from its start to its end. Dropping it ends it by force.
pub trait Run: Send + Sync + std::fmt::Debug {
    /// Where it is expected to listen.
    fn address(&self) -> SocketAddr;

    /// What it can be found by after a crash of the agent.
    fn mark(&self) -> Mark;

    /// Waits until it is over. May be called, and given up, repeatedly.
    fn ended(&self) -> BoxFuture<'_, End>;

    /// Asks it to stop, forces it after `grace`, and waits until it is gone.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, End>;

    /// What the platform's own health check says, where there is one.
    fn platform_health(&self) -> BoxFuture<'_, Option<Observation>>;
}

/// What is needed to start one run.
#[derive(Debug)]
pub struct Launch {
    /// Environment that the app is deployed to.
    pub environment: String,
    /// The app.
    pub app: String,
    /// Its revision.
    pub revision: u64,
    /// Which of the instances, from 1.
    pub number: u32,
    /// What to run.
    pub spec: Arc<Spec>,
    /// The checkout that it runs from.
    pub folder: PathBuf,
    /// Variables whose values must not be written down.
    pub secrets: Vec<(String, String)>,
    /// Where its output goes.
    pub log: Arc<InstanceLog>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Such as `exit code 1` or `memory limit of 64 MiB exceeded`.
    pub text: String,
    /// Its exit code, if it exited by itself.
    pub exit_code: Option<i32>,
}

/// What a run can be found by after a crash of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mark {
    /// A process group.
    Process {
        /// Its id, which is the leader's process id.
        group: i32,
        /// When the leader started, in ticks since boot: tells it from a later process of that id.
        start_ticks: u64,
    },
    /// A container.
    Container {
        /// Its id.
        id: String,
    },
}

/// Why a run could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No port is left for it.
    #[error("no free port is left for an instance")]
    NoPort(#[source] std::io::Error),
    /// The program cannot be run.
    #[error("cannot start it: {0}")]
    Process(#[from] agent_runtime::process::ProcessError),
    /// The container engine did not do it.
    #[error(transparent)]
    Engine(crate::engine::Error),
}

/// The targets that this agent has.
#[derive(Debug)]
pub struct Targets {
    process: Arc<dyn Target>,
    docker: Option<(Arc<Engine>, Arc<dyn Target>)>,
}

impl Targets {
    /// Processes only.
    pub fn new(process: Arc<dyn Target>) -> Self {
        Self {
            process,
            docker: None,
        }
    }

    /// And containers of an engine, which need not answer yet.
    #[must_use]
    pub fn with_docker(mut self, engine: Arc<Engine>, target: Arc<dyn Target>) -> Self {
        self.docker = Some((engine, target));
        self
    }

    /// The target of a kind, or why there is none.
    pub fn get(&self, kind: TargetKind) -> Result<Arc<dyn Target>, String> {
        match kind {
            TargetKind::Process => Ok(Arc::clone(&self.process)),
            TargetKind::Docker => match &self.docker {
                Some((_, target)) => Ok(Arc::clone(target)),
                None => Err(NO_ENGINE.to_owned()),
            },
        }
    }

    /// The container engine, or why there is none.
    pub fn engine(&self) -> Result<Arc<Engine>, String> {
        match &self.docker {
            Some((engine, _)) => Ok(Arc::clone(engine)),
            None => Err(NO_ENGINE.to_owned()),
        }
    }

    /// Ends what an agent that died left running.
    pub async fn end_leftovers(&self, marks: &[Mark]) -> usize {
        let mut ended = self.process.end_leftovers(marks).await;
        if let Some((_, docker)) = &self.docker {
            ended += docker.end_leftovers(marks).await;
        }
        ended
    }
}

const NO_ENGINE: &str = "no container engine is configured: set --docker (AGENTIC_DOCKER)";
