//! All SQL of the orchestrator: one function per question. Knows rows, and nothing of what they mean.

use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use service_runtime::redaction;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls};

pub mod agents;
pub mod artifacts;
pub mod audit;
pub mod certificates;
pub mod clarifications;
mod columns;
pub mod commit;
pub mod connection;
pub mod decisions;
pub mod enrolment;
pub mod eras;
pub mod events;
pub mod hints;
pub mod log_lines;
mod migrate;
pub mod pipelines;
pub mod replicas;
pub mod requests;
pub mod tasks;
pub mod tokens;
mod transport;
pub mod unkept;
pub mod workflows;

use connection::{Client, GenericClient, Silence};
use transport::Secured;

/// Longest wait for a connection of the pool.
const WAIT: Duration = Duration::from_secs(3);
/// Longest time for a new connection.
const CREATE: Duration = Duration::from_secs(3);
/// Longest statement; the server ends it.
const STATEMENT: Duration = Duration::from_secs(8);
/// Longest group commit: many wait for it, and whoever adopts a workflow of ours waits for its rows.
const COMMIT: Duration = Duration::from_secs(4);
/// Longest answer to whether it answers.
const PING: Duration = Duration::from_secs(2);
/// When the server has not ended a statement by so much later, it is out of reach.
const MERCY: Duration = Duration::from_secs(1);
/// Longest pause within a transaction: a process that stands still must not keep its rows locked.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(3);

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection string is wrong.
    #[error("database URL: {0}")]
    Url(String),
    /// No connection.
    #[error("no connection to the database")]
    Pool(#[from] PoolError),
    /// The pool could not be built.
    #[error("database pool")]
    Build(#[from] deadpool_postgres::BuildError),
    /// A statement failed.
    #[error("database statement")]
    Statement(#[from] tokio_postgres::Error),
    /// The schema could not be brought up to date.
    #[error("database migration")]
    Migration(#[from] refinery::Error),
    /// A commit failed together with others.
    #[error("database commit: {0}")]
    Commit(String),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// The server ended a connection.
    #[error("the database closed the connection")]
    Closed,
    /// A statement was not answered, and may have been done all the same.
    #[error("the database was silent for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// A row cannot be read: it was written by another version, or by hand.
    #[error("row of {table}: {problem}")]
    Row {
        /// Table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl StoreError {
    /// Whether another replica leased a task with the same concurrency key at the same moment.
    pub fn is_held_key(&self) -> bool {
        let Self::Statement(error) = self else {
            return false;
        };
        error
            .as_db_error()
            .is_some_and(|error| error.constraint() == Some("tasks_by_held_key"))
    }

    /// Whether there was no connection to ask on, though there are some.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Pool(PoolError::Timeout(TimeoutType::Wait)))
    }

    /// Whether the same statement may succeed later: the database is away, overloaded, or chose us
    /// as a deadlock's victim.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Commit(_) | Self::Closed | Self::Silent(_) => true,
            Self::Statement(error) => {
                error.is_closed()
                    || error.code().is_none_or(|code| {
                        [
                            SqlState::T_R_SERIALIZATION_FAILURE,
                            SqlState::T_R_DEADLOCK_DETECTED,
                            SqlState::ADMIN_SHUTDOWN,
                            SqlState::CRASH_SHUTDOWN,
                            SqlState::CANNOT_CONNECT_NOW,
                            SqlState::TOO_MANY_CONNECTIONS,
                            SqlState::QUERY_CANCELED,
                            SqlState::CONNECTION_FAILURE,
                        ]
                        .contains(code)
                    })
            }
            Self::Url(_)
            | Self::Stopping
            | Self::Build(_)
            | Self::Migration(_)
            | Self::Row { .. } => false,
        }
    }
}

/// The group commit is one large statement, whose best plan never changes: every table by its index.
/// Planning it anew would take longer than running it, and a plan that was made while the tables were
/// empty must not read them whole when they are not. Bitmaps never tell an index which of its entries are dead: with tasks
/// that come and go all the time, each look would read those of all that went since the last vacuum.
const PLANNED_ONCE: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                            -c enable_bitmapscan=off -c enable_mergejoin=off";
/// The server notices within a minute that a client is gone without a word, and ends its session.
const KEEP_ALIVE: &str = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 \
                          -c tcp_keepalives_count=3";
/// Connections for group commits: one at work, one for a member that goes alone.
const COMMITTERS: usize = 2;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    config: Config,
    tls: Option<Secured>,
    commits: Pool,
    silence: Silence,
}

