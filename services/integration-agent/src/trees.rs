//! The four trees of a merge, flat: what both sides had in common, the two sides, and the merge. Pure data
//! for whoever compares them.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use agent_runtime::repository::{CommitId, FileKind, Repository};
use git2::Oid;

use crate::merge::Error;

/// One file of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its content.
    pub id: Oid,
    /// What it is.
    pub kind: FileKind,
}

/// A tree's files by path.
pub type Files = BTreeMap<PathBuf, Entry>;

/// The four trees of a merge.
#[derive(Debug, Default)]
pub struct Trees {
    /// The common past; empty when there are several, or when the merge did not compare with it.
    pub base: Files,
    /// The target.
    pub ours: Files,
    /// The source.
    pub theirs: Files,
    /// The merge.
    pub merged: Files,
}

impl Trees {
    /// Reads the trees of four commits.
    pub async fn read(
        repository: &Repository,
        base: Option<CommitId>,
        ours: CommitId,
        theirs: CommitId,
        merged: CommitId,
    ) -> Result<Self, Error> {
        Ok(Self {
            base: match base {
                Some(base) => files(repository, base).await?,
                None => Files::new(),
            },
            ours: files(repository, ours).await?,
            theirs: files(repository, theirs).await?,
            merged: files(repository, merged).await?,
        })
    }

    /// Files of the merge whose content no side has: the merge made them.
    pub fn made(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        let known: HashSet<Oid> = self
            .ours
            .values()
            .chain(self.theirs.values())
            .map(|entry| entry.id)
            .collect();
        self.merged
            .iter()
            .filter(|(_, entry)| matches!(entry.kind, FileKind::File | FileKind::Executable))
            .filter(move |(_, entry)| !known.contains(&entry.id))
            .map(|(path, entry)| (path.as_path(), entry))
    }

    /// Files in which the two sides differ, on either side.
    pub fn differing(&self) -> impl Iterator<Item = &Entry> {
        let differs = |(path, entry): &(&PathBuf, &Entry), other: &Files| {
            entry.kind != FileKind::Submodule && other.get(*path) != Some(*entry)
        };
        let ours = self.ours.iter();
        let theirs = self.theirs.iter();
        ours.filter(move |file| differs(file, &self.theirs))
            .chain(theirs.filter(move |file| differs(file, &self.ours)))
            .map(|(_, entry)| entry)
    }
}

async fn files(repository: &Repository, commit: CommitId) -> Result<Files, Error> {
    let files = repository.tree(commit).await?;
    Ok(files
        .into_iter()
        .map(|file| {
            let entry = Entry {
                id: file.id,
                kind: file.kind,
            };
            (file.path, entry)
        })
        .collect())
}
