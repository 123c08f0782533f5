//! Starts the agents as parts of this process.

use std::net::SocketAddr;

use agent_runtime::serve::AgentArgs;
use clap::Args;
use contracts::task::AgentType;
use service_runtime::config::{ConfigError, DataArgs};
use tokio::sync::oneshot;

use super::Up;
use super::services::Services;
use crate::error::Error;

/// Settings of single agents.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Agents")]
pub struct AgentsArgs {
    #[command(flatten)]
    scaffold: scaffold_agent::ScaffoldArgs,
    #[command(flatten)]
    integration: integration_agent::IntegrationArgs,
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
    ($up:expr, $url:expr, $services:expr, $agent:ident, $type:expr, $port:expr $(, $args:expr)*) => {{
        let config = $agent::Config::new(common($up, $url, $port) $(, $args)*).map_err(|error| wrong(&error))?;
        let (sender, bound) = oneshot::channel();
        let stop = $services.stop_agents();
        let name = contracts::agent::type_name($type);
        $services.agent(name, $agent::serve(config, Some(sender), stop));
        let address = tokio::select! {
            biased;
            Ok(address) = bound => address,
            error = $services.ended() => return Err(error),
        };
        Listening {
            agent_type: $type,
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
    let scaffold = start!(
        up,
        url,
        services,
        scaffold_agent,
        AgentType::Scaffold,
        50061,
        given.scaffold
    );
    let integration = start!(
        up,
        url,
        services,
        integration_agent,
        AgentType::Integration,
        50064,
        given.integration
    );
    Ok(vec![scaffold, integration])
}

fn common(up: &Up<'_>, url: &str, port: u16) -> AgentArgs {
    AgentArgs {
        listen: up.listen(port),
        data: DataArgs {
            data: up.data.to_owned(),
        },
        orchestrator_url: Some(url.to_owned()),
        advertise: None,
        slots: up.args.slots,
    }
}

fn wrong(error: &ConfigError) -> Error {
    Error::Configuration(error.to_string())
}