/// What a server says unasked on a connection, and what keeps that connection going.
type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

impl Store {
    /// At most so many connections, and those of the group commit. Nothing is connected yet.
    pub fn new(url: &str, connections: usize) -> Result<Self, StoreError> {
        let split = transport::split(url);
        let config = config(&split.url)?;
        if let Some(password) = config.get_password() {
            let password = String::from_utf8_lossy(password);
            redaction::process().register("password of the database", &password);
        }
        let tls = split.tls(&config).map_err(StoreError::Url)?;
        let mut planned_once = config.clone();
        let options = config.get_options().unwrap_or_default();
        let timeout = COMMIT.as_millis();
        planned_once.options(format!(
            "{options} {PLANNED_ONCE} -c statement_timeout={timeout}"
        ));
        let silence = Silence::default();
        Ok(Self {
            pool: pool(&config, tls.clone(), connections, &silence)?,
            commits: pool(&planned_once, tls.clone(), COMMITTERS, &silence)?,
            config,
            tls,
            silence,
        })
    }

    /// A connection.
    pub async fn client(&self) -> Result<Client, StoreError> {
        Client::lend(&self.pool, STATEMENT + MERCY, &self.silence).await
    }

    // A connection outside of the pool, which lives while its messages are read.
    async fn connect(&self, name: &str) -> Result<(tokio_postgres::Client, Messages), StoreError> {
        let mut config = self.config.clone();
        config.application_name(name);
        Ok(match self.tls.clone() {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, messages(connection))
            }
            Some(Secured(tls)) => {
                let (client, connection) = config.connect(tls).await?;
                (client, messages(connection))
            }
        })
    }

    /// A connection for a group commit.
    pub async fn committer(&self) -> Result<Client, StoreError> {
        Client::lend(&self.commits, COMMIT + MERCY, &self.silence).await
    }

    /// Brings the schema up to date, one process at a time.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // Not one of the pool's: it may take long.
        let (mut client, mut messages) = self.connect("agentic-orchestrator-migrations").await?;
        let migrated = migrate::run(&mut client);
        tokio::pin!(migrated);
        loop {
            tokio::select! {
                biased;
                migrated = &mut migrated => return migrated,
                message = messages.next() => match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(StoreError::Closed),
                },
            }
        }
    }

    /// Whether the database answers, and at once.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let pinged = async { self.client().await?.batch_execute("SELECT 1").await };
        tokio::time::timeout(PING, pinged)
            .await
            .unwrap_or(Err(StoreError::Silent(PING)))
    }

    /// Connections in use, idle, and waited for.
    pub fn pool_status(&self) -> deadpool_postgres::Status {
        self.pool.status()
    }
}

fn messages<S, T>(mut connection: Connection<S, T>) -> Messages
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    futures::stream::poll_fn(move |context| connection.poll_message(context)).boxed()
}

fn config(url: &str) -> Result<Config, StoreError> {
    let mut config = Config::from_str(url).map_err(|error| StoreError::Url(cause(&error)))?;
    config.application_name("agentic-orchestrator");
    config.connect_timeout(CREATE);
    let options = format!(
        "{} -c statement_timeout={} -c idle_in_transaction_session_timeout={} {KEEP_ALIVE}",
        config.get_options().unwrap_or_default(),
        STATEMENT.as_millis(),
        IDLE_IN_TRANSACTION.as_millis()
    );
    config.options(&options);
    Ok(config)
}

fn pool(
    config: &Config,
    tls: Option<Secured>,
    connections: usize,
    silence: &Silence,
) -> Result<Pool, StoreError> {
    let config = config.clone();
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match tls {
        None => Manager::from_config(config, NoTls, recycling),
        Some(Secured(tls)) => Manager::from_config(config, tls, recycling),
    };
    Ok(Pool::builder(manager)
        .max_size(connections)
        .pre_recycle(silence.hook())
        .timeouts(Timeouts {
            wait: Some(WAIT),
            create: Some(CREATE),
            recycle: Some(CREATE),
        })
        .runtime(Runtime::Tokio1)
        .build()?)
}

fn cause(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A malformed row.
pub(crate) fn malformed(table: &'static str, problem: &impl ToString) -> StoreError {
    StoreError::Row {
        table,
        problem: problem.to_string(),
    }
}
