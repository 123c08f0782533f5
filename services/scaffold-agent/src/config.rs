//! Settings of the scaffold agent, read once and checked.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, telemetry::TelemetryArgs};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50061;

/// Turns requirements into a commit on a branch of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "scaffold-agent", version)]
pub struct Cli {
    /// What every agent has.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What this one has.
    #[command(flatten)]
    pub scaffold: ScaffoldArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Settings of this agent only.
#[derive(Debug, Clone, Args)]
pub struct ScaffoldArgs {
    /// Folder with templates of your own: `NAME/template.yaml` and `NAME/files/…`. Left out: the built-in ones only.
    #[arg(long, env = "AGENTIC_SCAFFOLD_TEMPLATES", value_name = "FOLDER")]
    pub templates: Option<PathBuf>,
    /// Template for tasks that name none.
    #[arg(
        long,
        env = "AGENTIC_SCAFFOLD_TEMPLATE",
        value_name = "NAME",
        default_value = "python-http"
    )]
    pub template: String,
    /// Generator for tasks that name none.
    #[arg(
        long,
        env = "AGENTIC_SCAFFOLD_GENERATOR",
        value_name = "NAME",
        default_value = "template"
    )]
    pub generator: String,
    /// Folder for the repositories that tasks without one are given. Left out: `repositories` in the data folder.
    #[arg(long, env = "AGENTIC_REPOSITORIES", value_name = "FOLDER")]
    pub repositories: Option<PathBuf>,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder with templates, beside the built-in ones.
    pub templates: Option<PathBuf>,
    /// Template for tasks that name none.
    pub default_template: String,
    /// Generator for tasks that name none.
    pub default_generator: String,
    /// Folder for repositories that are made. Other agents must reach it by the same path.
    pub repositories: PathBuf,
    /// Folder for copies of repositories.
    pub cache: PathBuf,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every agent has.
    pub agent: AgentConfig,
    /// What this one has.
    pub scaffold: Settings,
}

impl Config {
    /// Checks the settings.
    pub fn new(agent: AgentArgs, scaffold: ScaffoldArgs) -> Result<Self, ConfigError> {
        let data = absolute("--data", &agent.data.data)?;
        let default = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut agent = AgentConfig::new(agent, "scaffold", default)?;
        agent.data = data.join("scaffold");
        let repositories = scaffold
            .repositories
            .unwrap_or_else(|| data.join("repositories"));
        Ok(Self {
            scaffold: Settings {
                templates: scaffold.templates,
                default_template: scaffold.template,
                default_generator: scaffold.generator,
                repositories: absolute("--repositories", &repositories)?,
                cache: agent.data.join("cache"),
            },
            agent,
        })
    }
}

/// Results name repositories by absolute paths, so the folders must be absolute too.
fn absolute(setting: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(folder)
        .map_err(|error| ConfigError::invalid(setting, format!("{}: {error}", folder.display())))
}
