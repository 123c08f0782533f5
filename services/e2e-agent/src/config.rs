//! Settings of the end-to-end agent, read once and checked.

use std::{net::SocketAddr, path::PathBuf};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, health_check::Verb, telemetry::TelemetryArgs};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50063;

/// Starts the app and tests it from outside.
#[derive(Debug, Clone, Parser)]
#[command(name = "e2e-agent", version)]
pub struct Cli {
    /// What every agent has.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What this one has.
    #[command(flatten)]
    pub e2e: E2eArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Settings of this agent only.
#[derive(Debug, Clone, Default, Args)]
pub struct E2eArgs {
    /// Folder of secrets for apps under test: `ENVIRONMENT/NAME`, one value a file. Left out: none.
    // An id of its own, for commands that have the settings of several agents.
    #[arg(
        id = "e2e_secrets",
        long = "e2e-secrets",
        env = "AGENTIC_E2E_SECRETS",
        value_name = "FOLDER"
    )]
    pub secrets: Option<PathBuf>,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder for copies of repositories.
    pub cache: PathBuf,
    /// Folder of secrets.
    pub secrets: Option<PathBuf>,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every agent has.
    pub agent: AgentConfig,
    /// What this one has.
    pub e2e: Settings,
}

impl Config {
    /// Checks the settings.
    pub fn new(agent: AgentArgs, e2e: E2eArgs) -> Result<Self, ConfigError> {
        let default = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut agent = AgentConfig::new(agent, "e2e", default)?;
        // Child processes run in other folders.
        agent.data = std::path::absolute(&agent.data).map_err(|error| {
            ConfigError::invalid("--data", format!("{}: {error}", agent.data.display()))
        })?;
        if let Some(folder) = &e2e.secrets
            && !folder.is_dir()
        {
            let problem = format!("{} is not a folder", folder.display());
            return Err(ConfigError::invalid("--e2e-secrets", problem));
        }
        Ok(Self {
            e2e: Settings {
                cache: agent.data.join("cache"),
                secrets: e2e.secrets,
            },
            agent,
        })
    }
}
