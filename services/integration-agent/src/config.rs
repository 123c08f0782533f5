//! Settings of the integration agent, read once and checked.

use std::{net::SocketAddr, path::PathBuf};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, health_check::Verb, telemetry::TelemetryArgs};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50064;

/// Takes changes into the main line, correctly.
#[derive(Debug, Clone, Parser)]
#[command(name = "integration-agent", version)]
pub struct Cli {
    /// What every agent has.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What this one has.
    #[command(flatten)]
    pub integration: IntegrationArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Settings of this agent only.
#[derive(Debug, Clone, Args)]
pub struct IntegrationArgs {
    /// Name of the committer of merges.
    #[arg(
        long,
        env = "AGENTIC_COMMITTER_NAME",
        value_name = "NAME",
        default_value = "Agentic"
    )]
    pub committer_name: String,
    /// Mail address of the committer of merges.
    #[arg(
        long,
        env = "AGENTIC_COMMITTER_EMAIL",
        value_name = "ADDRESS",
        default_value = "agentic@localhost"
    )]
    pub committer_email: String,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder for copies of repositories.
    pub cache: PathBuf,
    /// Who commits.
    pub committer_name: String,
    /// Who commits.
    pub committer_email: String,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every agent has.
    pub agent: AgentConfig,
    /// What this one has.
    pub integration: Settings,
}

impl Config {
    /// Checks the settings.
    pub fn new(agent: AgentArgs, integration: IntegrationArgs) -> Result<Self, ConfigError> {
        let default = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut agent = AgentConfig::new(agent, "integration", default)?;
        agent.data = std::path::absolute(&agent.data)
            .map_err(|error| ConfigError::invalid("--data", error.to_string()))?;
        let name = integration.committer_name;
        let email = integration.committer_email;
        // The same rule as when a commit is signed, but at start-up.
        git2::Signature::new(&name, &email, &git2::Time::new(0, 0)).map_err(|error| {
            ConfigError::invalid("--committer-name, --committer-email", error.message())
        })?;
        for (setting, value) in [("--committer-name", &name), ("--committer-email", &email)] {
            if value.contains(['<', '>', '\n']) {
                let problem = "must not contain <, > or line ends";
                return Err(ConfigError::invalid(setting, problem));
            }
        }
        Ok(Self {
            integration: Settings {
                cache: agent.data.join("cache"),
                committer_name: name,
                committer_email: email,
            },
            agent,
        })
    }
}
