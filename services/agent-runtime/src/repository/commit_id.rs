//! The id of a commit, parsed once.

use std::{fmt, str::FromStr};

/// A full SHA-1 commit id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(git2::Oid);

/// A text that is not a full commit id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a full commit id (40 hexadecimal digits)")]
pub struct InvalidCommitId(String);

impl CommitId {
    /// The id as the git library knows it.
    pub fn oid(self) -> git2::Oid {
        self.0
    }
}

impl From<git2::Oid> for CommitId {
    fn from(oid: git2::Oid) -> Self {
        Self(oid)
    }
}

impl FromStr for CommitId {
    type Err = InvalidCommitId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !is_full(text) {
            return Err(InvalidCommitId(text.chars().take(80).collect()));
        }
        text.parse()
            .map(Self)
            .map_err(|_| InvalidCommitId(text.to_owned()))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitId({})", self.0)
    }
}

pub(super) fn is_full(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
