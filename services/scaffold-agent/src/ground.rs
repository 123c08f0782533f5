//! Where a task works: the repository, made if there is none, and the commit that its change goes on top of.
//! Knows nothing of what is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use agent_runtime::repository::{
    CommitId, Error, Expectation, NewCommit, Repository, RepositoryCache, create_bare,
};
use contracts::task;
use uuid::Uuid;

/// Author of the agent's commits.
pub const AUTHOR_NAME: &str = "Agentic Scaffold";
/// Its address; the domain is reserved (RFC 2606), so that nobody gets mail for it.
pub const AUTHOR_EMAIL: &str = "scaffold@agentic.invalid";
/// Says in a commit's message which task it is of.
const TASK_TRAILER: &str = "Agentic-Task: ";
/// Default branch of repositories that are made.
const DEFAULT_BRANCH: &str = "main";
/// Time of a first commit that nothing tells a time for: 1 January 2000, UTC.
const EARLIEST: i64 = 946_684_800;

/// Where repositories are, and how the task is called.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Our copies of repositories.
    pub cache: &'a RepositoryCache,
    /// Folder for repositories that are made.
    pub root: &'a Path,
    /// Name of the project.
    pub name: &'a str,
    /// Names the branch, and the repository that is made.
    pub key: &'a str,
    /// The task.
    pub task_id: &'a str,
}

/// Where a task works.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The repository.
    pub repository: Repository,
    /// Its URL, as tasks write it.
    pub url: String,
    /// Branch that the change is for.
    pub target_branch: String,
    /// Commit that the change is judged against.
    pub base: CommitId,
    /// Commit that this task's change goes on top of.
    pub parent: CommitId,
    /// Branch of the change.
    pub branch: String,
    /// Where that branch is now. `None`: it does not exist.
    pub tip: Option<CommitId>,
    /// What an earlier attempt at this very task committed.
    pub earlier: Option<CommitId>,
}

impl Ground {
    /// Finds or makes everything. May be repeated: what is there already is taken as it is.
    pub async fn prepare(site: Site<'_>, asked: &task::Repository) -> Result<Self, Error> {
        let url = if asked.url.is_empty() {
            create(site).await?
        } else {
            asked.url.clone()
        };
        let repository = site.cache.open(&url).await?;
        let is_empty = repository.is_empty().await?;
        let target_branch = if asked.target_branch.is_empty() {
            match repository.default_branch().await {
                Err(Error::NoDefaultBranch { .. }) if is_empty => DEFAULT_BRANCH.to_owned(),
                found => found?,
            }
        } else {
            asked.target_branch.clone()
        };
        if is_empty {
            begin(site, &repository, &target_branch).await?;
        }
        let target = format!("refs/heads/{target_branch}");
        let start = if asked.base_commit.is_empty() {
            repository.resolve(&target).await?
        } else {
            repository.resolve(&asked.base_commit).await?
        };
        let branch = format!("agentic/{}", site.key);
        let tip = repository
            .remote_tip(&format!("refs/heads/{branch}"))
            .await?;
        let mut ground = Self {
            repository,
            url,
            target_branch,
            base: start,
            parent: start,
            branch,
            tip,
            earlier: None,
        };
        ground.find_parent(site, asked).await?;
        if asked.base_commit.is_empty() {
            // The target may have moved since the change began.
            let repository = &ground.repository;
            ground.base = repository.merge_base(start, ground.parent).await?;
        }
        Ok(ground)
    }

    async fn find_parent(&mut self, site: Site<'_>, asked: &task::Repository) -> Result<(), Error> {
        let Some(tip) = self.tip else {
            if !asked.head_commit.is_empty() {
                self.parent = self.repository.resolve(&asked.head_commit).await?;
            } else if !asked.branch.is_empty() && asked.branch != self.branch {
                self.parent = self.repository.resolve(&asked.branch).await?;
            }
            return Ok(());
        };
        let summary = self.repository.commit_summary(tip).await?;
        let is_ours = task_of(&summary.message) == Some(site.task_id);
        match (is_ours, summary.parents.first()) {
            (true, Some(parent)) => {
                self.earlier = Some(tip);
                self.parent = *parent;
            }
            _ => self.parent = tip,
        }
        Ok(())
    }

    /// Time for this task's commit: not before its parent, and the same at every attempt.
    pub async fn commit_time(&self, key: &str) -> Result<i64, Error> {
        let parent = self.repository.commit_summary(self.parent).await?;
        Ok(begin_time(key).max(parent.commit_time + 1))
    }
}

/// The message's last lines, by which an attempt knows its own commit.
pub fn trailers(key: &str, task_id: &str) -> String {
    format!("Agentic-Workflow: {key}\n{TASK_TRAILER}{task_id}\n")
}

fn task_of(message: &str) -> Option<&str> {
    message
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(TASK_TRAILER))
}

/// Makes the bare repository of this key, if it is not there.
async fn create(site: Site<'_>) -> Result<String, Error> {
    let place = site.root.join(format!("{}-{}.git", site.name, site.key));
    if !place.is_dir() {
        // Made beside its place, and moved there when it is whole.
        let partial = site
            .root
            .join(format!(".partial-{}-{}", site.key, Uuid::now_v7()));
        create_bare(&partial, DEFAULT_BRANCH).await?;
        if let Err(source) = fs::rename(&partial, &place) {
            let _ = fs::remove_dir_all(&partial);
            // Another attempt was faster; its repository is as good.
            if !place.is_dir() {
                return Err(io_error("put in place", place, source));
            }
        }
    }
    match place.to_str() {
        Some(url) => Ok(url.to_owned()),
        None => Err(io_error(
            "name",
            place,
            io::Error::from(io::ErrorKind::InvalidFilename),
        )),
    }
}

fn io_error(action: &'static str, path: PathBuf, source: io::Error) -> Error {
    Error::Io {
        action,
        path,
        source,
    }
}

/// Gives an empty repository its first commit: one without files, so that everything after it is a change.
async fn begin(site: Site<'_>, repository: &Repository, branch: &str) -> Result<(), Error> {
    let first = repository
        .commit(NewCommit {
            parents: Vec::new(),
            changes: Vec::new(),
            message: format!("Begin {}\n", site.name),
            author_name: AUTHOR_NAME.to_owned(),
            author_email: AUTHOR_EMAIL.to_owned(),
            time: begin_time(site.key),
        })
        .await?;
    let reference = format!("refs/heads/{branch}");
    repository
        .push(first, &reference, Expectation::Absent)
        .await?;
    repository.refresh().await
}

/// The time that the key tells, if it is a UUIDv7.
fn begin_time(key: &str) -> i64 {
    Uuid::parse_str(key)
        .ok()
        .filter(|id| id.get_version_num() == 7)
        .and_then(|id| id.get_timestamp())
        .and_then(|time| i64::try_from(time.to_unix().0).ok())
        .unwrap_or(EARLIEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_task_trailer_counts() {
        let message = format!("Text\n\nAgentic-Task: fake\n\n{}", trailers("w", "t"));
        assert_eq!(task_of(&message), Some("t"));
        assert_eq!(task_of("Text without\n"), None);
    }

    #[test]
    fn a_uuid_of_version_7_tells_the_time() {
        assert_eq!(
            begin_time("0190163d-8694-739b-aea5-966c26f8ad91"),
            1_718_360_049
        );
        assert_eq!(begin_time("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), EARLIEST);
        assert_eq!(begin_time("not a uuid"), EARLIEST);
    }
}
