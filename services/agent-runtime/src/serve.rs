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

use contracts::agent::type_name;
use contracts::client;
use contracts::orchestrator::Hello;
use service_runtime::admission::Callers;
use service_runtime::config::{ConfigError, DataArgs, ListenArgs, read_secret};
use service_runtime::http_port;
use service_runtime::server::{self, ServeError, Server};
use service_runtime::tls::{Expected, Identity, Tls, TlsArgs};

use crate::agent::Agent;
use crate::artifacts::ArtifactSink;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::fitness;
use crate::leases::{Leases, Signed};
use crate::process::leftovers;
use crate::service::AgentService;
use crate::session::{self, Dialled, Standing};
use crate::tasks::{ORPHAN_GRACE, RESULT_KEPT, TaskSettings, Tasks};

// Settings that every agent has. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Where and how to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Who it is.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// File with the token that gets this agent its first certificate, once. With --tls-ca, instead of --tls-cert and --tls-key.
    #[arg(long, env = "AGENTIC_ENROLMENT_TOKEN_FILE", value_name = "FILE")]
    pub enrolment_token_file: Option<PathBuf>,
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
    /// Who it is, and whom it trusts.
    pub tls: Tls,
    /// Serve HTTP with the certificate, too.
    pub http_tls: bool,
    /// How it comes to its certificate; `None`: it has one, or needs none.
    pub enrolment: Option<Enrolment>,
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
    /// Checks the settings. `name` is that of the agent's type, and of its folder below the data folder.
    pub fn new(args: AgentArgs, name: &str, default: SocketAddr) -> Result<Self, ConfigError> {
        let data = args.data.data.join(name);
        let enrolment = Enrolment::new(&args, &data)?;
        let tls = match &enrolment {
            None => args.tls.service()?,
            Some(enrolment) => enrolment.current(),
        };
        is_of_type(&tls, name)?;
        let secure = tls.can_serve() || enrolment.is_some();
        for (setting, url) in [
            ("--orchestrator-url", &args.orchestrator_url),
            ("--advertise", &args.advertise),
        ] {
            if let Some(url) = url {
                check_url(url, secure).map_err(|problem| ConfigError::invalid(setting, problem))?;
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
            address: args.listen.address(default, secure)?,
            http_address: args.listen.http_address(None, secure)?,
            http_tls: args.listen.http_tls,
            tls,
            enrolment,
            advertise: args.advertise,
            orchestrator_url: args.orchestrator_url,
            slot_count: usize::from(args.slots),
            data,
            shutdown_grace: args.listen.shutdown_grace,
            reflection: args.listen.reflection,
            registry: None,
        })
    }
}

fn is_of_type(tls: &Tls, name: &str) -> Result<(), ConfigError> {
    if !tls.can_serve() {
        return Ok(());
    }
    let found = match tls.identity() {
        Some(Identity::Agent { agent_type, .. }) if type_name(agent_type) == name => return Ok(()),
        Some(other) => format!("is that of {other}"),
        None => "names no service of the mesh".to_owned(),
    };
    Err(ConfigError::invalid(
        "--tls-cert",
        format!(
            "the certificate {found}; this agent needs one that names spiffe://agentic/agent/{name}"
        ),
    ))
}

fn check_url(url: &str, secure: bool) -> Result<(), String> {
    client::endpoint(url).map_err(|error| error.to_string())?;
    match (url.starts_with("https://"), secure) {
        (true, false) => Err(format!(
            "{url} needs a certificate of this agent: --tls-cert, --tls-key and --tls-ca"
        )),
        (false, true) => Err(format!(
            "{url} is in clear text, and this agent has a certificate: https:// is needed"
        )),
        _ => Ok(()),
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
    /// No certificate.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
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
    mut config: AgentConfig,
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
    let stop_session = CancellationToken::new();
    if !has_certificate::<A>(&mut config, &tracker, &shutdown, &stop_session).await? {
        return Ok(());
    }
    let instance_id = Uuid::now_v7().to_string();
    let channel = config
        .orchestrator_url
        .as_deref()
        .map(|url| {
            let token = config.token.as_deref();
            config.tls.channel(url, token, Expected::Orchestrator)
        })
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

    let mut grpc =
        Server::new(config.reflection).secured(config.tls.clone(), Callers::Orchestrator);
    let leases = Leases::new(config.orchestrator_url.is_some() && config.tls.can_serve());
    let service = AgentService::new(tasks.clone(), tracker.clone(), leases.clone());
    grpc.add(Signed::new(wrap(service))).await;
    let standing = Health::<S> {
        reporter: grpc.health(),
        service: std::marker::PhantomData,
    };
    tracker.spawn(config.tls.clone().watch(stop_session.clone()));
    tracker.spawn(fitness::watch(folder, tasks.clone(), stop_session.clone()));
    match channel {
        None => standing.set(true).await,
        Some(channel) => {
            let hello = hello(&*agent, &config, instance_id, address).await;
            let stop = stop_session.clone();
            let dialled = Dialled {
                channel,
                hello,
                leases,
            };
            tracker.spawn(session::hold(dialled, tasks.clone(), standing, stop));
        }
    }
    if let Some(http_address) = config.http_address {
        let listener = server::bind(http_address).await?;
        serve_http(listener, &config, &tracker, stop_session.clone());
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

// False: the process was to stop before it had one that it needs.
async fn has_certificate<A: Agent>(
    config: &mut AgentConfig,
    tracker: &TaskTracker,
    shutdown: &CancellationToken,
    stop: &CancellationToken,
) -> Result<bool, AgentError> {
    let Some(enrolment) = config.enrolment.clone() else {
        return Ok(true);
    };
    let Some(tls) = enrolment.enrol(shutdown).await? else {
        return Ok(false);
    };
    is_of_type(&tls, type_name(A::TYPE)).map_err(EnrolmentError::Type)?;
    tracker.spawn(enrolment.renew(tls.clone(), stop.clone()));
    config.tls = tls;
    Ok(true)
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
        address: config
            .advertise
            .clone()
            .unwrap_or_else(|| own_url(address, config.tls.can_serve())),
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
fn own_url(address: SocketAddr, secure: bool) -> String {
    let port = address.port();
    let scheme = if secure { "https" } else { "http" };
    match nix::unistd::gethostname() {
        Ok(name) if address.ip().is_unspecified() => {
            format!("{scheme}://{}:{port}", name.to_string_lossy())
        }
        Ok(_) | Err(_) => format!("{scheme}://{address}"),
    }
}

fn serve_http(
    listener: tokio::net::TcpListener,
    config: &AgentConfig,
    tracker: &TaskTracker,
    stop: CancellationToken,
) {
    let tls = config.tls.clone();
    let ready: http_port::Readiness = Arc::new(move || {
        let checked = tls.check();
        Box::pin(async { checked })
    });
    let router = http_port::router(ready, config.registry.clone(), Vec::new());
    let tls = if config.http_tls {
        config.tls.clone()
    } else {
        Tls::default()
    };
    tracker.spawn(async move {
        if let Err(error) = http_port::serve(listener, tls, router, stop).await {
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
        let url = own_url("0.0.0.0:50062".parse().unwrap(), false);
        let name = nix::unistd::gethostname().unwrap();
        assert_eq!(url, format!("http://{}:50062", name.to_string_lossy()));
        assert_eq!(own_url("[::]:50062".parse().unwrap(), false), url);
        assert_eq!(
            own_url("10.1.2.3:50062".parse().unwrap(), true),
            "https://10.1.2.3:50062"
        );
    }
}
