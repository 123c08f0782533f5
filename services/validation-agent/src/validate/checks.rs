//! Runs the planned checks in a checkout, takes unchanged ones from the cache, and judges each.

use std::{collections::BTreeMap, path::Path};

use agent_runtime::{project::CheckKind, repository::CommitId, test_report::TestReport};

use super::{
    Change, Job, ValidationError, Validator, checkout_settings,
    judge_run::{escaping, judge_run},
    remembered::Remembered,
};
use crate::{
    assessment::{CheckOutcome, ToolRecord},
    cache::CacheKey,
    coverage::Coverage,
    plan::{CheckPlan, Planned},
    run::{Run, RunError, Workshop},
    subject::Subject,
    verdict::{Judgement, Verdict},
};

/// Runs that execute less than this share of what ran at the base are far shorter than their own history.
const SHARE_OF_HISTORY: f64 = 0.5;
/// Commits behind the base that are looked through for a remembered run.
const HISTORY_COMMITS: usize = 20;

/// What came of the checks.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) outcomes: Vec<CheckOutcome>,
    pub(super) other_runs: Vec<ToolRecord>,
    /// `None`: no check measures it.
    pub(super) coverage: Option<Result<Coverage, String>>,
    pub(super) logs: Vec<(String, String)>,
}

impl Validator {
    /// Runs the checks on the head.
    pub(super) async fn run_checks(
        &self,
        job: &Job<'_>,
        subject: &Subject,
        plan: &CheckPlan,
        change: Option<&Change>,
    ) -> Result<Ran, ValidationError> {
        let mut ran = self
            .run_on(job, job.commits.head, "head", plan, |_| true)
            .await?;
        let has_tests = ran.outcomes.iter().any(|check| check.report.is_some())
            || plan
                .checks
                .iter()
                .any(|planned| planned.check.kind == CheckKind::Tests);
        if !has_tests {
            let mut missing = super::not_asked("tests");
            missing.judgement = Judgement::not_proven("the project has no tests that could be run");
            "built-in".clone_into(&mut missing.origin);
            ran.outcomes.push(missing);
        }
        for planned in &plan.checks {
            let name = planned.check.name.as_str();
            if matches!(planned.check.kind, CheckKind::Build | CheckKind::Tests)
                && !plan.wants(name)
            {
                ran.outcomes.push(super::not_asked(name));
            }
        }
        self.compare_with_history(job, plan, &mut ran).await?;
        if let Some(change) = change {
            for finding in ran
                .outcomes
                .iter_mut()
                .flat_map(|check| &mut check.findings)
            {
                let lines = change.added.get(&finding.path);
                finding.is_new =
                    finding.line == 0 || lines.is_some_and(|lines| lines.contains(&finding.line));
            }
        }
        let today = time::OffsetDateTime::now_utc().date();
        for finding in ran
            .outcomes
            .iter_mut()
            .flat_map(|check| &mut check.findings)
        {
            finding.waiver = subject.policy.waiver_of(&finding.fingerprint, today);
        }
        Ok(ran)
    }

