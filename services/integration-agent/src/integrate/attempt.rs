//! One integration in progress: each try prepares, proves and publishes, and may have to follow its target.

use std::{collections::BTreeSet, path::PathBuf};

use agent_runtime::repository::{
    self, CheckoutSettings, CommitId, Expectation, Rejection, Repository,
};

use super::{
    End, Error, MOST_REMERGES, Order, PATCH_LIMIT, REMERGE_PAUSE, Report, Workplace, reference_of,
};
use crate::{
    checks::{self, CheckRun, Checked, Plan},
    conflict::{Author, Conflict},
    decision::{AS_IT_IS, Question, side_of},
    ladder::{Name, Rung, Verdict, form, regions},
    merge,
    resolution::Choices,
    strategy::{Candidate, Disagreement, Integration, Prepared, Strategy, prepare},
    trees::Trees,
};

/// An integration in progress.
pub(super) struct Attempt<'a> {
    pub(super) order: &'a Order,
    pub(super) repository: Repository,
    pub(super) work: Integration,
    pub(super) report: Report,
}

/// What the next step is.
pub(super) enum Next {
    Done(End),
    Again,
}

impl Attempt<'_> {
    pub(super) async fn once(&mut self, place: &Workplace) -> Result<Next, Error> {
        place.says(
            10.0,
            "merge",
            format!("{} into {}", self.order.source_name, self.report.target),
        );
        self.report.rungs.clear();
        self.report.checks.clear();
        let mut prepared = prepare(&self.repository, &self.work).await?;
        if let Prepared::Conflict(disagreement) = &prepared
            && let Some(choices) = self.answered(disagreement).await?
        {
            let work = Integration {
                choices,
                ..self.work.clone()
            };
            prepared = prepare(&self.repository, &work).await?;
        }
        let unmerged = |verdict, reason: String| {
            Next::Done(End::Unmerged {
                verdict,
                reason,
                question: None,
                stopped_at: None,
            })
        };
        let (source, target) = (&self.order.source_name, &self.report.target);
        match prepared {
            Prepared::AlreadyContained { by } => {
                Ok(Next::Done(End::AlreadyContained { commit: by }))
            }
            Prepared::NotFastForward => Ok(unmerged(
                Verdict::Failed,
                format!(
                    "{source} does not contain {target}, so that {target} cannot be moved forward to it: \
                     choose another strategy, or bring {source} up to date"
                ),
            )),
            Prepared::Unrelated => Ok(unmerged(
                Verdict::Failed,
                format!("{source} and {target} share no history"),
            )),
            Prepared::NoWayBack => Ok(unmerged(
                Verdict::NotProven,
                format!("what {target} was before is not known: revert the commit by hand"),
            )),
            Prepared::Conflict(disagreement) => self.conflict(disagreement).await,
            Prepared::FastForward(commit) => {
                self.report.changed = self.changed_paths(commit).await?;
                self.publish(commit, None, place).await
            }
            Prepared::Candidate(candidate) => self.prove(candidate, place).await,
        }
    }

    /// The side that a person chose for exactly these conflicts.
    async fn answered(&self, disagreement: &Disagreement) -> Result<Option<Choices>, Error> {
        let question = self.conflict_question(disagreement).await?;
        let answer = question.answer(&self.order.approvals);
        Ok(answer.and_then(|approval| {
            let choice = side_of(&approval.choice)?;
            Some(Choices::Everywhere(
                choice,
                Author::Person(approval.actor.clone()),
            ))
        }))
    }

    async fn conflict_question(&self, disagreement: &Disagreement) -> Result<Question, Error> {
        let conflicts = disagreement.conflicts.clone();
        let (source, target) = (self.order.source_name.clone(), self.report.target.clone());
        self.repository
            .with_objects("show conflicts", move |objects, _| {
                Ok(Question::about_conflicts(
                    objects, &conflicts, &source, &target,
                ))
            })
            .await
    }

    async fn conflict(&mut self, disagreement: Disagreement) -> Result<Next, Error> {
        let question = self.conflict_question(&disagreement).await?;
        let open: Vec<_> = disagreement
            .conflicts
            .iter()
            .filter(|conflict| conflict.is_open())
            .collect();
        let shown: Vec<_> = open
            .iter()
            .take(3)
            .map(|conflict| format!("{} ({})", conflict.path.display(), conflict.explanation))
            .collect();
        let more = if open.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        let reason = format!(
            "{} conflicts with {} in {} place(s): {}{more}",
            self.order.source_name,
            self.report.target,
            open.len(),
            shown.join(", "),
        );
        self.report.conflicts = disagreement.conflicts;
        Ok(Next::Done(End::Unmerged {
            verdict: Verdict::NotProven,
            reason,
            question: Some(question),
            stopped_at: disagreement.stopped_at,
        }))
    }

    async fn prove(&mut self, candidate: Candidate, place: &Workplace) -> Result<Next, Error> {
        self.report.conflicts.clone_from(&candidate.conflicts);
        self.report.changed = self.changed_paths(candidate.commit).await?;
        place.says(20.0, "prove", "looking at the merge");
        self.look_at(&candidate).await?;
        if self.order.run_checks {
            self.check(&candidate, place).await?;
        } else {
            let reason = "the task does not ask for checks";
            self.report
                .rungs
                .push(Rung::not_proven(Name::Checks, reason));
        }
        self.report.rungs.push(hunks_rung(&candidate.conflicts));
        let missing: Vec<_> = self.missing().cloned().collect();
        if missing.is_empty() {
            return self.publish(candidate.commit, None, place).await;
        }
        let (patch, _) = self
            .repository
            .patch(Some(self.work.target), candidate.commit, PATCH_LIMIT)
            .await?;
        let question = Question::about_rungs(
            &missing,
            candidate.tree,
            &self.report.checks,
            &patch,
            &self.order.source_name,
            &self.report.target,
        );
        let waived_by = question
            .answer(&self.order.approvals)
            .filter(|approval| approval.choice.is_empty() || approval.choice == AS_IT_IS)
            .map(|approval| approval.actor.clone());
        if waived_by.is_some() {
            return self.publish(candidate.commit, waived_by, place).await;
        }
        let failed = missing.iter().find(|rung| rung.verdict == Verdict::Failed);
        let worst = failed.or(missing.first());
        Ok(Next::Done(End::Unmerged {
            verdict: worst.map_or(Verdict::NotProven, |rung| rung.verdict),
            reason: worst.map_or_else(String::new, |rung| {
                format!("the merge is clean, but {}: {}", rung.name, rung.reason)
            }),
            question: Some(question),
            stopped_at: None,
        }))
    }

    /// Rungs that must hold and were not seen to.
    fn missing(&self) -> impl Iterator<Item = &Rung> {
        let run_checks = self.order.run_checks;
        self.report.rungs.iter().filter(move |rung| {
            let demanded = match rung.name {
                Name::Form | Name::Regions | Name::Publish => true,
                Name::Checks => run_checks,
                Name::Hunks => false,
            };
            demanded && rung.verdict != Verdict::Passed
        })
    }

    async fn look_at(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let trees = Trees::read(
            &self.repository,
            candidate.base,
            self.work.target,
            candidate.theirs,
            candidate.commit,
        )
        .await?;
        let settled: BTreeSet<PathBuf> = candidate
            .conflicts
            .iter()
            .flat_map(|conflict| {
                let sides = [&conflict.base, &conflict.ours, &conflict.theirs];
                let sides = sides.into_iter().flatten().map(|side| side.path.clone());
                sides
                    .chain(conflict.unmerged.iter().cloned())
                    .collect::<Vec<_>>()
            })
            .collect();
        let rungs = self
            .repository
            .with_objects("look at a merge", move |objects, _| {
                Ok::<_, merge::Error>([
                    form::look(objects, &trees)?,
                    regions::look(objects, &trees, &settled)?,
                ])
            })
            .await?;
        self.report.rungs.extend(rungs);
        Ok(())
    }

    async fn check(&mut self, candidate: &Candidate, place: &Workplace) -> Result<(), Error> {
        let plan = Plan::of_both(
            &self.repository,
            self.work.target,
            candidate.theirs,
            candidate.commit,
        )
        .await?;
        if let Some(rung) = self.seen_before(candidate, &plan).await? {
            self.report.rungs.push(rung);
            return Ok(());
        }
        place.says(
            30.0,
            "checks",
            "running the checks of both sides on the merge",
        );
        if !plan.is_empty() {
            let mut checked = self.run_checks(&plan, candidate.commit, place).await?;
            self.report.programs.append(&mut checked.programs);
            self.compare_with_target(&plan, &mut checked.runs, place)
                .await?;
            self.report.checks = checked.runs;
        }
        self.report.rungs.push(checks::rung(&self.report.checks));
        Ok(())
    }

    async fn run_checks(
        &self,
        plan: &Plan,
        commit: CommitId,
        place: &Workplace,
    ) -> Result<Checked, Error> {
        let settings = CheckoutSettings {
            with_git: true,
            ..CheckoutSettings::default()
        };
        let folder = &place.running.folder;
        let checkout = self.repository.checkout(commit, folder, settings).await?;
        Ok(plan.run(checkout.path(), &place.running).await?)
    }

    /// Says of a check that fails whether it fails on the target alone too: then the change is not to blame,
    /// and the target is to be mended first.
    async fn compare_with_target(
        &mut self,
        plan: &Plan,
        runs: &mut [CheckRun],
        place: &Workplace,
    ) -> Result<(), Error> {
        let failed: Vec<_> = runs
            .iter()
            .filter(|run| run.verdict == Verdict::Failed)
            .map(|run| run.name.clone())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        place.says(70.0, "checks", "running what failed on the target alone");
        let alone = plan.only(&failed);
        let mut alone = self.run_checks(&alone, self.work.target, place).await?;
        self.report.programs.append(&mut alone.programs);
        for run in runs.iter_mut().filter(|run| failed.contains(&run.name)) {
            let other = alone.runs.iter().find(|other| other.name == run.name);
            let target = &self.report.target;
            let note = match other.map(|other| other.verdict) {
                Some(Verdict::Failed) => format!("; it fails on {target} alone too"),
                Some(Verdict::Passed) => format!("; it passes on {target} alone"),
                Some(Verdict::NotProven) | None => String::new(),
            };
            run.reason.push_str(&note);
        }
        Ok(())
    }

    /// An earlier stage that ran these very checks on this very tree, judged against this very target. Nor is
    /// anything to be proven of what the target was before.
    async fn seen_before(&self, candidate: &Candidate, plan: &Plan) -> Result<Option<Rung>, Error> {
        if let Strategy::Revert { .. } = self.work.strategy {
            let before = self.repository.commit_summary(candidate.theirs).await?;
            return Ok((before.tree == candidate.tree).then(|| {
                let reason = format!(
                    "the tree is that of {}, which {} was before",
                    before.id, self.report.target
                );
                Rung::passed(Name::Checks, reason)
            }));
        }
        if !plan.is_shared() || plan.is_empty() {
            return Ok(None);
        }
        for validated in &self.order.validated {
            if validated.base != self.work.target {
                continue;
            }
            let Ok(commit) = self.repository.commit_summary(validated.commit).await else {
                continue;
            };
            if commit.tree == candidate.tree {
                let reason = format!(
                    "the merge has the tree of {}, which stage {} found good against the same target",
                    validated.commit, validated.stage
                );
                return Ok(Some(Rung::passed(Name::Checks, reason)));
            }
        }
        Ok(None)
    }

    async fn publish(
        &mut self,
        commit: CommitId,
        waived_by: Option<String>,
        place: &Workplace,
    ) -> Result<Next, Error> {
        place.says(
            90.0,
            "publish",
            format!("moving {} to {commit}", self.report.target),
        );
        let reference = reference_of(&self.report.target);
        let expect = Expectation::At(self.work.target);
        match self.repository.push(commit, &reference, expect).await {
            Ok(_) => {
                let reason = format!("{} moved from {}", self.report.target, self.work.target);
                self.report.rungs.push(Rung::passed(Name::Publish, reason));
                Ok(Next::Done(End::Merged { commit, waived_by }))
            }
            Err(error) if error.is_moved() && self.report.remerge_count < MOST_REMERGES => {
                Ok(Next::Again)
            }
            Err(error) => self.refused(error),
        }
    }

    /// The merge is proven, and its place does not take it: that is known, and for people to change.
    fn refused(&mut self, error: repository::Error) -> Result<Next, Error> {
        let known = matches!(
            &error,
            repository::Error::Rejected {
                rejection: Rejection::WorkTreeDirty { .. }
                    | Rejection::CheckedOut
                    | Rejection::Policy { .. }
                    | Rejection::Moved { .. }
                    | Rejection::Exists { .. }
                    | Rejection::NotFastForward,
                ..
            }
        );
        if !known {
            return Err(error.into());
        }
        let (verdict, reason) = if error.is_moved() {
            let reason = format!(
                "{} moved {} times while it was being merged into: {error}",
                self.report.target,
                self.report.remerge_count + 1
            );
            (Verdict::NotProven, reason)
        } else {
            (Verdict::Failed, error.to_string())
        };
        self.report.rungs.push(Rung {
            name: Name::Publish,
            verdict,
            reason: reason.clone(),
        });
        Ok(Next::Done(End::Unmerged {
            verdict,
            reason,
            question: None,
            stopped_at: None,
        }))
    }

    pub(super) async fn follow_target(&mut self, place: &Workplace) -> Result<(), Error> {
        self.report.remerge_count += 1;
        place.says(
            10.0,
            "merge",
            format!("{} moved meanwhile: merging again", self.report.target),
        );
        tokio::time::sleep(REMERGE_PAUSE).await;
        self.repository.refresh().await?;
        let tip = self
            .repository
            .resolve(&reference_of(&self.report.target))
            .await?;
        self.work.target = tip;
        self.report.target_before = Some(tip);
        Ok(())
    }

    async fn changed_paths(&self, commit: CommitId) -> Result<Vec<PathBuf>, Error> {
        let changes = self
            .repository
            .changed_paths(Some(self.work.target), commit)
            .await?;
        Ok(changes.into_iter().map(|change| change.path).collect())
    }
}

/// Whether each side's part of a settled conflict is needed by a test of its own. Recorded as evidence.
fn hunks_rung(conflicts: &[Conflict]) -> Rung {
    if conflicts.is_empty() {
        return Rung::not_proven(
            Name::Hunks,
            "git called the merge clean: no hunk was taken back to see its tests fail",
        );
    }
    let by_people = conflicts.iter().all(|conflict| {
        conflict
            .resolution
            .as_ref()
            .is_some_and(|resolution| matches!(resolution.author, Author::Person(_)))
    });
    if by_people {
        Rung::passed(Name::Hunks, "a person chose the side of every conflict")
    } else {
        Rung::not_proven(
            Name::Hunks,
            "the task chose a side before anybody saw the conflict, and that side's tests do not tell",
        )
    }
}
