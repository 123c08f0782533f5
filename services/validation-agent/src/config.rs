//! Settings of the validation agent, read once and checked.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, health_check::Verb, telemetry::TelemetryArgs};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50062;

/// Builds, checks and tests a commit and judges it by the gates of its base.
#[derive(Debug, Clone, Parser)]
#[command(name = "validation-agent", version)]
pub struct Cli {
    /// What every agent has.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What this one has.
    #[command(flatten)]
    pub validation: ValidationArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Settings of this agent only.
#[derive(Debug, Clone, Args)]
pub struct ValidationArgs {
    /// Folder for remembered results. Left out: `results` in the agent's data folder.
    #[arg(long, env = "AGENTIC_VALIDATION_CACHE", value_name = "FOLDER")]
    pub validation_cache: Option<PathBuf>,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder for copies of repositories.
    pub repositories: PathBuf,
    /// Folder for remembered results.
    pub results: PathBuf,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every agent has.
    pub agent: AgentConfig,
    /// What this one has.
    pub validation: Settings,
}

impl Config {
    /// Checks the settings.
    pub fn new(agent: AgentArgs, validation: ValidationArgs) -> Result<Self, ConfigError> {
        let default = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut agent = AgentConfig::new(agent, "validation", default)?;
        // Checkouts lie in there, and tools want to know where they are.
        agent.data = absolute("--data", &agent.data)?;
        let results = validation
            .validation_cache
            .unwrap_or_else(|| agent.data.join("results"));
        Ok(Self {
            validation: Settings {
                repositories: agent.data.join("repositories"),
                results: absolute("--validation-cache", &results)?,
            },
            agent,
        })
    }
}

fn absolute(setting: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(folder)
        .map_err(|error| ConfigError::invalid(setting, format!("{}: {error}", folder.display())))
}
