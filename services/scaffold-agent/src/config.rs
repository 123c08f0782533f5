//! Settings of the scaffold agent, read once and checked.

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, health_check::Verb, telemetry::TelemetryArgs};

use crate::{model::cassette::Cassette, template::Catalog};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50061;

/// Name of the generator that makes projects from templates.
pub const TEMPLATE: &str = "template";
/// Name of the generator that plays recorded model traffic.
pub const CASSETTE: &str = "cassette";

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
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
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
    /// Folder with recordings of model traffic, for the generator `cassette`. Left out: there is no such generator.
    #[arg(long, env = "AGENTIC_SCAFFOLD_CASSETTE", value_name = "FOLDER")]
    pub cassette: Option<PathBuf>,
    /// Folder for the repositories that tasks without one are given. Left out: `repositories` in the data folder.
    #[arg(long, env = "AGENTIC_REPOSITORIES", value_name = "FOLDER")]
    pub repositories: Option<PathBuf>,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// All templates.
    pub catalog: Arc<Catalog>,
    /// Template for tasks that name none; one of the catalogue.
    pub default_template: String,
    /// Generator for tasks that name none; one that there is.
    pub default_generator: String,
    /// Recordings for the generator `cassette`. `None`: there is no such generator.
    pub cassette: Option<Arc<Cassette>>,
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
        let scaffold = settings(scaffold, &data, agent.data.join("cache"))?;
        Ok(Self { agent, scaffold })
    }
}

fn settings(args: ScaffoldArgs, data: &Path, cache: PathBuf) -> Result<Settings, ConfigError> {
    let wrong = |setting: &str, error: &dyn Error| ConfigError::invalid(setting, sentence(error));
    let catalog =
        Catalog::load(args.templates.as_deref()).map_err(|error| wrong("--templates", &error))?;
    catalog
        .get(&args.template)
        .map_err(|error| wrong("--template", &error))?;
    let cassette = args
        .cassette
        .as_deref()
        .map(Cassette::load)
        .transpose()
        .map_err(|error| wrong("--cassette", &error))?;
    let known: &[&str] = match cassette {
        Some(_) => &[CASSETTE, TEMPLATE],
        None => &[TEMPLATE],
    };
    if !known.contains(&&*args.generator) {
        let hint = if args.generator == CASSETTE {
            "needs --cassette".to_owned()
        } else {
            format!("is not a generator; there are {}", known.join(", "))
        };
        return Err(ConfigError::invalid(
            "--generator",
            format!("{:?} {hint}", args.generator),
        ));
    }
    let repositories = args
        .repositories
        .unwrap_or_else(|| data.join("repositories"));
    Ok(Settings {
        catalog: Arc::new(catalog),
        default_template: args.template,
        default_generator: args.generator,
        cassette: cassette.map(Arc::new),
        repositories: absolute("--repositories", &repositories)?,
        cache,
    })
}

/// An error and its causes, in one sentence.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Results name repositories by absolute paths, so the folders must be absolute too.
fn absolute(setting: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(folder)
        .map_err(|error| ConfigError::invalid(setting, format!("{}: {error}", folder.display())))
}
