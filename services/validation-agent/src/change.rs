//! Reads a change out of the repository: texts before and after for the judge, added lines for coverage, and
//! every new blob of every commit for the secret scan. Judges nothing.

mod secret_scan;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use agent_runtime::repository::{ChangeKind, CommitId, Error as RepositoryError, Repository};
use thiserror::Error;

use crate::judge::ChangedFile;

pub use self::secret_scan::{PlacedSecret, SecretScan, scan_for_secrets};

/// Larger files are not read as text by the judge: their digest stands for them.
const MAXIMUM_TEXT_BYTES: usize = 2 * 1024 * 1024;

/// The change could not be read.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// An object of the repository.
    #[error("reading {what} of the repository")]
    Object {
        /// Which one.
        what: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn object<E: std::error::Error + Send + Sync + 'static>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> ChangeError {
    let what = what.into();
    move |source| ChangeError::Object {
        what,
        source: Box::new(source),
    }
}

/// Whether two commits have the same files.
pub async fn is_same_tree(
    repository: &Repository,
    one: CommitId,
    other: CommitId,
) -> Result<bool, RepositoryError> {
    let one = repository.commit_summary(one).await?;
    let other = repository.commit_summary(other).await?;
    Ok(one.tree == other.tree)
}

/// Every changed file with its texts.
pub async fn texts(
    repository: &Repository,
    base: CommitId,
    head: CommitId,
) -> Result<Vec<ChangedFile>, ChangeError> {
    let paths = repository.changed_paths(Some(base), head).await?;
    repository
        .with_objects("read the changed files", move |objects, gone| {
            let tree = |commit: CommitId| {
                objects
                    .find_commit(commit.oid())
                    .and_then(|commit| commit.tree())
                    .map_err(object(format!("commit {commit}")))
            };
            let (base, head) = (tree(base)?, tree(head)?);
            let text = |at_base: bool, path: &Path| -> Result<Option<String>, ChangeError> {
                let Ok(entry) = (if at_base { &base } else { &head }).get_path(path) else {
                    return Ok(None);
                };
                // A submodule is a commit of another repository: its id stands for it.
                let Ok(blob) = objects.find_blob(entry.id()) else {
                    return Ok(Some(format!("commit {}", entry.id())));
                };
                let content = blob.content();
                if content.len() > MAXIMUM_TEXT_BYTES || content.contains(&0) {
                    return Ok(Some(format!("binary {}", entry.id())));
                }
                Ok(Some(String::from_utf8_lossy(content).into_owned()))
            };
            let mut files = Vec::with_capacity(paths.len());
            for changed in paths {
                gone.check("read the changed files")?;
                let old = changed.old_path.as_deref().unwrap_or(&changed.path);
                let before = match changed.kind {
                    ChangeKind::Added => None,
                    ChangeKind::Modified
                    | ChangeKind::Deleted
                    | ChangeKind::Renamed
                    | ChangeKind::TypeChanged => text(true, old)?,
                };
                let after = match changed.kind {
                    ChangeKind::Deleted => None,
                    ChangeKind::Modified
                    | ChangeKind::Added
                    | ChangeKind::Renamed
                    | ChangeKind::TypeChanged => text(false, &changed.path)?,
                };
                files.push(ChangedFile {
                    path: changed.path.to_string_lossy().into_owned(),
                    old_path: changed
                        .old_path
                        .as_ref()
                        .map(|path| path.to_string_lossy().into_owned()),
                    before,
                    after,
                });
            }
            Ok(files)
        })
        .await
}

/// Added and changed lines by path, binary files left out.
pub async fn added_lines(
    repository: &Repository,
    base: CommitId,
    head: CommitId,
) -> Result<BTreeMap<String, BTreeSet<u32>>, RepositoryError> {
    let files = repository.diff(Some(base), head).await?;
    Ok(files
        .into_iter()
        .filter(|file| !file.is_binary && !file.added.is_empty())
        .map(|file| {
            let path = file.change.path.to_string_lossy().into_owned();
            (path, file.added.into_iter().flatten().collect())
        })
        .collect())
}

#[cfg(test)]
mod tests;
