//! Runs an agent as a process, or as a part of one: configuration, server, session, drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::server::HealthReporter;
use uuid::Uuid;

use contracts::client;
use contracts::orchestrator::Hello;
use service_runtime::config::{ConfigError, DataArgs, ListenArgs, read_secret};
use service_runtime::http_port;
use service_runtime::server::{self, ServeError, Server};

use crate::agent::Agent;
use crate::artifacts::ArtifactSink;
use crate::fitness;
use crate::process::leftovers;
use crate::service::AgentService;
use crate::session::{self, Standing};
use crate::tasks::{ORPHAN_GRACE, RESULT_KEPT, TaskSettings, Tasks};

// Settings that every agent has. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Where and how to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Where to keep things.
    #[command(flatten)]
    pub data: DataArgs,
    /// The orchestrator to register with, such as `http://127.0.0.1:50051`. Left out: the agent works alone.
    #[arg(long, env = "AGENTIC_ORCHESTRATOR_URL", value_name = "URL")]
    pub orchestrator_url: Option<String>,
    /// File with the bearer token to show the orchestrator.
    #[arg(long, env = "AGENTIC_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the orchestrator can call this agent. Left out: the address it listens on, or this host's name where it listens on all.
    #[arg(long, env = "AGENTIC_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,
    /// Tasks at once, 1 to 1024.
    #[arg(long, env = "AGENTIC_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: u16,
}

/// Checked settings that every agent has.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Address to listen on; port 0: a free one.
    pub address: SocketAddr,
    /// Address for HTTP.
    pub http_address: Option<SocketAddr>,
    /// URL that the orchestrator calls.
    pub advertise: Option<String>,
    /// The orchestrator.
    pub orchestrator_url: Option<String>,
    /// Bearer token for the orchestrator.
    pub token: Option<String>,
    /// Tasks at once.
    pub slot_count: usize,
    /// Folder of this agent.
    pub data: PathBuf,
    /// How long running work may go on after a stop was asked for.
    pub shutdown_grace: Duration,
    /// Serve reflection.
    pub reflection: bool,
    /// What `/metrics` shows.
    pub registry: Option<prometheus::Registry>,
}

impl AgentConfig {
    /// Checks the settings. `name` names the agent's folder below the data folder.
    pub fn new(args: AgentArgs, name: &str, default: SocketAddr) -> Result<Self, ConfigError> {
        for (setting, url) in [
            ("--orchestrator-url", &args.orchestrator_url),
            ("--advertise", &args.advertise),
        ] {
            if let Some(url) = url {
                client::channel(url, None)
                    .map_err(|error| ConfigError::invalid(setting, error.to_string()))?;
            }
        }
        let token = match args.token_file {
            None => None,
            Some(file) => {
                let token = read_secret("--token-file", &file)?;
                client::bearer(&token)
                    .map_err(|error| ConfigError::invalid("--token-file", error.to_string()))?;
                Some(token)
            }
        };
        Ok(Self {
            token,
            address: args.listen.address(default)?,
            http_address: args.listen.http_listen,
            advertise: args.advertise,
            orchestrator_url: args.orchestrator_url,
            slot_count: usize::from(args.slots),
            data: args.data.data.join(name),
            shutdown_grace: args.listen.shutdown_grace,
            reflection: args.listen.reflection,
            registry: None,
        })
    }
}

