//! What can go wrong between us and a repository, told apart by what the caller can do about it. Knows
//! nothing of gRPC codes or verdicts.

use std::{io, path::PathBuf, time::Duration};

/// A failed repository operation. `Display` is one sentence fit for a person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one that agents may work with.
    #[error("repository URL {url:?} is refused: {reason}")]
    InvalidUrl {
        /// The URL, without any password.
        url: String,
        /// What is wrong with it and what to write instead.
        reason: &'static str,
    },
    /// A path that is not inside the repository, or not a plain path.
    #[error("path {path:?} is refused: {reason}")]
    InvalidPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that git does not allow for a reference.
    #[error("{reference:?} is not a valid reference name")]
    InvalidReference {
        /// The name as given.
        reference: String,
    },
    /// Nothing at the URL is a git repository.
    #[error("no git repository at {url}: {detail}")]
    RepositoryNotFound {
        /// Where we looked.
        url: String,
        /// What git said.
        detail: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{reference:?} does not name a commit of {url}")]
    RefNotFound {
        /// The repository.
        url: String,
        /// The branch, tag, commit or reference asked for.
        reference: String,
    },
    /// The repository has no default branch: it is empty, or its HEAD is detached.
    #[error("{url} has no default branch (empty, or its HEAD is detached): name the branch")]
    NoDefaultBranch {
        /// The repository.
        url: String,
    },
    /// A name that means two different commits.
    #[error(
        "{reference:?} is ambiguous in {url}: write refs/heads/…, refs/tags/… or the full commit id"
    )]
    Ambiguous {
        /// The repository.
        url: String,
        /// The ambiguous name.
        reference: String,
    },
    /// The two commits share no history.
    #[error("commits {left} and {right} share no history")]
    Unrelated {
        /// One commit.
        left: String,
        /// The other commit.
        right: String,
    },
    /// The place could not be reached; waiting may help.
    #[error("{url} cannot be reached: {detail}")]
    Unreachable {
        /// The repository.
        url: String,
        /// What git said.
        detail: String,
    },
    /// The place wants other credentials than git's helpers gave.
    #[error("{url} refused our credentials: {detail}")]
    AuthenticationFailed {
        /// The repository.
        url: String,
        /// What git said.
        detail: String,
    },
    /// The repository belongs to another user, so that git does not trust its configuration.
    #[error(
        "{url} belongs to another user: run as its owner, or add it to git's safe.directory: {detail}"
    )]
    NotTrusted {
        /// The repository.
        url: String,
        /// What git said.
        detail: String,
    },
    /// A push that the repository did not take; its references are as before.
    #[error("{url} did not take {reference}: {rejection}")]
    Rejected {
        /// The repository.
        url: String,
        /// The reference.
        reference: String,
        /// Why.
        rejection: Rejection,
    },
    /// A git command outlived its deadline and was killed.
    #[error("git {action} took longer than {} and was stopped", humantime::format_duration(*after))]
    TimedOut {
        /// What was being done.
        action: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// Git failed in a way that has no better name.
    #[error("git {action} failed: {detail}")]
    Git {
        /// What was being done.
        action: &'static str,
        /// The last lines of git's own words.
        detail: String,
    },
    /// Reading or writing objects failed.
    #[error("could not {action}")]
    Object {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: git2::Error,
    },
    /// The content is larger than agents accept.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What was being read or written.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A file operation of ours failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The caller went away before the work was done.
    #[error("{action} was cancelled")]
    Cancelled {
        /// What was being done.
        action: &'static str,
    },
}

/// Why a push was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The reference is not where the caller expected it: somebody else moved it. Read it again.
    #[error("it has moved (now {})", actual.as_deref().unwrap_or("absent"))]
    Moved {
        /// The commit it points to now, when known.
        actual: Option<String>,
    },
    /// The reference was to be created, and exists.
    #[error("it exists already, at {actual}")]
    Exists {
        /// The commit it points to.
        actual: String,
    },
    /// The commit does not contain what the reference points to.
    #[error("the commit does not contain what is there already")]
    NotFastForward,
    /// The branch is checked out in a work tree that has changes of its own.
    #[error(
        "the branch is checked out there and its work tree has changes ({detail}): commit or stash them, or switch to another branch, and retry"
    )]
    WorkTreeDirty {
        /// What git said.
        detail: String,
    },
    /// The branch is checked out in a work tree that we cannot update.
    #[error(
        "the branch is checked out there: switch that work tree to another branch, or use a bare repository"
    )]
    CheckedOut,
    /// Another process holds the reference's lock.
    #[error("another process holds its lock: {detail}")]
    Locked {
        /// What git said.
        detail: String,
    },
    /// A hook or a rule of the repository refused.
    #[error("its rules refused: {detail}")]
    Policy {
        /// What git said.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Rejected { rejection, .. } => matches!(rejection, Rejection::Locked { .. }),
            Self::InvalidUrl { .. }
            | Self::InvalidPath { .. }
            | Self::InvalidReference { .. }
            | Self::RepositoryNotFound { .. }
            | Self::RefNotFound { .. }
            | Self::NoDefaultBranch { .. }
            | Self::Ambiguous { .. }
            | Self::Unrelated { .. }
            | Self::AuthenticationFailed { .. }
            | Self::NotTrusted { .. }
            | Self::Git { .. }
            | Self::Object { .. }
            | Self::TooLarge { .. }
            | Self::Io { .. }
            | Self::Cancelled { .. } => false,
        }
    }

    /// Whether the target moved under us, so that the work must be looked at again.
    pub fn is_moved(&self) -> bool {
        matches!(
            self,
            Self::Rejected {
                rejection: Rejection::Moved { .. }
                    | Rejection::Exists { .. }
                    | Rejection::NotFastForward,
                ..
            }
        )
    }

    pub(super) fn object(action: &'static str) -> impl FnOnce(git2::Error) -> Self {
        move |source| Self::Object { action, source }
    }

    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