    /// Runs the checks of those kinds on a commit.
    pub(super) async fn run_on(
        &self,
        job: &Job<'_>,
        commit: CommitId,
        side: &str,
        plan: &CheckPlan,
        kinds: impl Fn(CheckKind) -> bool,
    ) -> Result<Ran, ValidationError> {
        let planned: Vec<&Planned> = plan
            .wanted()
            .filter(|planned| kinds(planned.check.kind))
            .collect();
        let folder = job.folder.join(side);
        let tree = job
            .repository
            .commit_summary(commit)
            .await?
            .tree
            .to_string();
        let remembered = self.remembered(job, plan, &planned, &folder, &tree).await;
        let is_known = |planned: &&Planned| remembered.contains_key(planned.check.name.as_str());
        let whole = CacheKey::of(["checkout", &tree]);
        let all_known = !planned.is_empty() && planned.iter().all(is_known);
        if all_known && job.uses_cache() && self.cache.get::<bool>(&whole).is_some() {
            return Ok(Ran::from_memory(&planned, remembered));
        }

        job.reporter
            .progress(15.0, "checkout", format!("checking out {commit}"));
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|source| RunError::Folder {
                path: folder.clone(),
                source,
            })?;
        let checkout = job
            .repository
            .checkout(commit, &folder, checkout_settings())
            .await?;
        let mut ran = Ran::default();
        let left_out = checkout
            .escaping_links()
            .iter()
            .chain(checkout.refused_paths());
        let left_out: Vec<String> = left_out.map(|path| path.display().to_string()).collect();
        if left_out.is_empty() {
            self.cache.put(&whole, &true);
        } else {
            ran.outcomes.push(escaping(&left_out));
        }
        let mut workshop = Workshop::new(
            checkout.path(),
            &folder,
            &self.toolchain,
            job.reporter,
            job.cancel,
        )?;
        let not_installed = if planned.is_empty() {
            None
        } else {
            install(job, plan, &mut workshop, &mut ran).await?
        };
        let bench = Bench {
            workshop,
            checkout: checkout.path(),
            tree: &tree,
            not_installed,
        };
        self.run_at(job, plan, &planned, remembered, &bench, &mut ran)
            .await?;
        Ok(ran)
    }

    async fn run_at(
        &self,
        job: &Job<'_>,
        plan: &CheckPlan,
        planned: &[&Planned],
        mut remembered: BTreeMap<String, Remembered>,
        bench: &Bench<'_>,
        ran: &mut Ran,
    ) -> Result<(), ValidationError> {
        let count = planned.len();
        for (at, planned) in planned.iter().enumerate() {
            let check = &planned.check;
            let name = check.name.as_str();
            let percent = 25.0 + 60.0 * at as f64 / count.max(1) as f64;
            job.reporter.progress_counted(
                percent,
                name,
                format!("running {}", check.step.command),
                at.try_into().unwrap_or(i64::MAX),
                count.try_into().unwrap_or(i64::MAX),
            );
            // A build is remembered only together with everything that stands on it.
            let known = remembered.remove(name);
            if let Some(known) = known.filter(|_| check.kind != CheckKind::Build) {
                job.say(format!("{name}: as remembered: {}", known.reason));
                ran.add_remembered(planned, known);
                continue;
            }
            let limit = job.limit(check.step.timeout);
            let run = bench.workshop.check(check, limit).await?;
            let not_installed = bench.not_installed.as_deref();
            let outcome = judge_run(planned, &run, bench.checkout, not_installed);
            job.say(format!(
                "{name}: {}: {}",
                outcome.judgement.verdict, outcome.judgement.reason
            ));
            if not_installed.is_none() {
                let came_to = (&outcome, &run);
                self.remember(&bench.workshop, plan, check, bench.tree, came_to)
                    .await;
            }
            ran.add(outcome, run);
        }
        Ok(())
    }

    /// A run that is far shorter than what ran on the files that the change began with proves nothing.
    async fn compare_with_history(
        &self,
        job: &Job<'_>,
        plan: &CheckPlan,
        ran: &mut Ran,
    ) -> Result<(), ValidationError> {
        let url = job.repository.url().as_str();
        let history = |name: &str, tree: &str| CacheKey::of(["history", url, name, tree]);
        let tree = job
            .repository
            .commit_summary(job.commits.head)
            .await?
            .tree
            .to_string();
        let tests = plan
            .wanted()
            .filter(|planned| planned.check.kind == CheckKind::Tests);
        for planned in tests {
            let name = planned.check.name.as_str();
            let Some(outcome) = ran.outcomes.iter_mut().find(|outcome| outcome.name == name) else {
                continue;
            };
            let Some(executed) = outcome.report.as_ref().map(TestReport::executed_count) else {
                continue;
            };
            if outcome.judgement.verdict != Verdict::Passed {
                continue;
            }
            self.cache.put(&history(name, &tree), &executed);
            let mut commit = job.commits.fork;
            for _ in 0..HISTORY_COMMITS {
                let Some(at) = commit else { break };
                let summary = job.repository.commit_summary(at).await?;
                if let Some(before) = self
                    .cache
                    .get::<u64>(&history(name, &summary.tree.to_string()))
                {
                    if (executed as f64) < before as f64 * SHARE_OF_HISTORY {
                        let reason =
                            format!("only {executed} tests ran, where {before} ran on {at}");
                        outcome.judgement = Judgement::not_proven(reason);
                    }
                    break;
                }
                commit = summary.parents.first().copied();
            }
        }
        Ok(())
    }
}

