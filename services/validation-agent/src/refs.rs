//! Which commits a task is about: the head, what it is judged against, and where the two parted. Knows the
//! repository and what the task says, and nothing of checks.

use agent_runtime::repository::{CommitId, Error as RepositoryError, Repository};
use contracts::{error::Error, task, validation::ValidationTask};

use crate::verdict::Judgement;

/// The commits of one task.
#[derive(Debug, Clone)]
pub struct Commits {
    /// What is judged.
    pub head: CommitId,
    /// What it is judged against, and whose description and policy hold; `None`: the head is judged alone.
    pub base: Option<CommitId>,
    /// Where head and base parted: the change is what came after. The base itself, if the head contains it.
    pub fork: Option<CommitId>,
    /// Commit whose policy holds, when the task names one.
    pub policy: Option<CommitId>,
    /// How the base was found, for people.
    pub note: String,
}

/// What the commits of a task are, or why there is nothing to judge.
#[derive(Debug)]
pub enum Resolved {
    /// Something to judge.
    Commits(Commits),
    /// Nothing: the head and why.
    Nothing {
        /// What was asked about.
        head: CommitId,
        /// What it was to be judged against.
        base: CommitId,
        /// Why there is nothing to judge.
        judgement: Judgement,
    },
}

/// Finds the commits of a task.
pub async fn resolve(
    repository: &Repository,
    asked: &task::Repository,
    task: &ValidationTask,
) -> Result<Resolved, Error> {
    let head = match (asked.head_commit.as_str(), asked.branch.as_str()) {
        ("", "") => {
            return Err(Error::invalid_field(
                "context.repository.head_commit",
                "name the commit or the branch to validate",
            ));
        }
        ("", branch) => repository.resolve(branch).await?,
        (commit, _) => repository.resolve(commit).await?,
    };
    let policy = match task.policy_ref.as_str() {
        "" => None,
        name => Some(repository.resolve(name).await?),
    };
    let named = [task.base_commit.as_str(), asked.base_commit.as_str()]
        .into_iter()
        .find(|commit| !commit.is_empty());
    let base = match (named, asked.target_branch.as_str()) {
        (Some(commit), _) => Some((
            repository.resolve(commit).await?,
            "as the task names it".to_owned(),
        )),
        (None, "") => default_base(repository, head).await?,
        (None, branch) => {
            let tip = repository.resolve(branch).await?;
            Some((tip, format!("the tip of `{branch}`")))
        }
    };
    let Some((base, found)) = base else {
        let note = "no base commit: the commit was judged alone, by its own policy".to_owned();
        return Ok(Resolved::Commits(Commits {
            head,
            base: None,
            fork: None,
            policy,
            note,
        }));
    };
    let nothing = |reason: String| Resolved::Nothing {
        head,
        base,
        judgement: Judgement::not_proven(reason),
    };
    if base == head {
        return Ok(nothing(format!(
            "base and head are the same commit {head}: there is nothing to judge"
        )));
    }
    let fork = match repository.merge_base(base, head).await {
        Ok(fork) => fork,
        Err(RepositoryError::Unrelated { .. }) => {
            return Ok(nothing(format!(
                "{base} and {head} share no history: there is no change to judge"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if fork == head {
        return Ok(nothing(format!(
            "the base {base} contains {head} already: there is nothing to judge"
        )));
    }
    if crate::change::is_same_tree(repository, fork, head).await? {
        return Ok(nothing(format!(
            "{head} has the very files of {fork}: there is nothing to judge"
        )));
    }
    let note = format!("judged against {base}, {found}");
    Ok(Resolved::Commits(Commits {
        head,
        base: Some(base),
        fork: Some(fork),
        policy,
        note,
    }))
}

/// Nobody names a base: the default branch, unless the head is on it or has nothing in common with it.
async fn default_base(
    repository: &Repository,
    head: CommitId,
) -> Result<Option<(CommitId, String)>, RepositoryError> {
    let branch = match repository.default_branch().await {
        Ok(branch) => branch,
        Err(RepositoryError::NoDefaultBranch { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let tip = match repository.resolve(&format!("refs/heads/{branch}")).await {
        Ok(tip) => tip,
        Err(RepositoryError::RefNotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if repository.contains(tip, head).await? {
        return Ok(None);
    }
    match repository.merge_base(tip, head).await {
        Ok(_) => Ok(Some((
            tip,
            format!("the tip of the default branch `{branch}`"),
        ))),
        Err(RepositoryError::Unrelated { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
