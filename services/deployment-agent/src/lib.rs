//! The deployment agent: brings revisions of an app to a target, watches them, and takes them back
//! to the last verified one.
//!
//! Apps live as long as the agent: when it is asked to stop, they are stopped after their requests;
//! when it starts again, whatever the reason, the revisions that were live come back on their ports.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_runtime::serve::{self, AgentError};
use contracts::{MESSAGE_BYTES, deployment::deployment_service_server::DeploymentServiceServer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub mod account;
pub mod agent;
pub mod checkout;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod image;
pub mod instance_log;
pub mod journal;
pub mod ledger;
pub mod name;
pub mod planning;
pub mod ports;
pub mod probe;
pub mod router;
pub mod site;
pub mod sites;
pub mod spec;
pub mod strategy;
pub mod supervisor;
pub mod target;
pub mod task;
pub mod verdict;
mod wire;

pub use agent::DeploymentAgent;
pub use config::{Config, DeploymentArgs, Settings};

/// Time beyond an app's own drain and stop times that a shutdown waits for it.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// Why the agent does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not be set up.
    #[error("setting up")]
    Setup(#[from] sites::Error),
    /// It could not be served.
    #[error("serving")]
    Serve(#[from] AgentError),
}

/// Serves until `shutdown`, then stops the apps. `bound` is told the address. What was live comes
/// back in the background.
pub async fn serve(
    config: Config,
    bound: Option<oneshot::Sender<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let agent = Arc::new(DeploymentAgent::open(config.deployment).await?);
    let wrap =
        |service| DeploymentServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    let served = serve::serve(Arc::clone(&agent), config.agent, wrap, bound, shutdown).await;
    agent.sites().shutdown(SHUTDOWN_GRACE).await;
    Ok(served?)
}
