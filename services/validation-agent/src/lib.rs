//! The validation agent: is this commit good? It runs the checks that the base commit names on the
//! head commit, measures, judges by gates with three verdicts, and writes reports.

use std::{net::SocketAddr, sync::Arc};

use agent_runtime::serve::{self, AgentError};
use contracts::{MESSAGE_BYTES, validation::validation_service_server::ValidationServiceServer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub mod agent;
pub mod assessment;
pub mod cache;
pub mod change;
pub mod config;
pub mod coverage;
pub mod dependencies;
pub mod findings;
pub mod gates;
pub mod instrument;
pub mod judge;
pub mod plan;
pub mod refs;
pub mod report_files;
pub mod reports;
pub mod run;
pub mod secrets;
pub mod subject;
pub mod toolchain;
pub mod validate;
pub mod verdict;
mod wire;

pub use agent::{SetupError, ValidationAgent};
pub use config::{Config, Settings, ValidationArgs};

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
    let agent = Arc::new(ValidationAgent::new(&config.validation)?);
    let wrap =
        |service| ValidationServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    serve::serve(agent, config.agent, wrap, bound, shutdown).await?;
    Ok(())
}
