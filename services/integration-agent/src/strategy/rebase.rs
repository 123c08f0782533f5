//! The source's commits anew on the target. Publishes nothing.

use agent_runtime::repository::{self, CommitId, Repository};
use git2::Oid;

use super::{
    Candidate, Disagreement, Integration, MOST_COMMITS, Prepared, settle, time_after, tree_of,
};
use crate::{
    commit::{self, Draft, Identity},
    conflict::Conflict,
    merge::{Error, Sides},
};

/// The source's commits one after the other on the target, as `git rebase` does it: merges are left out, and
/// so is what the target has already.
pub(super) async fn rebased(
    repository: &Repository,
    work: &Integration,
    base: CommitId,
) -> Result<Prepared, Error> {
    let commits = to_carry_over(repository, work).await?;
    let linear = repository
        .with_objects("read the source's history", {
            let work = work.clone();
            move |objects, _| is_linear(objects, &work)
        })
        .await?;
    if base == work.target && linear {
        return Ok(Prepared::FastForward(work.source));
    }
    let mut tip = work.target;
    let mut conflicts = Vec::new();
    let last = commits.last().copied();
    for commit in commits {
        let parent = parent_of(repository, commit).await?;
        let sides = Sides {
            base: Some(parent),
            ours: tip,
            theirs: commit,
        };
        let merged = settle(repository, sides, &work.choices).await?;
        let open = merged.conflicts.iter().any(Conflict::is_open);
        conflicts.extend(merged.conflicts.iter().cloned());
        if open {
            return Ok(Prepared::Conflict(Disagreement {
                conflicts,
                stopped_at: Some(commit),
            }));
        }
        let work = work.clone();
        let is_last = Some(commit) == last;
        tip = repository
            .with_objects("carry a commit over", move |objects, _| {
                carry_over(objects, &work, (tip, parent, commit), merged.tree, is_last)
            })
            .await?;
    }
    if tip == work.target {
        return Ok(Prepared::AlreadyContained { by: None });
    }
    let source = work.source;
    repository
        .with_objects("read the rebased tree", move |objects, _| {
            Ok(Prepared::Candidate(Candidate {
                commit: tip,
                tree: tree_of(objects, tip)?,
                // Each commit was compared with its own parent.
                base: None,
                theirs: source,
                conflicts,
            }))
        })
        .await
}

/// The commits that a rebase carries over, oldest first.
async fn to_carry_over(
    repository: &Repository,
    work: &Integration,
) -> Result<Vec<CommitId>, Error> {
    let arguments = [
        "rev-list",
        "--topo-order",
        "--reverse",
        "--no-merges",
        "--cherry-pick",
        "--right-only",
        &format!("{}...{}", work.target, work.source),
        "--",
    ]
    .map(str::to_owned);
    let output = repository
        .plumbing("rev-list", None, &arguments, None)
        .await?;
    if output.code != Some(0) {
        return Err(Error::Git {
            detail: output.stderr,
        });
    }
    let commits: Vec<CommitId> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    if commits.len() > MOST_COMMITS {
        return Err(Error::Repository(repository::Error::TooLarge {
            what: "the source".to_owned(),
            limit: format!("{MOST_COMMITS} commits for a rebase"),
        }));
    }
    Ok(commits)
}

fn is_linear(objects: &git2::Repository, work: &Integration) -> Result<bool, Error> {
    let action = "read the source's history";
    let mut walk = objects.revwalk().map_err(Error::object(action))?;
    walk.push(work.source.oid())
        .and_then(|()| walk.hide(work.target.oid()))
        .map_err(Error::object(action))?;
    for id in walk {
        let commit = id
            .and_then(|id| objects.find_commit(id))
            .map_err(Error::object(action))?;
        if commit.parent_count() > 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The commit that a change is relative to. For a root commit that is a commit with nothing in it.
async fn parent_of(repository: &Repository, commit: CommitId) -> Result<CommitId, Error> {
    let action = "read a commit's parent";
    repository
        .with_objects(action, move |objects, _| {
            let commit = objects
                .find_commit(commit.oid())
                .map_err(Error::object(action))?;
            if let Ok(parent) = commit.parent_id(0) {
                return Ok(parent.into());
            }
            let tree = objects
                .treebuilder(None)
                .and_then(|builder| builder.write())
                .map_err(Error::object(action))?;
            let nobody = Identity {
                name: "merge".to_owned(),
                email: "merge@localhost".to_owned(),
            };
            commit::write(
                objects,
                &Draft {
                    tree,
                    parents: Vec::new(),
                    author: None,
                    committer: &nobody,
                    time: 0,
                    encoding: None,
                    message: b"nothing",
                },
            )
        })
        .await
}

/// Writes `commit` anew on `tip`; gives `tip` itself when nothing of it is left.
fn carry_over(
    objects: &git2::Repository,
    work: &Integration,
    (tip, parent, original): (CommitId, CommitId, CommitId),
    tree: Oid,
    is_last: bool,
) -> Result<CommitId, Error> {
    let action = "carry a commit over";
    let commit = objects
        .find_commit(original.oid())
        .map_err(Error::object(action))?;
    let was_empty = tree_of(objects, parent)? == commit.tree_id();
    if tree == tree_of(objects, tip)? && !was_empty {
        return Ok(tip);
    }
    let message = if is_last {
        work.purpose
            .add_trailers(commit.message_raw_bytes(), work.source)
    } else {
        commit.message_raw_bytes().to_vec()
    };
    commit::write(
        objects,
        &Draft {
            tree,
            parents: vec![tip],
            author: commit::header_field(&commit, "author").as_deref(),
            committer: &work.committer,
            time: time_after(objects, work, &[tip, original])?,
            encoding: commit::header_field(&commit, "encoding").as_deref(),
            message: &message,
        },
    )
}
