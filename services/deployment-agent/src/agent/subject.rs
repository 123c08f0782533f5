//! What a task is about: the repository, the commit that is to run, and the project as the base
//! commit describes it.

use std::sync::Arc;

use agent_runtime::{
    project::{Project, ProjectError},
    repository::{CommitId, Repository, RepositoryCache},
};
use contracts::{
    error::Error,
    error_reason::ErrorReason,
    task::{Repository as WireRepository, TaskContext},
};

/// The code that a task is about.
pub(super) struct Subject {
    pub(super) repository: Repository,
    pub(super) commit: CommitId,
    pub(super) project: Arc<Project>,
    /// As results carry it: the commit is exact.
    pub(super) wire: WireRepository,
}

impl Subject {
    pub(super) async fn open(
        cache: &RepositoryCache,
        context: &TaskContext,
    ) -> Result<Self, Error> {
        let asked = context.repository.clone().unwrap_or_default();
        if asked.url.is_empty() {
            return Err(Error::invalid_field(
                "context.repository.url",
                "is required",
            ));
        }
        let repository = cache.open(&asked.url).await?;
        let commit = head(&repository, &asked, context).await?;
        let base = base(&repository, &asked, commit).await?;
        let project = Project::of_commits(&repository, base, commit)
            .await
            .map_err(project_error)?;
        let wire = WireRepository {
            head_commit: commit.to_string(),
            ..asked
        };
        Ok(Self {
            repository,
            commit,
            project: Arc::new(project),
            wire,
        })
    }
}

/// What was merged, else the head of the context, else the branch it names, else the default one.
async fn head(
    repository: &Repository,
    asked: &WireRepository,
    context: &TaskContext,
) -> Result<CommitId, Error> {
    let merged = context
        .inputs
        .iter()
        .rev()
        .filter_map(|input| input.outcome.as_ref())
        .map(|outcome| outcome.merged_commit.as_str())
        .find(|commit| !commit.is_empty());
    let named = merged
        .into_iter()
        .chain([&asked.head_commit, &asked.branch, &asked.target_branch].map(String::as_str))
        .find(|name| !name.is_empty());
    Ok(match named {
        Some(name) => repository.resolve(name).await?,
        None => {
            let branch = repository.default_branch().await?;
            repository.resolve(&branch).await?
        }
    })
}

/// The commit whose description holds. None: the head's own.
async fn base(
    repository: &Repository,
    asked: &WireRepository,
    head: CommitId,
) -> Result<Option<CommitId>, Error> {
    if asked.base_commit.is_empty() {
        return Ok(None);
    }
    let base = repository.resolve(&asked.base_commit).await?;
    Ok(Some(base).filter(|base| *base != head))
}

fn project_error(error: ProjectError) -> Error {
    match error {
        ProjectError::Description(error) => {
            Error::new(ErrorReason::ProjectInvalid, error.to_string())
        }
        ProjectError::Repository(error) => error.into(),
        ProjectError::Commit { .. } | ProjectError::Unreadable { .. } => {
            tracing::error!(%error, cause = ?std::error::Error::source(&error), "cannot read a project");
            Error::new(ErrorReason::Infrastructure, error.to_string())
        }
    }
}
