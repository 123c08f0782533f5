//! Takes back what came into a target, by one more commit on its tip: what was published stays in the
//! history. Knows commits, not why somebody wants one back.

use agent_runtime::repository::{CommitId, Repository};

use crate::{
    commit::{self, Draft},
    conflict::Conflict,
    merge::{Error, Sides},
    strategy::{
        Candidate, Disagreement, Integration, Prepared, published, settle, subject, time_after,
        tree_of,
    },
};

/// Makes the commit that takes `work.source`, which the target contains, back, as far as what came after it
/// allows.
pub(crate) async fn prepare(
    repository: &Repository,
    work: &Integration,
    before: Option<CommitId>,
) -> Result<Prepared, Error> {
    let (source, target) = (work.source, work.target);
    if let Some(by) = published(repository, work, Some(source)).await? {
        return Ok(Prepared::AlreadyContained { by: Some(by) });
    }
    let parents = repository.commit_summary(source).await?.parents;
    let Some(before) = before.or(parents.first().copied()) else {
        return Ok(Prepared::NoWayBack);
    };
    // A place that has the source already is not one before it.
    if repository.contains(before, source).await? || !repository.contains(source, before).await? {
        return Ok(Prepared::NoWayBack);
    }
    let sides = Sides {
        base: Some(source),
        ours: target,
        theirs: before,
    };
    let merged = settle(repository, sides, &work.choices).await?;
    if merged.conflicts.iter().any(Conflict::is_open) {
        return Ok(Prepared::Conflict(Disagreement {
            conflicts: merged.conflicts,
            stopped_at: None,
        }));
    }
    let work = work.clone();
    let is_range = parents.as_slice() != [before];
    repository
        .with_objects("write the revert", move |objects, _| {
            if tree_of(objects, target)? == merged.tree {
                return Ok(Prepared::AlreadyContained { by: None });
            }
            let reverted = objects
                .find_commit(source.oid())
                .map_err(Error::object("read a commit"))?;
            let message =
                work.purpose
                    .revert_message(&subject(&reverted), (source, before), is_range);
            let commit = commit::write(
                objects,
                &Draft {
                    tree: merged.tree,
                    parents: vec![target],
                    author: None,
                    committer: &work.committer,
                    time: time_after(objects, &work, &[target])?,
                    encoding: None,
                    message: message.as_bytes(),
                },
            )?;
            Ok(Prepared::Candidate(Candidate {
                commit,
                tree: merged.tree,
                base: Some(source),
                theirs: before,
                conflicts: merged.conflicts,
            }))
        })
        .await
}
