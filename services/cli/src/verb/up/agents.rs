//! Starts the agents as parts of this process.

use std::net::SocketAddr;

use agent_runtime::serve::AgentArgs;
use clap::Args;
use contracts::task::AgentType;
use service_runtime::config::{ConfigError, DataArgs};
use service_runtime::tls::TlsArgs;
use tokio::sync::oneshot;

use super::Up;
use super::services::Services;
use crate::error::Error;
use crate::mesh::secret_file;

/// Settings of single agents.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Agents")]
pub struct AgentsArgs {
    #[command(flatten)]
    scaffold: scaffold_agent::ScaffoldArgs,
    #[command(flatten)]
    validation: validation_agent::ValidationArgs,
    #[command(flatten)]
    e2e: e2e_agent::E2eArgs,
    #[command(flatten)]
    integration: integration_agent::IntegrationArgs,
    #[command(flatten)]
    deployment: deployment_agent::DeploymentArgs,
}

/// An agent that listens.
#[derive(Debug, Clone)]
pub struct Listening {
    /// What it is.
    pub agent_type: AgentType,
    /// Where.
    pub address: SocketAddr,
}

// Checks an agent's settings, starts it, and waits until it listens.
macro_rules! start {
    ($up:expr, $url:expr, $services:expr, $agent:ident, $type:ident, $args:expr) => {{
        let common = common($up, $url, $agent::config::PORT);
        let config = $agent::Config::new(common, $args).map_err(|error| wrong(&error))?;
        let (sender, bound) = oneshot::channel();
        let stop = $services.stop_agents();
        let name = contracts::agent::type_name(AgentType::$type);
        $services.agent(name, $agent::serve(config, Some(sender), stop));
        let address = tokio::select! {
            biased;
            Ok(address) = bound => address,
            error = $services.ended() => return Err(error),
        };
        Listening {
            agent_type: AgentType::$type,
            address,
        }
    }};
}

/// Starts all of them.
pub async fn start(
    up: &Up<'_>,
    url: &str,
    services: &mut Services,
) -> Result<Vec<Listening>, Error> {
    let given = up.args.agents.clone();
    Ok(vec![
        start!(up, url, services, scaffold_agent, Scaffold, given.scaffold),
        start!(
            up,
            url,
            services,
            validation_agent,
            Validation,
            given.validation
        ),
        start!(up, url, services, e2e_agent, E2e, given.e2e),
        start!(
            up,
            url,
            services,
            integration_agent,
            Integration,
            given.integration
        ),
        start!(
            up,
            url,
            services,
            deployment_agent,
            Deployment,
            given.deployment
        ),
    ])
}

fn common(up: &Up<'_>, url: &str, port: u16) -> AgentArgs {
    AgentArgs {
        listen: up.listen(port),
        tls: TlsArgs::default(),
        enrolment_token_file: None,
        data: DataArgs {
            data: up.data.to_owned(),
        },
        orchestrator_url: Some(url.to_owned()),
        token_file: Some(secret_file::agent_token(up.data)),
        advertise: None,
        slots: up.args.slots,
    }
}

fn wrong(error: &ConfigError) -> Error {
    Error::Configuration(error.to_string())
}
