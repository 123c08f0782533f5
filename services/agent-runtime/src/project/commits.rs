//! Reads projects and policies straight from the commits of a repository, without a checkout.

use crate::repository::{CommitId, Repository};

use super::{
    gates::GatePolicy,
    plan::{DescriptionOrigin, Project, ProjectError},
    source::{GitTree, Source},
};

impl Project {
    /// Reads the project as it is at `head`; what is declared comes from `base` where that declares anything.
    pub async fn of_commits(
        repository: &Repository,
        base: Option<CommitId>,
        head: CommitId,
    ) -> Result<Self, ProjectError> {
        with_trees(repository, base, head, |base, head| {
            Self::read_judged_by(base, head)
        })
        .await
    }
}

impl GatePolicy {
    /// Reads the policy for a change from `base` to `head`; see [`GatePolicy::read_judged_by`].
    pub async fn of_commits(
        repository: &Repository,
        base: Option<CommitId>,
        head: CommitId,
    ) -> Result<(Option<Self>, DescriptionOrigin), ProjectError> {
        with_trees(repository, base, head, |base, head| {
            Self::read_judged_by(base, head)
        })
        .await
    }
}

async fn with_trees<T, F>(
    repository: &Repository,
    base: Option<CommitId>,
    head: CommitId,
    read: F,
) -> Result<T, ProjectError>
where
    T: Send + 'static,
    F: FnOnce(Option<&dyn Source>, &dyn Source) -> Result<T, ProjectError> + Send + 'static,
{
    repository
        .with_objects("read the project", move |objects, _| {
            let tree = |commit: CommitId| {
                GitTree::of_commit(objects, commit.oid()).map_err(|source| ProjectError::Commit {
                    commit: commit.to_string(),
                    source,
                })
            };
            let head = tree(head)?;
            match base {
                Some(base) => read(Some(&tree(base)?), &head),
                None => read(None, &head),
            }
        })
        .await
}
