//! Starts the orchestrator as a part of this process.

use orchestrator::access::Mode;
use orchestrator::config::{Config, EnrolmentArgs, OrchestratorArgs};
use orchestrator::serve::Bound;
use service_runtime::config::DataArgs;
use service_runtime::tls::TlsArgs;
use tokio::sync::oneshot;

use super::Up;
use super::services::Services;
use crate::error::Error;
use crate::mesh::secret_file;

// The documented ports (operations.md).
const PORT: u16 = 50051;
const HTTP_PORT: u16 = 3000;

/// Starts it and waits until it listens.
pub async fn start(
    up: &Up<'_>,
    database_url: &str,
    services: &mut Services,
) -> Result<Bound, Error> {
    let given = &up.args.listen;
    let mut listen = up.listen(PORT);
    listen.listen = Some(given.listen.unwrap_or_else(|| up.address(PORT)));
    listen.http_listen = Some(given.http_listen.unwrap_or_else(|| up.address(HTTP_PORT)));
    let mut access = up.args.access.clone();
    // Other programs of this machine may call as they are; who reaches it from elsewhere may not.
    let is_loopback = listen
        .listen
        .is_some_and(|address| address.ip().is_loopback());
    access.access = access.access.or(is_loopback.then_some(Mode::Open));
    let mut config = Config::new(OrchestratorArgs {
        listen,
        tls: TlsArgs::default(),
        enrolment: EnrolmentArgs::default(),
        data: DataArgs {
            data: up.data.to_owned(),
        },
        database_url: Some(database_url.to_owned()),
        database_password_file: None,
        database_connections: up.args.database_connections,
        // One orchestrator has nobody to give hints to.
        redis_url: None,
        redis_password_file: None,
        artifacts: up.args.artifacts.clone(),
        flow: up.args.flow.clone(),
        access,
        bootstrap_token_file: Some(secret_file::admin_token(up.data)),
        bootstrap_agent_token_file: Some(secret_file::agent_token(up.data)),
    })
    .map_err(|error| Error::Configuration(error.to_string()))?;
    config.agents_are_ours = true;
    config.registry = Some(up.telemetry.registry());

    let (sender, bound) = oneshot::channel();
    let stop = services.stop_orchestrator();
    services.orchestrator(orchestrator::serve::serve(config, stop, sender));
    tokio::select! {
        biased;
        Ok(bound) = bound => Ok(bound),
        error = services.ended() => Err(error),
    }
}
