//! `agentic up`: the whole mesh in one process, on a data folder of its own: embedded PostgreSQL,
//! the orchestrator, and the agents, over real loopback gRPC.

mod agents;
mod database;
mod detach;
mod orchestrator;
mod ready;
mod services;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::orchestrator::access::config::AccessArgs;
use ::orchestrator::config::FlowArgs;
use clap::Args;
use service_runtime::config::ListenArgs;
use service_runtime::shutdown;
use service_runtime::telemetry::Telemetry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::file::{Lock, MeshFile};
use crate::mesh::secret_file;
use crate::output::Output;
use crate::surroundings::Surroundings;
pub use database::DatabaseArgs;

use database::Database;
use ready::Ready;
use services::Services;

const AFTER_HELP: &str = "\
Examples:
  agentic up
  agentic up --detach
  agentic up --data ./mesh --fixed-ports
  agentic up --database-url postgres://agentic@127.0.0.1/agentic";

const TRY: &str = "try:  agentic run --type app --template python-http --name shop";

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct UpArgs {
    /// Run in the background: wait until the mesh is ready, say so, and leave it running.
    #[arg(long, short)]
    detach: bool,
    /// This process is the one in the background.
    #[arg(long, hide = true)]
    background: bool,
    /// Take the documented ports (50051, 50061 to 50065, 3000) instead of free ones.
    #[arg(long)]
    fixed_ports: bool,
    /// Tasks at once, per agent.
    #[arg(long, env = "AGENTIC_SLOTS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: u16,
    /// Most connections to PostgreSQL.
    #[arg(long, env = "AGENTIC_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=90))]
    database_connections: u16,
    /// Where artifacts are kept: file:FOLDER or s3://BUCKET/PREFIX. Left out: below the data folder.
    #[arg(long, env = "AGENTIC_ARTIFACTS", value_name = "URL")]
    artifacts: Option<String>,
    /// How long the mesh may take to be ready.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    ready_within: Duration,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    flow: FlowArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    agents: agents::AgentsArgs,
}

/// Runs the mesh until it is stopped.
pub async fn run(
    args: UpArgs,
    surroundings: &Surroundings,
    telemetry: &Telemetry,
) -> Result<Exit, Error> {
    let data = absolute(&surroundings.place.data)?;
    if args.detach && !args.background {
        return detach::detach(&data, args.ready_within, &surroundings.output).await;
    }
    if args.background {
        detach::leave_terminal()?;
    }
    let begun = Instant::now();
    Lock::take(&data)?.keep();
    MeshFile::remove(&data);
    secret_file::keep(&secret_file::admin_token(&data))?;
    secret_file::keep(&secret_file::agent_token(&data))?;
    let stop = shutdown::on_signal(&TaskTracker::new()).map_err(|source| Error::System {
        doing: "cannot watch for signals",
        source,
    })?;
    let mut database = Database::start(&args.database, &data).await?;
    let mut services = Services::default();
    let up = Up {
        args: &args,
        data: &data,
        telemetry,
        stop: &stop,
    };
    let ended = up
        .live(&mut database, &mut services, &surroundings.output, begun)
        .await;
    MeshFile::remove(&data);
    tracing::info!("the mesh stops");
    let stopped = services.stop().await;
    let database_stopped = database.stop().await;
    ended.and(stopped).and(database_stopped)?;
    Ok(Exit::Succeeded)
}

struct Up<'a> {
    args: &'a UpArgs,
    data: &'a Path,
    telemetry: &'a Telemetry,
    stop: &'a CancellationToken,
}

impl Up<'_> {
    // From a running database to the end of the mesh.
    async fn live(
        &self,
        database: &mut Database,
        services: &mut Services,
        output: &Output,
        begun: Instant,
    ) -> Result<(), Error> {
        let url = database.url().to_owned();
        let ready = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            error = database.ended() => return Err(error),
            ready = tokio::time::timeout(self.args.ready_within, self.start(&url, services)) => {
                ready.unwrap_or_else(|_| Err(Error::Failed(format!(
                    "the mesh was not ready within {}",
                    crate::words::duration(self.args.ready_within)
                ))))?
            }
        };
        ready.mesh_file().write(self.data)?;
        let told = ready.told(self.data, database.description(), begun.elapsed());
        if self.args.background || output.is_json() {
            // In the background the one line is for the parent, which shows it.
            output.line(told.to_string())?;
        } else {
            ready::show(&told, output)?;
            output.note(TRY);
            output.note("stop: agentic down, or Ctrl-C here");
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            error = database.ended() => Err(error),
            error = services.ended() => Err(error),
        }
    }

    async fn start(&self, database_url: &str, services: &mut Services) -> Result<Ready, Error> {
        let bound = orchestrator::start(self, database_url, services).await?;
        let address = format!("http://{}", bound.grpc);
        let agents = agents::start(self, &address, services).await?;
        let ready = Ready {
            address,
            http: bound.http.map(|http| format!("http://{http}")),
            agents,
            token_file: secret_file::admin_token(self.data),
        };
        tokio::select! {
            biased;
            error = services.ended() => Err(error),
            ready = ready.wait() => ready,
        }
    }

    fn listen(&self, port: u16) -> ListenArgs {
        ListenArgs {
            listen: Some(self.address(port)),
            http_listen: None,
            ..self.args.listen.clone()
        }
    }

    // Loopback, at the documented port or a free one.
    fn address(&self, port: u16) -> SocketAddr {
        let port = if self.args.fixed_ports { port } else { 0 };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

fn absolute(data: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(data).map_err(|source| Error::File {
        doing: "cannot use",
        path: data.to_owned(),
        source,
    })
}
