//! Moves one reference of the real repository, and only if it is where the caller expects it. A branch is
//! never rewritten: whatever is there stays in the new commit's history.

use std::time::Duration;

use super::{
    CommitId, Error, Rejection, Repository,
    git::{Finished, detail, failure},
    resolve::contains,
};

/// How long a reference's lock, held by somebody else, is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a held lock.
const LOCK_PAUSE: Duration = Duration::from_millis(250);

/// How the receiving end runs when it is on this machine. A branch that is checked out there is updated
/// together with its work tree, if that is clean, and otherwise refused. Nothing of this is written to its
/// configuration.
const LOCAL_RECEIVE_PACK: &str = "--receive-pack=git -c receive.denyCurrentBranch=updateInstead \
    -c core.filesRefLockTimeout=5000 -c core.packedRefsTimeout=5000 receive-pack";

/// Where a reference must be for a push to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It does not exist.
    Absent,
    /// It is at this commit, which the new one contains.
    At(CommitId),
    /// It is anywhere that the new commit contains, or does not exist.
    FastForward,
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The reference moved.
    Moved,
    /// The reference was there already.
    AlreadyThere,
}

impl Repository {
    /// Makes `reference` of the real repository point to `commit`, if it is where `expect` says. What is
    /// there already is a success, so that a push may be repeated.
    pub async fn push(
        &self,
        commit: CommitId,
        reference: &str,
        expect: Expectation,
    ) -> Result<Pushed, Error> {
        check_reference(reference)?;
        let patience = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            let current = self.remote_tip(reference).await?;
            if current == Some(commit) {
                return Ok(Pushed::AlreadyThere);
            }
            self.check(commit, reference, expect, current).await?;
            match self.push_once(commit, reference, current).await {
                Err(Error::Rejected {
                    rejection: Rejection::Locked { .. },
                    ..
                }) if tokio::time::Instant::now() < patience => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                // Anybody may have moved it since we looked; if only the look is old, look again.
                Err(error) if error.is_moved() && expect == Expectation::FastForward => {
                    if self.remote_tip(reference).await? == current {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(Pushed::Moved),
            }
        }
    }

    async fn check(
        &self,
        commit: CommitId,
        reference: &str,
        expect: Expectation,
        current: Option<CommitId>,
    ) -> Result<(), Error> {
        let reject = |rejection| Err(self.rejected(reference, rejection));
        match (expect, current) {
            (Expectation::Absent | Expectation::FastForward, None) => Ok(()),
            (Expectation::Absent, Some(actual)) => reject(Rejection::Exists {
                actual: actual.to_string(),
            }),
            (Expectation::At(expected), actual) if actual != Some(expected) => {
                reject(Rejection::Moved {
                    actual: actual.map(|actual| actual.to_string()),
                })
            }
            (Expectation::At(_) | Expectation::FastForward, Some(current)) => {
                if self.includes(commit, current).await? {
                    Ok(())
                } else {
                    reject(Rejection::NotFastForward)
                }
            }
            (Expectation::At(_), None) => reject(Rejection::Moved { actual: None }),
        }
    }

    /// Whether `commit` contains `current`, which may be newer than our copy.
    async fn includes(&self, commit: CommitId, current: CommitId) -> Result<bool, Error> {
        self.with_objects("compare histories", move |objects, _| {
            if objects.find_commit(current.oid()).is_err() {
                // Our commit cannot have a history that we do not know.
                return Ok(false);
            }
            contains(objects, commit, current)
        })
        .await
    }

    async fn push_once(
        &self,
        commit: CommitId,
        reference: &str,
        current: Option<CommitId>,
    ) -> Result<(), Error> {
        let url = &self.inner.url;
        // An empty expectation means "must not exist". Git then lets a non-fast-forward through: `check`
        // has excluded that.
        let expected = current
            .map(|current| current.to_string())
            .unwrap_or_default();
        let mut arguments = vec![
            "push".to_owned(),
            "--porcelain".to_owned(),
            "--no-verify".to_owned(),
            format!("--force-with-lease={reference}:{expected}"),
        ];
        if url.local_path().is_some() {
            arguments.push(LOCAL_RECEIVE_PACK.to_owned());
        }
        arguments.extend([
            "--".to_owned(),
            url.as_str().to_owned(),
            format!("{commit}:{reference}"),
        ]);
        let folder = Some(self.inner.folder.as_path());
        let finished = self.inner.git.run("push", folder, url, arguments).await?;
        if finished.status.success() {
            return Ok(());
        }
        match rejection(&finished) {
            Some(rejection) => Err(self.rejected(reference, rejection)),
            None => Err(failure("push", url, &finished)),
        }
    }

    fn rejected(&self, reference: &str, rejection: Rejection) -> Error {
        Error::Rejected {
            url: self.inner.url.to_string(),
            reference: reference.to_owned(),
            rejection,
        }
    }
}

/// The reason in git's porcelain line `!<tab>from:to<tab>[rejected] (reason)`.
fn rejection(finished: &Finished) -> Option<Rejection> {
    let text = finished.text();
    let line = text.lines().find_map(|line| line.strip_prefix("!\t"))?;
    let reason = line.rsplit('\t').next().unwrap_or(line);
    let words = format!("{reason}\n{}", finished.stderr);
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    let rejection = if says(&[
        "but expected",
        "stale info",
        "fetch first",
        "incorrect old value",
    ]) || (says(&["reference already exists"]))
    {
        Rejection::Moved { actual: None }
    } else if says(&["non-fast-forward"]) {
        Rejection::NotFastForward
    } else if says(&[".lock': File exists", "Unable to create", "cannot lock ref"]) {
        Rejection::Locked {
            detail: detail(&finished.stderr),
        }
    } else if says(&[
        "Working directory has",
        "working tree",
        "unstaged changes",
        "staged changes",
        "would be overwritten",
    ]) {
        Rejection::WorkTreeDirty {
            detail: detail(reason),
        }
    } else if says(&["branch is currently checked out", "denyCurrentBranch"]) {
        Rejection::CheckedOut
    } else {
        let mut said = detail(&finished.stderr);
        if !said.contains(reason) {
            said = format!("{reason} {said}");
        }
        Rejection::Policy { detail: said }
    };
    Some(rejection)
}

/// Whether git would take `reference` for a full reference name.
pub(super) fn check_reference(reference: &str) -> Result<(), Error> {
    let plain = reference.starts_with("refs/") && reference.len() <= 1024;
    if plain && git2::Reference::is_valid_name(reference) {
        Ok(())
    } else {
        Err(Error::InvalidReference {
            reference: reference.chars().take(200).collect(),
        })
    }
}
