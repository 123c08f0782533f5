//! The files of one commit, as generators see them. Refuses to know where the repository is and where a change
//! goes.

use std::collections::BTreeMap;

use agent_runtime::repository::{CommitId, Error, FileKind, Repository, TreePath};

/// The files of one commit.
#[derive(Debug, Clone)]
pub struct Source {
    repository: Repository,
    commit: CommitId,
    files: BTreeMap<TreePath, FileKind>,
}

impl Source {
    /// Lists the files of a commit. Paths that may not be written are left out.
    pub async fn read(repository: &Repository, commit: CommitId) -> Result<Self, Error> {
        let files = repository
            .tree(commit)
            .await?
            .into_iter()
            .filter_map(|file| Some((TreePath::parse(&file.path).ok()?, file.kind)))
            .collect();
        Ok(Self {
            repository: repository.clone(),
            commit,
            files,
        })
    }

    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.commit
    }

    /// What is there, sorted by path.
    pub fn files(&self) -> &BTreeMap<TreePath, FileKind> {
        &self.files
    }

    /// The content of a file. `None`: it is not there, or is no plain file.
    pub async fn content(&self, path: &TreePath) -> Result<Option<Vec<u8>>, Error> {
        match self.files.get(path) {
            Some(FileKind::File | FileKind::Executable) => {
                self.repository.read_file(self.commit, path).await
            }
            Some(FileKind::Link | FileKind::Submodule) | None => Ok(None),
        }
    }
}
