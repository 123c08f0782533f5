//! Makes the commit that the target branch shall get, by one of four strategies, from two commits. Nothing
//! is published here, and no branch is looked at.

use agent_runtime::repository::{self, CommitId, Repository};
use git2::Oid;

use crate::{
    commit::{self, Draft, Identity, Purpose, REVERTS_TRAILER, SOURCE_TRAILER},
    conflict::Conflict,
    merge::{Error, Markers, Merged, Sides, merge},
    reapply,
    resolution::{Choices, resolve},
    revert,
};

mod rebase;

use self::rebase::rebased;

/// Most commits that are carried over one by one.
const MOST_COMMITS: usize = 1000;
/// How far back the target is searched for a commit of the same task.
pub(crate) const SEARCH_LIMIT: usize = 10_000;

/// How the source's commits come into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// A commit with two parents.
    Merge,
    /// One commit with the whole change.
    Squash,
    /// The source's commits anew on the target.
    Rebase,
    /// Only if the source contains the target.
    FastForward,
    /// One commit that takes back what came with the source.
    Revert {
        /// What the target was before; none: the first parent of the source.
        before: Option<CommitId>,
    },
}

/// What is to be integrated.
#[derive(Clone, Debug)]
pub struct Integration {
    /// The change; for a revert, the commit by which it came into the target.
    pub source: CommitId,
    /// The target's tip.
    pub target: CommitId,
    /// How.
    pub strategy: Strategy,
    /// What was decided about conflicts.
    pub choices: Choices,
    /// What the commits say.
    pub purpose: Purpose,
    /// Who commits.
    pub committer: Identity,
}

/// What can be done.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// The target has it already.
    AlreadyContained {
        /// The commit of the target by which it came there, when it was this very task.
        by: Option<CommitId>,
    },
    /// The target can just move to this commit.
    FastForward(CommitId),
    /// The target can get this commit, if it proves good.
    Candidate(Candidate),
    /// The sides disagree.
    Conflict(Disagreement),
    /// A fast-forward was asked for and is not possible.
    NotFastForward,
    /// The two share no history.
    Unrelated,
    /// What the target was before the source is not known.
    NoWayBack,
}

/// A commit for the target.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: Oid,
    /// The base that the sides were compared with, if it was one.
    pub base: Option<CommitId>,
    /// What the target was merged with.
    pub theirs: CommitId,
    /// Conflicts, all of them settled.
    pub conflicts: Vec<Conflict>,
}

/// Conflicts that nobody settled.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The conflicts; some may be settled.
    pub conflicts: Vec<Conflict>,
    /// The commit of the source at which a rebase stopped.
    pub stopped_at: Option<CommitId>,
}

/// Makes the commit, as far as the sides agree.
pub async fn prepare(repository: &Repository, work: &Integration) -> Result<Prepared, Error> {
    let (source, target) = (work.source, work.target);
    let contained = repository.contains(target, source).await?;
    if let (true, Strategy::Revert { before }) = (contained, work.strategy) {
        return revert::prepare(repository, work, before).await;
    }
    let base = match repository.merge_base(target, source).await {
        Err(repository::Error::Unrelated { .. }) => return Ok(Prepared::Unrelated),
        base => base?,
    };
    let since = (!contained).then_some(base);
    if let Some(by) = published(repository, work, since).await? {
        return Ok(Prepared::AlreadyContained { by: Some(by) });
    }
    let reverts = reapply::reverts(repository, work, base).await?;
    match work.strategy {
        // Nothing of it is there.
        Strategy::Revert { .. } => Ok(Prepared::AlreadyContained { by: None }),
        Strategy::FastForward if !reverts.is_empty() => Ok(Prepared::NotFastForward),
        Strategy::Merge | Strategy::Squash | Strategy::Rebase if !reverts.is_empty() => {
            reapply::prepare(repository, work, reverts).await
        }
        Strategy::Merge | Strategy::Squash | Strategy::Rebase | Strategy::FastForward
            if contained =>
        {
            Ok(Prepared::AlreadyContained { by: None })
        }
        Strategy::FastForward if base == target => Ok(Prepared::FastForward(source)),
        Strategy::FastForward => Ok(Prepared::NotFastForward),
        Strategy::Squash => joined(repository, work, true).await,
        Strategy::Rebase => rebased(repository, work, base).await,
        Strategy::Merge => joined(repository, work, false).await,
    }
}

