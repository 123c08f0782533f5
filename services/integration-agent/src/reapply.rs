//! Brings back what was merged and taken back by us. Git takes such a change for merged: it is in the target's
//! history, though nothing of it is in its tree. Only reverts that say whose they are count; what people
//! revert is theirs to bring back.

use agent_runtime::repository::{CommitId, Repository};
use git2::Oid;

use crate::{
    commit::{self, Draft, REAPPLIES_TRAILER, REVERTS_TRAILER, SOURCE_TRAILER},
    conflict::Conflict,
    merge::{Error, Sides},
    strategy::{
        Candidate, Disagreement, Integration, Prepared, SEARCH_LIMIT, Strategy, settle, subject,
        time_after, tree_of,
    },
};

/// The reverts of the target, newest first, by which it lost something that the source has. `since` is where
/// the two parted.
pub(crate) async fn reverts(
    repository: &Repository,
    work: &Integration,
    since: CommitId,
) -> Result<Vec<CommitId>, Error> {
    let (source, target) = (work.source, work.target);
    let action = "look for reverts of the source";
    repository
        .with_objects(action, move |objects, gone| {
            let mut walk = objects.revwalk().map_err(Error::object(action))?;
            walk.set_sorting(git2::Sort::TOPOLOGICAL)
                .and_then(|()| walk.push(target.oid()))
                .and_then(|()| walk.hide(since.oid()))
                .map_err(Error::object(action))?;
            let (mut found, mut reapplied) = (Vec::new(), Vec::new());
            for id in walk.take(SEARCH_LIMIT) {
                gone.check(action)?;
                let commit = id
                    .and_then(|id| objects.find_commit(id))
                    .map_err(Error::object(action))?;
                reapplied.extend(named(&commit, REAPPLIES_TRAILER));
                let is_relevant = !reapplied.contains(&commit.id())
                    && named(&commit, REVERTS_TRAILER)
                        .into_iter()
                        .any(|reverted| came_with(objects, source.oid(), reverted));
                if is_relevant {
                    found.push(commit.id().into());
                }
            }
            Ok(found)
        })
        .await
}

/// The commits that trailers of this name tell.
fn named(commit: &git2::Commit<'_>, trailer: &str) -> Vec<Oid> {
    String::from_utf8_lossy(commit.message_bytes())
        .lines()
        .filter_map(|line| line.strip_prefix(trailer)?.strip_prefix(": ")?.parse().ok())
        .collect()
}

/// Whether what was reverted had brought something of the source.
fn came_with(objects: &git2::Repository, source: Oid, reverted: Oid) -> bool {
    let Ok(commit) = objects.find_commit(reverted) else {
        return false;
    };
    let mut brought = named(&commit, SOURCE_TRAILER);
    brought.push(commit.parent_id(1).unwrap_or(reverted));
    brought
        .into_iter()
        .any(|it| it == source || objects.graph_descendant_of(source, it).unwrap_or(false))
}

/// Makes the commit that takes the reverts back, and with it what else the source has.
pub(crate) async fn prepare(
    repository: &Repository,
    work: &Integration,
    reverts: Vec<CommitId>,
) -> Result<Prepared, Error> {
    let target = work.target;
    let mut tip = target;
    let mut conflicts = Vec::new();
    let mut steps = Vec::new();
    for revert in &reverts {
        let before = repository.commit_summary(*revert).await?.parents;
        let Some(before) = before.first() else {
            continue;
        };
        steps.push((Some(*revert), *before));
    }
    if !repository.contains(target, work.source).await? {
        steps.push((None, work.source));
    }
    for (base, theirs) in steps {
        let sides = Sides {
            base,
            ours: tip,
            theirs,
        };
        let merged = settle(repository, sides, &work.choices).await?;
        let open = merged.conflicts.iter().any(Conflict::is_open);
        conflicts.extend(merged.conflicts);
        if open {
            return Ok(Prepared::Conflict(Disagreement {
                conflicts,
                stopped_at: None,
            }));
        }
        let work = work.clone();
        tip = repository
            .with_objects("bring a change back", move |objects, _| {
                write(objects, &work, merged.tree, vec![tip], b"step")
            })
            .await?;
    }
    let work = work.clone();
    repository
        .with_objects("bring a change back", move |objects, _| {
            let tree = tree_of(objects, tip)?;
            if tree == tree_of(objects, target)? {
                return Ok(Prepared::AlreadyContained { by: None });
            }
            let (message, parents) = match work.strategy {
                Strategy::Merge => (
                    work.purpose.merge_message(work.source),
                    vec![target, work.source],
                ),
                Strategy::Squash
                | Strategy::Rebase
                | Strategy::FastForward
                | Strategy::Revert { .. } => {
                    let source = objects
                        .find_commit(work.source.oid())
                        .map_err(Error::object("read the source"))?;
                    let subjects = [subject(&source)];
                    let message = work.purpose.squash_message(&subjects, work.source);
                    (message, vec![target])
                }
            };
            let message = reverts.iter().fold(message, |message, revert| {
                message + REAPPLIES_TRAILER + ": " + &revert.to_string() + "\n"
            });
            Ok(Prepared::Candidate(Candidate {
                commit: write(objects, &work, tree, parents, message.as_bytes())?,
                tree,
                base: None,
                theirs: work.source,
                conflicts,
            }))
        })
        .await
}

fn write(
    objects: &git2::Repository,
    work: &Integration,
    tree: Oid,
    parents: Vec<CommitId>,
    message: &[u8],
) -> Result<CommitId, Error> {
    commit::write(
        objects,
        &Draft {
            tree,
            parents,
            author: None,
            committer: &work.committer,
            time: time_after(objects, work, &[work.target, work.source])?,
            encoding: None,
            message,
        },
    )
}
