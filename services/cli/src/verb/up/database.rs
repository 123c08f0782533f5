//! The database of the mesh: a private PostgreSQL below the data folder, or one of one's own.

use std::path::Path;

use service_runtime::embedded_postgres::{EmbeddedPostgres, Options};

use super::UpArgs;
use crate::error::Error;

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
    pub async fn start(args: &UpArgs, data: &Path) -> Result<Self, Error> {
        if let Some(url) = &args.database_url {
            return Ok(Self::Given(url.clone()));
        }
        let wheel = args
            .postgres_wheel
            .clone()
            .unwrap_or_else(|| data.join("pgserver"));
        let options = Options {
            binaries: args.postgres_binaries.clone(),
            wheels: vec![wheel],
            ..Options::durable(data.join("postgres"))
        };
        let embedded = Box::pin(EmbeddedPostgres::start(options))
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