/// The commit that an earlier run of this task put on the target.
pub(crate) async fn published(
    repository: &Repository,
    work: &Integration,
    since: Option<CommitId>,
) -> Result<Option<CommitId>, Error> {
    let (source, target) = (work.source, work.target);
    let purpose = work.purpose.clone();
    let trailer = match work.strategy {
        Strategy::Revert { .. } => REVERTS_TRAILER,
        Strategy::Merge | Strategy::Squash | Strategy::Rebase | Strategy::FastForward => {
            SOURCE_TRAILER
        }
    };
    if purpose.task_id.is_empty() {
        return Ok(None);
    }
    let action = "look for an earlier run of the task";
    repository
        .with_objects(action, move |objects, gone| {
            let mut walk = objects.revwalk().map_err(Error::object(action))?;
            walk.push(target.oid()).map_err(Error::object(action))?;
            if let Some(since) = since {
                walk.hide(since.oid()).map_err(Error::object(action))?;
            }
            for id in walk.take(SEARCH_LIMIT) {
                gone.check(action)?;
                let commit = id
                    .and_then(|id| objects.find_commit(id))
                    .map_err(Error::object(action))?;
                let message = String::from_utf8_lossy(commit.message_bytes());
                if purpose.made(trailer, &message, source) {
                    return Ok(Some(commit.id().into()));
                }
            }
            Ok(None)
        })
        .await
}

/// A merge commit, or its whole change as one commit.
async fn joined(
    repository: &Repository,
    work: &Integration,
    squash: bool,
) -> Result<Prepared, Error> {
    let sides = Sides {
        base: None,
        ours: work.target,
        theirs: work.source,
    };
    let merged = settle(repository, sides, &work.choices).await?;
    if merged.conflicts.iter().any(Conflict::is_open) {
        return Ok(Prepared::Conflict(Disagreement {
            conflicts: merged.conflicts,
            stopped_at: None,
        }));
    }
    let work = work.clone();
    repository
        .with_objects("write the merge", move |objects, _| {
            if squash && tree_of(objects, work.target)? == merged.tree {
                return Ok(Prepared::AlreadyContained { by: None });
            }
            let commit = if squash {
                write_squash(objects, &work, &merged)?
            } else {
                write_merge(objects, &work, &merged)?
            };
            Ok(Prepared::Candidate(Candidate {
                commit,
                tree: merged.tree,
                base: only_base(objects, &work)?,
                theirs: work.source,
                conflicts: merged.conflicts,
            }))
        })
        .await
}

/// The best common ancestor of the two, unless there are several.
fn only_base(objects: &git2::Repository, work: &Integration) -> Result<Option<CommitId>, Error> {
    let bases = objects
        .merge_bases(work.target.oid(), work.source.oid())
        .map_err(Error::object("find the merge base"))?;
    Ok(match &*bases {
        [only] => Some(CommitId::from(*only)),
        _ => None,
    })
}

pub(crate) async fn settle(
    repository: &Repository,
    sides: Sides,
    choices: &Choices,
) -> Result<Merged, Error> {
    let merged = merge(repository, sides, Markers::Usual).await?;
    resolve(repository, sides, merged, choices).await
}

fn write_merge(
    objects: &git2::Repository,
    work: &Integration,
    merged: &Merged,
) -> Result<CommitId, Error> {
    let message = work.purpose.merge_message(work.source);
    commit::write(
        objects,
        &Draft {
            tree: merged.tree,
            parents: vec![work.target, work.source],
            author: None,
            committer: &work.committer,
            time: time_after(objects, work, &[work.target, work.source])?,
            encoding: None,
            message: message.as_bytes(),
        },
    )
}

fn write_squash(
    objects: &git2::Repository,
    work: &Integration,
    merged: &Merged,
) -> Result<CommitId, Error> {
    let action = "read the squashed commits";
    let mut walk = objects.revwalk().map_err(Error::object(action))?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::REVERSE)
        .and_then(|()| walk.push(work.source.oid()))
        .and_then(|()| walk.hide(work.target.oid()))
        .map_err(Error::object(action))?;
    let mut subjects = Vec::new();
    for id in walk {
        let commit = id
            .and_then(|id| objects.find_commit(id))
            .map_err(Error::object(action))?;
        if commit.parent_count() < 2 && subjects.len() < MOST_COMMITS {
            subjects.push(subject(&commit));
        }
    }
    let source = objects
        .find_commit(work.source.oid())
        .map_err(Error::object(action))?;
    let message = work.purpose.squash_message(&subjects, work.source);
    commit::write(
        objects,
        &Draft {
            tree: merged.tree,
            parents: vec![work.target],
            author: commit::header_field(&source, "author").as_deref(),
            committer: &work.committer,
            time: time_after(objects, work, &[work.target, work.source])?,
            encoding: None,
            message: message.as_bytes(),
        },
    )
}

/// Not before the task was made, nor before the commits that it comes from; the same at every run.
pub(crate) fn time_after(
    objects: &git2::Repository,
    work: &Integration,
    commits: &[CommitId],
) -> Result<i64, Error> {
    let mut time = work.purpose.task_time;
    for commit in commits {
        let commit = objects
            .find_commit(commit.oid())
            .map_err(Error::object("read a commit's time"))?;
        time = time.max(commit.time().seconds());
    }
    Ok(time)
}

pub(crate) fn tree_of(objects: &git2::Repository, commit: CommitId) -> Result<Oid, Error> {
    objects
        .find_commit(commit.oid())
        .map(|commit| commit.tree_id())
        .map_err(Error::object("read a commit"))
}

pub(crate) fn subject(commit: &git2::Commit<'_>) -> String {
    String::from_utf8_lossy(commit.message_bytes())
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
