//! Work that is not done and must not be lost: the files as a commit under a reference of its own, everything
//! else in the checkpoint that the next attempt is given. Knows no generator and no branch.

use agent_runtime::repository::{
    ChangeKind, CommitId, Error, Expectation, FileChange, FileKind, FileWrite, NewCommit,
    Repository, TreePath,
};
use serde::{Deserialize, Serialize};

use crate::{
    ground::{AUTHOR_EMAIL, AUTHOR_NAME, Ground},
    source::Source,
};

/// Most bytes of a checkpoint (task.proto).
const CHECKPOINT_BYTES: usize = 64 * 1024;

/// What a generator remembers of its work, beside the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Rounds so far.
    pub rounds: u32,
    /// What was done, one line per action, the oldest first.
    pub lines: Vec<String>,
    /// Files that are open, the latest last.
    pub open: Vec<String>,
}

/// The work of an attempt that stopped before it was done.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The edits so far.
    pub changes: Vec<FileChange>,
    /// Everything else.
    pub memory: Memory,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    version: u32,
    /// Commit that the edits are on top of.
    parent: String,
    /// Commit with the edits. Empty: there are none.
    work: String,
    memory: Memory,
}

/// Keeps the work in the repository, and gives the checkpoint that finds it again.
pub async fn keep(ground: &Ground, key: &str, kept: Kept) -> Result<Vec<u8>, Error> {
    let Kept {
        changes,
        mut memory,
    } = kept;
    let work = if changes.is_empty() {
        String::new()
    } else {
        let repository = &ground.repository;
        let commit = repository
            .commit(NewCommit {
                parents: vec![ground.parent],
                changes,
                message: format!("Work that is not done\n\nAgentic-Workflow: {key}\n"),
                author_name: AUTHOR_NAME.to_owned(),
                author_email: AUTHOR_EMAIL.to_owned(),
                time: ground.commit_time(key).await?,
            })
            .await?;
        // Named for its content: keeping the same twice changes nothing.
        repository
            .push(commit, &reference(commit), Expectation::Absent)
            .await?;
        commit.to_string()
    };
    loop {
        let checkpoint = Checkpoint {
            version: 1,
            parent: ground.parent.to_string(),
            work: work.clone(),
            memory: memory.clone(),
        };
        // Plain data always serialises.
        let bytes = serde_json::to_vec(&checkpoint).unwrap_or_default();
        if bytes.len() <= CHECKPOINT_BYTES || memory.lines.is_empty() && memory.open.is_empty() {
            return Ok(bytes);
        }
        // The older half is what matters least.
        memory.lines.drain(..memory.lines.len().div_ceil(2));
        memory.open.drain(..memory.open.len().div_ceil(2));
    }
}

/// What an earlier attempt kept. `None`: nothing that fits this ground, so the work begins anew.
pub async fn find(ground: &Ground, checkpoint: &[u8]) -> Result<Option<Kept>, Error> {
    let Ok(Checkpoint {
        version: 1,
        parent,
        work,
        memory,
    }) = serde_json::from_slice(checkpoint)
    else {
        return Ok(None);
    };
    if parent != ground.parent.to_string() {
        return Ok(None);
    }
    let changes = if work.is_empty() {
        Vec::new()
    } else {
        let Ok(commit) = work.parse::<CommitId>() else {
            return Ok(None);
        };
        let repository = &ground.repository;
        match repository.resolve(&reference(commit)).await {
            Ok(found) if found == commit => changes(repository, ground.parent, commit).await?,
            Ok(_) | Err(Error::RefNotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    Ok(Some(Kept { changes, memory }))
}

fn reference(commit: CommitId) -> String {
    format!("refs/agentic/work/{commit}")
}

/// The edits that lead from one commit to another.
async fn changes(
    repository: &Repository,
    parent: CommitId,
    work: CommitId,
) -> Result<Vec<FileChange>, Error> {
    let source = Source::read(repository, work).await?;
    let mut changes = Vec::new();
    for changed in repository.changed_paths(Some(parent), work).await? {
        let gone = match changed.kind {
            ChangeKind::Deleted => Some(&changed.path),
            ChangeKind::Renamed => changed.old_path.as_ref(),
            ChangeKind::Added | ChangeKind::Modified | ChangeKind::TypeChanged => None,
        };
        if let Some(gone) = gone {
            changes.push(FileChange {
                path: TreePath::parse(gone)?,
                write: FileWrite::Removed,
            });
        }
        let path = TreePath::parse(&changed.path)?;
        if let Some(content) = source.content(&path).await? {
            let executable = source.files().get(&path) == Some(&FileKind::Executable);
            changes.push(FileChange {
                path,
                write: FileWrite::File {
                    content,
                    executable,
                },
            });
        }
    }
    Ok(changes)
}
