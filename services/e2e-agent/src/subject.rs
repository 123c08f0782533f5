//! Which commits a task is about: the change, and what it is judged against. Knows repositories, and nothing of
//! what is tested.

use agent_runtime::repository::{CommitId, Error as RepositoryError, Repository, RepositoryCache};
use contracts::{error::Error, task};

/// The commits of a task.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The repository.
    pub repository: Repository,
    /// What is tested.
    pub head: CommitId,
    /// What it is judged against; none: the head stands alone.
    pub base: Option<CommitId>,
}

impl Subject {
    /// Finds them. None: the task names no repository.
    pub async fn find(
        cache: &RepositoryCache,
        asked: Option<&task::Repository>,
    ) -> Result<Option<Self>, Error> {
        let Some(asked) = asked.filter(|asked| !asked.url.is_empty()) else {
            return Ok(None);
        };
        let repository = cache.open(&asked.url).await?;
        let head = match (asked.head_commit.as_str(), asked.branch.as_str()) {
            ("", "") => {
                let branch = repository.default_branch().await?;
                repository.resolve(&format!("refs/heads/{branch}")).await?
            }
            ("", branch) => repository.resolve(branch).await?,
            (commit, _) => repository.resolve(commit).await?,
        };
        let base = match asked.base_commit.as_str() {
            "" => parted_from(&repository, &asked.target_branch, head).await?,
            commit => Some(repository.resolve(commit).await?),
        };
        Ok(Some(Self {
            repository,
            head,
            base: base.filter(|base| *base != head),
        }))
    }
}

/// Where the head parted from the branch that it is for.
async fn parted_from(
    repository: &Repository,
    target_branch: &str,
    head: CommitId,
) -> Result<Option<CommitId>, Error> {
    let branch = match target_branch {
        "" => match repository.default_branch().await {
            Ok(branch) => format!("refs/heads/{branch}"),
            Err(RepositoryError::NoDefaultBranch { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        branch => branch.to_owned(),
    };
    let tip = match repository.resolve(&branch).await {
        Ok(tip) => tip,
        // A new repository whose main branch is still to come.
        Err(RepositoryError::RefNotFound { .. }) if target_branch.is_empty() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match repository.merge_base(tip, head).await {
        Ok(base) => Ok(Some(base)),
        Err(RepositoryError::Unrelated { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
