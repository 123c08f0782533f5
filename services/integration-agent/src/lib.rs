//! The integration agent: takes a change into the main line, correctly, or says precisely why not.

use std::{net::SocketAddr, sync::Arc};

use agent_runtime::serve::{self, AgentError};
use contracts::{MESSAGE_BYTES, integration::integration_service_server::IntegrationServiceServer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub mod agent;
pub mod checks;
pub mod commit;
pub mod config;
pub mod conflict;
pub mod decision;
pub mod grpc;
pub mod hunks;
pub mod integrate;
pub mod ladder;
pub mod merge;
pub mod reapply;
pub mod resolution;
pub mod revert;
pub mod strategy;
pub mod trees;

pub use agent::IntegrationAgent;
pub use config::{Config, IntegrationArgs, Settings};

/// Serves until `shutdown`. `bound` is told the address.
pub async fn serve(
    config: Config,
    bound: Option<oneshot::Sender<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let agent = Arc::new(IntegrationAgent::new(&config.integration));
    let wrap =
        |service| IntegrationServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    serve::serve(agent, config.agent, wrap, bound, shutdown).await
}
