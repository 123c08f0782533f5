//! The PostgreSQL cluster of a test binary: started by the first test that wants a database, and gone with the process, however
//! that ends.

use std::{env, path::PathBuf};

use anyhow::Context;
use service_runtime::embedded_postgres::{EmbeddedPostgres, Options};
use tokio::sync::OnceCell;

use crate::requirement::build_folder;

static CLUSTER: OnceCell<EmbeddedPostgres> = OnceCell::const_new();

/// Where `scripts/test` installs the PostgreSQL wheel on a machine without PostgreSQL.
pub fn wheel_folder() -> PathBuf {
    build_folder().join("pgserver")
}

/// The cluster of this process, started if need be.
pub async fn cluster() -> anyhow::Result<&'static EmbeddedPostgres> {
    CLUSTER
        .get_or_try_init(|| async {
            let folder = tempfile::Builder::new()
                .prefix("agentic-test-")
                .tempdir()?
                .keep();
            EmbeddedPostgres::start(options(Options::disposable(folder)))
                .await
                .context("the tests' PostgreSQL cluster")
        })
        .await
}

/// Lets a cluster of a test's own be found where the tests' programs are.
pub fn options(options: Options) -> Options {
    Options {
        binaries: env::var_os("AGENTIC_POSTGRES_BINARIES").map(PathBuf::from),
        wheels: vec![wheel_folder()],
        ..options
    }
}
