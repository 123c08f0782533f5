//! A PostgreSQL of a test's own, which can be stopped, killed and started again. Durable: what it
//! has committed it keeps, whatever happens to it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service_runtime::embedded_postgres::{EmbeddedPostgres, Options};
use tempfile::TempDir;
use testkit::cluster;

/// A server, and the folder that it keeps everything in.
#[derive(Debug)]
pub struct Server {
    postgres: Option<EmbeddedPostgres>,
    folder: TempDir,
}

impl Server {
    /// A new one.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            postgres: None,
            folder,
        };
        server.start_again().await;
        server
    }

    /// How to connect; the same after every start.
    pub fn url(&self) -> &str {
        self.postgres.as_ref().unwrap().connection_string()
    }

    /// Starts it on what it has kept.
    pub async fn start_again(&mut self) {
        let options = cluster::options(Options::durable(self.folder.path()));
        self.postgres = Some(EmbeddedPostgres::start(options).await.unwrap());
    }

    /// Stops it in order, which ends every connection.
    pub async fn stop(&mut self) {
        self.postgres.take().unwrap().stop().await.unwrap();
    }

    /// Ends it in the middle of whatever it does: what was under way is for recovery to find.
    pub async fn crash(&mut self) {
        let mut postgres = self.postgres.take().unwrap();
        let process_id = i32::try_from(postgres.process_id()).unwrap();
        kill(Pid::from_raw(process_id), Signal::SIGQUIT).unwrap();
        postgres.ended().await;
    }
}