/// Why an agent could not serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The orchestrator's address.
    #[error("orchestrator address")]
    Orchestrator(#[from] client::ClientError),
    /// The data folder.
    #[error("data folder {folder}")]
    Data {
        /// Which one.
        folder: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Serves an agent until the token is cancelled. `bound` is told the address.
pub async fn serve<A, S>(
    agent: Arc<A>,
    config: AgentConfig,
    wrap: impl FnOnce(AgentService<A>) -> S,
    bound: Option<tokio::sync::oneshot::Sender<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<(), AgentError>
where
    A: Agent,
    S: tower::Service<http::Request<Body>, Error = std::convert::Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Response: axum::response::IntoResponse,
    S::Future: Send + 'static,
{
    let folder = tasks_folder(&config.data).await?;
    let listener = server::bind(config.address).await?;
    let address = listener.local_addr().map_err(|source| ServeError::Bind {
        address: config.address,
        source,
    })?;
    if let Some(bound) = bound {
        let _ = bound.send(address);
    }

    let tracker = TaskTracker::new();
    let instance_id = Uuid::now_v7().to_string();
    let channel = config
        .orchestrator_url
        .as_deref()
        .map(|url| client::channel(url, config.token.as_deref()))
        .transpose()?;
    let sink = match &channel {
        Some(channel) => ArtifactSink::Mesh {
            channel: Box::new(channel.clone()),
            tasks: tracker.clone(),
        },
        None => ArtifactSink::Folder(Arc::new(config.data.join("artifacts"))),
    };
    let settings = TaskSettings {
        slot_count: config.slot_count,
        folder: folder.clone(),
        orphan_grace: ORPHAN_GRACE,
        result_kept: RESULT_KEPT,
    };
    // Work outlives the first token by the grace; then it is stopped.
    let stop_work = CancellationToken::new();
    let tasks = Arc::new(Tasks::new(
        agent.clone(),
        instance_id.clone(),
        settings,
        sink,
        tracker.clone(),
        stop_work.clone(),
    ));

    let mut grpc = Server::new(config.reflection);
    grpc.add(wrap(AgentService::new(tasks.clone(), tracker.clone())))
        .await;
    let standing = Health::<S> {
        reporter: grpc.health(),
        service: std::marker::PhantomData,
    };
    let stop_session = CancellationToken::new();
    tracker.spawn(fitness::watch(folder, tasks.clone(), stop_session.clone()));
    match channel {
        None => standing.set(true).await,
        Some(channel) => {
            let hello = hello(&*agent, &config, instance_id, address).await;
            let stop = stop_session.clone();
            tracker.spawn(session::hold(channel, hello, tasks.clone(), standing, stop));
        }
    }
    if let Some(http_address) = config.http_address {
        let listener = server::bind(http_address).await?;
        serve_http(
            listener,
            config.registry.clone(),
            &tracker,
            stop_session.clone(),
        );
    }

    let stop_server = CancellationToken::new();
    let serving = grpc.serve(listener, stop_server.clone(), config.shutdown_grace);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        served = &mut serving => return Ok(served?),
        () = shutdown.cancelled() => {}
    }
    tasks.drain();
    let drained = async {
        if tokio::time::timeout(config.shutdown_grace, tasks.idle())
            .await
            .is_err()
        {
            tracing::warn!("running tasks are stopped: they did not end within the grace");
        }
        stop_work.cancel();
        tasks.idle().await;
        stop_session.cancel();
        stop_server.cancel();
    };
    let (served, ()) = tokio::join!(serving, drained);
    tracker.close();
    // Pumps whose readers are gone end by themselves.
    let _ = tokio::time::timeout(config.shutdown_grace, tracker.wait()).await;
    Ok(served?)
}

// The folder for attempts, empty, with nothing left of an agent that was killed.
async fn tasks_folder(data: &std::path::Path) -> Result<PathBuf, AgentError> {
    let folder = data.join("tasks");
    // Of attempts, and of git on the copies of repositories. What is deployed is elsewhere.
    let left = leftovers::end(&[&folder, &data.join("cache")]).await;
    if left > 0 {
        tracing::warn!(
            count = left,
            "ended what an agent that was killed left running"
        );
    }
    empty(&folder).await.map_err(|source| AgentError::Data {
        folder: folder.clone(),
        source,
    })?;
    Ok(folder)
}

async fn hello<A: Agent>(
    agent: &A,
    config: &AgentConfig,
    instance_id: String,
    address: SocketAddr,
) -> Hello {
    Hello {
        instance_id,
        agent_type: A::TYPE.into(),
        address: config.advertise.clone().unwrap_or_else(|| own_url(address)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_min: session::PROTOCOL,
        protocol_max: session::PROTOCOL,
        slot_count: i32::try_from(config.slot_count).unwrap_or(i32::MAX),
        capabilities: agent.capabilities().await,
        ..Hello::default()
    }
}

/// Where others reach a service that listens on `address`. Replicas of a container service share its
/// name: what tells them apart, and what survives a restart, is the host name of each.
fn own_url(address: SocketAddr) -> String {
    let port = address.port();
    match nix::unistd::gethostname() {
        Ok(name) if address.ip().is_unspecified() => {
            format!("http://{}:{port}", name.to_string_lossy())
        }
        Ok(_) | Err(_) => format!("http://{address}"),
    }
}

fn serve_http(
    listener: tokio::net::TcpListener,
    registry: Option<prometheus::Registry>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) {
    let ready: http_port::Readiness = Arc::new(|| Box::pin(async { Ok(()) }));
    let router = http_port::router(ready, registry, Vec::new());
    tracker.spawn(async move {
        if let Err(error) = http_port::serve(listener, router, stop).await {
            tracing::error!(%error, "the HTTP port broke");
        }
    });
}

struct Health<S> {
    reporter: HealthReporter,
    service: std::marker::PhantomData<fn() -> S>,
}

impl<S: NamedService> Standing for Health<S> {
    async fn set(&self, serving: bool) {
        if serving {
            self.reporter.set_serving::<S>().await;
        } else {
            self.reporter.set_not_serving::<S>().await;
        }
    }
}

// Folders of attempts that a killed process left behind.
async fn empty(folder: &std::path::Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::create_dir_all(folder).await
}

#[cfg(test)]
mod tests {
    use super::own_url;

    #[test]
    fn an_agent_that_listens_everywhere_is_reached_by_its_host_name() {
        let url = own_url("0.0.0.0:50062".parse().unwrap());
        let name = nix::unistd::gethostname().unwrap();
        assert_eq!(url, format!("http://{}:50062", name.to_string_lossy()));
        assert_eq!(own_url("[::]:50062".parse().unwrap()), url);
        assert_eq!(
            own_url("10.1.2.3:50062".parse().unwrap()),
            "http://10.1.2.3:50062"
        );
    }
}
