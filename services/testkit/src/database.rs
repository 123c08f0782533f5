//! A database per test, copied from a template that was migrated once, and dropped when the test lets go of it.

use std::{
    collections::HashMap,
    future::Future,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::Context;
use tokio::{runtime, sync::OnceCell, task::JoinSet};
use tokio_postgres::{Client, Config, NoTls};
use tracing::warn;

use crate::cluster::cluster;

/// Templates by name; a cell is set once its migrations ran.
type Templates = HashMap<&'static str, Arc<OnceCell<()>>>;

static TEMPLATES: Mutex<Option<Templates>> = Mutex::new(None);

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A database that nobody else uses.
#[derive(Debug)]
pub struct Database {
    name: String,
    connection_string: String,
}

impl Database {
    /// An empty database.
    pub async fn empty() -> anyhow::Result<Self> {
        Self::copy_of("template1").await
    }

    /// A database as the migrations leave it. They run once per template name and process, on the connection string they are
    /// given; every later database is a copy.
    pub async fn migrated<Migrate, Done>(
        template: &'static str,
        migrate: Migrate,
    ) -> anyhow::Result<Self>
    where
        Migrate: FnOnce(String) -> Done,
        Done: Future<Output = anyhow::Result<()>>,
    {
        let cell = TEMPLATES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default()
            .entry(template)
            .or_default()
            .clone();
        let name = format!("template_{template}");
        cell.get_or_try_init(|| async {
            // What a failed migration left behind.
            execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
            execute(&format!("CREATE DATABASE \"{name}\"")).await?;
            migrate(connection_string(&name).await?).await.context("migrations of the template")?;
            // A copy needs a template without connections, and the migration's own may still be closing.
            execute(&format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .await
        })
        .await?;
        Self::copy_of(&name).await
    }

    /// How to connect, as libpq and tokio-postgres read it.
    pub fn connection_string(&self) -> &str {
        &self.connection_string
    }

    /// A connection of its own.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.connection_string).await
    }

    /// Ends every connection to this database, as a restart of the server would.
    pub async fn disconnect_everybody(&self) -> anyhow::Result<()> {
        execute(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ))
        .await
    }

    async fn copy_of(template: &str) -> anyhow::Result<Self> {
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        execute(&format!(
            "CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""
        ))
        .await?;
        let connection_string = connection_string(&name).await?;
        Ok(Self {
            name,
            connection_string,
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        // The test's own runtime may be ending, and cannot be waited for from here.
        let dropped = thread::spawn(move || {
            runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(execute(&statement)))
        })
        .join();
        if let Ok(Err(error)) = dropped {
            warn!(
                database = self.name,
                ?error,
                "a test's database was not dropped"
            );
        }
    }
}

/// A client together with the task that moves its bytes.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    // Ends the task with the connection.
    _bytes: JoinSet<()>,
}

impl Connection {
    /// Connects.
    pub async fn open(connection_string: &str) -> anyhow::Result<Self> {
        let (client, connection) = connection_string.parse::<Config>()?.connect(NoTls).await?;
        let mut bytes = JoinSet::new();
        bytes.spawn(async move {
            // How a connection ends shows at the client, where the test looks.
            let _ = connection.await;
        });
        Ok(Self {
            client,
            _bytes: bytes,
        })
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

async fn connection_string(database: &str) -> anyhow::Result<String> {
    // The last of two settings of one name holds.
    Ok(format!(
        "{} dbname={database}",
        cluster().await?.connection_string()
    ))
}

async fn execute(statement: &str) -> anyhow::Result<()> {
    let connection = Connection::open(cluster().await?.connection_string()).await?;
    connection
        .batch_execute(statement)
        .await
        .with_context(|| statement.to_owned())
}
