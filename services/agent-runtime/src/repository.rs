//! Git repositories as agents see them: a URL becomes a local cache of objects, commits are read, compared,
//! checked out and written there, and a reference of the real repository moves only by compare-and-swap.
//! Knows nothing of tasks, workflows or verdicts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

mod cache;
mod checkout;
mod commit;
mod commit_id;
mod create;
mod diff;
mod error;
mod git;
mod links;
mod path;
mod push;
mod read;
mod resolve;
mod url;
mod wire;

pub use self::{
    cache::{CacheSettings, RepositoryCache},
    checkout::{Checkout, CheckoutSettings},
    commit::{FileChange, FileWrite, NewCommit},
    commit_id::{CommitId, InvalidCommitId},
    create::create_bare,
    diff::{ChangeKind, ChangedPath, FileDiff},
    error::{Error, Rejection},
    path::TreePath,
    push::{Expectation, Pushed},
    read::{CommitSummary, FileKind, TreeFile},
    url::RepositoryUrl,
};

/// A repository, ready to be read. Cheap to clone; the cache behind it is shared by everybody who opened
/// the same URL.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: RepositoryUrl,
    /// Our bare copy.
    folder: PathBuf,
    /// Taken while our copy is being written by git.
    guard: PathBuf,
    git: git::Git,
}

impl Repository {
    /// The repository's URL.
    pub fn url(&self) -> &RepositoryUrl {
        &self.inner.url
    }

    /// Our bare copy of it: for reading with other tools. Nobody else may write there.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Runs a git command that only works on our bare copy, such as `merge-tree`: without any transport and
    /// without the configuration of the user or the machine. Attributes are read from `work_tree`.
    pub async fn plumbing(
        &self,
        action: &'static str,
        work_tree: Option<&Path>,
        arguments: &[String],
        input: Option<Vec<u8>>,
    ) -> Result<Plumbing, Error> {
        let finished = self
            .inner
            .git
            .run_local(action, &self.inner.folder, work_tree, arguments, input)
            .await?;
        Ok(Plumbing {
            code: finished.status.code(),
            stdout: finished.stdout,
            stderr: git::detail(&finished.stderr),
        })
    }

    /// Runs `work` on our bare copy, on a thread that may block. When the caller goes away, `work` runs to
    /// its end unless it looks at the flag.
    pub async fn with_objects<T, E, F>(&self, action: &'static str, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&git2::Repository, &CallerGone) -> Result<T, E> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let gone = CallerGone(Arc::new(AtomicBool::new(false)));
        let _signal = SignalOnDrop(gone.clone());
        let span = tracing::Span::current();
        let joined = tokio::task::spawn_blocking(move || {
            let _entered = span.enter();
            let objects =
                git2::Repository::open_bare(&inner.folder).map_err(Error::object(action))?;
            work(&objects, &gone)
        })
        .await;
        match joined {
            Ok(result) => result,
            // The runtime is shutting down, or the closure panicked and the panic was reported.
            Err(_) => Err(E::from(Error::Cancelled { action })),
        }
    }
}

/// What a git command gave.
#[derive(Clone, Debug)]
pub struct Plumbing {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Everything it printed.
    pub stdout: Vec<u8>,
    /// The end of its complaints, on one line.
    pub stderr: String,
}

/// Tells blocking work that nobody waits for it any more.
#[derive(Clone, Debug)]
pub struct CallerGone(Arc<AtomicBool>);

impl CallerGone {
    /// Fails once the caller is gone.
    pub fn check(&self, action: &'static str) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { action });
        }
        Ok(())
    }
}

struct SignalOnDrop(CallerGone);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
