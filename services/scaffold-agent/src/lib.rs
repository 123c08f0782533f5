//! The scaffold agent: from requirements to a commit on a branch of its own.

use std::{net::SocketAddr, sync::Arc};

use agent_runtime::serve::{self, AgentError};
use contracts::{MESSAGE_BYTES, scaffold::scaffold_service_server::ScaffoldServiceServer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub mod agent;
pub mod brief;
pub mod config;
pub mod generator;
pub mod ground;
pub mod judge;
pub mod kept;
pub mod model;
pub mod publication;
pub mod source;
pub mod template;
pub mod text;
mod wire;

pub use agent::{ScaffoldAgent, SetupError};
pub use config::{Config, ScaffoldArgs, Settings};

/// Why the agent does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not be set up.
    #[error("setting up")]
    Setup(#[from] SetupError),
    /// It could not be served.
    #[error("serving")]
    Serve(#[from] AgentError),
}

/// Serves until `shutdown`. `bound` is told the address.
pub async fn serve(
    config: Config,
    bound: Option<oneshot::Sender<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let agent = Arc::new(ScaffoldAgent::new(config.scaffold)?);
    let wrap =
        |service| ScaffoldServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    serve::serve(agent, config.agent, wrap, bound, shutdown).await?;
    Ok(())
}