/// A checkout that is ready to work in.
struct Bench<'a> {
    workshop: Workshop<'a>,
    checkout: &'a Path,
    /// Its files, by digest.
    tree: &'a str,
    /// Why its dependencies are not there.
    not_installed: Option<String>,
}

/// Installs what the project depends on; says why it is not there.
async fn install(
    job: &Job<'_>,
    plan: &CheckPlan,
    workshop: &mut Workshop<'_>,
    ran: &mut Ran,
) -> Result<Option<String>, ValidationError> {
    if plan.dependencies.is_empty() {
        return Ok(None);
    }
    job.reporter
        .progress(20.0, "dependencies", "installing dependencies");
    let mut not_installed = None;
    let steps = workshop
        .install(&plan.dependencies, job.remaining())
        .await?;
    for (record, outcome) in steps {
        not_installed = not_installed.or(outcome.err());
        ran.other_runs.push(record);
    }
    if let Some(why) = &not_installed {
        let mut missing = super::not_asked("dependencies");
        missing.judgement = Judgement::not_proven(format!("could not be installed: {why}"));
        "project".clone_into(&mut missing.origin);
        // What needs them shows; what does not is proven all the same.
        missing.blocking = false;
        ran.outcomes.push(missing);
    }
    Ok(not_installed)
}

impl Ran {
    fn from_memory(planned: &[&Planned], mut remembered: BTreeMap<String, Remembered>) -> Self {
        let mut ran = Self::default();
        for planned in planned {
            if let Some(known) = remembered.remove(planned.check.name.as_str()) {
                ran.add_remembered(planned, known);
            }
        }
        ran
    }

    fn add(&mut self, outcome: CheckOutcome, run: Run) {
        if let Some(coverage) = run.coverage {
            self.add_coverage(
                coverage.map_err(|error| format!("{}: coverage: {error}", outcome.name)),
            );
        }
        if !run.output.is_empty() {
            self.logs.push((outcome.name.clone(), run.output));
        }
        self.outcomes.push(outcome);
    }

    fn add_remembered(&mut self, planned: &Planned, known: Remembered) {
        if let Some(coverage) = known.coverage {
            self.add_coverage(Ok(coverage));
        }
        self.outcomes.push(CheckOutcome {
            name: planned.check.name.to_string(),
            judgement: Judgement::passed(format!(
                "{} (remembered: same tool, command and files)",
                known.reason
            )),
            blocking: planned.blocking,
            origin: planned.check.step.origin.clone(),
            tool_run: Some(known.record),
            report: known.report,
            findings: Vec::new(),
            cached: true,
            waiver: None,
        });
    }

    /// One report that cannot be read spoils the whole: the rest would tell another figure.
    fn add_coverage(&mut self, coverage: Result<Coverage, String>) {
        self.coverage = Some(match (self.coverage.take(), coverage) {
            (None, coverage) => coverage,
            (Some(Err(error)), _) | (Some(Ok(_)), Err(error)) => Err(error),
            (Some(Ok(mut known)), Ok(coverage)) => {
                known.merge(coverage);
                Ok(known)
            }
        });
    }
}
