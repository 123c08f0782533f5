//! The end-to-end agent: does the running app do what was asked?

use std::{net::SocketAddr, sync::Arc};

use agent_runtime::serve::{self, AgentError};
use contracts::{MESSAGE_BYTES, e2e::e2e_service_server::E2eServiceServer};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub mod agent;
pub mod app;
pub mod bench;
pub mod config;
pub mod endpoints;
pub mod evidence;
pub mod examination;
mod http;
pub mod judgement;
pub mod order;
pub mod plan;
pub mod subject;
pub mod suites;
pub mod tally;
pub mod tampering;
mod wire;

pub use agent::E2eAgent;
pub use config::{Config, E2eArgs, Settings};

/// Serves until `shutdown`. `bound` is told the address.
pub async fn serve(
    config: Config,
    bound: Option<oneshot::Sender<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let agent = Arc::new(E2eAgent::new(&config.e2e));
    let wrap = |service| E2eServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    serve::serve(agent, config.agent, wrap, bound, shutdown).await
}
