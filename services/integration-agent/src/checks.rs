//! Third rung: the build and the tests of both sides, run on the merge in a checkout of its own. What a
//! project has no check for is not proven; what cannot be run here is not proven either.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_runtime::{
    preparation::{PreparationError, Surroundings, install_dependencies},
    process::{Ending, Finished, OutputSink, ProcessError},
    project::{CheckKind, PlannedCheck, Project, ProjectError},
    repository::{CommitId, Repository},
    test_report::junit,
};
use tokio_util::sync::CancellationToken;

use crate::ladder::{Name, Rung, Verdict};

pub mod count;

use self::count::Counts;

/// Lines of a failed check that go into its reason's log.
const LAST_LINES: usize = 40;

/// Whose check it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The target branch.
    Target,
    /// The change.
    Source,
}

/// The checks of both sides, each once.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What the merge depends on.
    merged: Option<Project>,
    checks: Vec<(PlannedCheck, Vec<Side>)>,
}

/// How checks are run.
#[derive(Clone)]
pub struct Running {
    /// Limit of a check that names none.
    pub timeout: Duration,
    /// Ends everything.
    pub cancel: CancellationToken,
    /// Where output goes as it appears.
    pub sink: Option<Arc<dyn OutputSink>>,
    /// A folder for what tools need beside the checkout.
    pub folder: PathBuf,
}

/// One check that ran, or could not.
#[derive(Clone, Debug)]
pub struct CheckRun {
    /// Whose it is.
    pub sides: Vec<Side>,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// Its tests.
    pub counts: Counts,
    /// The end of what it printed.
    pub last_lines: String,
}

/// What came of all checks.
#[derive(Debug, Default)]
pub struct Checked {
    /// Each check.
    pub runs: Vec<CheckRun>,
    /// Every program that ran.
    pub programs: Vec<Finished>,
}

impl Plan {
    /// The build and test checks of the target, and of the source as the target judges it, for a merge of
    /// the two.
    pub async fn of_both(
        repository: &Repository,
        target: CommitId,
        source: CommitId,
        merged: CommitId,
    ) -> Result<Self, ProjectError> {
        let mut plan = Self::default();
        let own = Project::of_commits(repository, None, target).await?;
        plan.add(own, Side::Target);
        let changed = Project::of_commits(repository, Some(target), source).await?;
        plan.add(changed, Side::Source);
        plan.merged = Some(Project::of_commits(repository, Some(target), merged).await?);
        Ok(plan)
    }

    /// The build and test checks of one commit.
    pub async fn of_one(repository: &Repository, commit: CommitId) -> Result<Self, ProjectError> {
        let mut plan = Self::default();
        let project = Project::of_commits(repository, None, commit).await?;
        plan.merged = Some(project.clone());
        plan.add(project, Side::Target);
        Ok(plan)
    }

    /// Whether both sides have the very same checks.
    pub fn is_shared(&self) -> bool {
        self.checks.iter().all(|(_, sides)| sides.len() == 2)
    }

    /// Those of these checks that have one of the names.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        let mut plan = self.clone();
        plan.checks
            .retain(|(check, _)| names.iter().any(|name| name == check.name.as_str()));
        plan
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    fn add(&mut self, project: Project, side: Side) {
        for check in project.checks {
            if !matches!(check.kind, CheckKind::Build | CheckKind::Tests) {
                continue;
            }
            match self
                .checks
                .iter_mut()
                .find(|(other, _)| same(other, &check))
            {
                Some((_, sides)) => {
                    if !sides.contains(&side) {
                        sides.push(side);
                    }
                }
                None => self.checks.push((check, vec![side])),
            }
        }
    }

    /// Runs everything in `checkout`, one after the other.
    pub async fn run(&self, checkout: &Path, running: &Running) -> Result<Checked, ProcessError> {
        let mut checked = Checked::default();
        let (environment, missing) = self.install(checkout, running, &mut checked).await?;
        for (check, sides) in &self.checks {
            let limit = check.step.timeout.unwrap_or(running.timeout);
            if let Some(report) = &check.report {
                // One that the commit brings says nothing about this run.
                let _ = tokio::fs::remove_file(checkout.join(report.junit.as_str())).await;
            }
            let mut command = check
                .step
                .in_checkout(checkout)
                .environments(environment.clone())
                .timeout(limit)
                .cancel(running.cancel.clone());
            if let Some(sink) = &running.sink {
                command = command.sink(Arc::clone(sink));
            }
            let run = match command.run().await {
                Ok(finished) => {
                    let counts = counts_of(check, checkout, &finished).await;
                    let run = judge(check, sides, &finished, limit, counts, missing.as_deref());
                    checked.programs.push(finished);
                    run
                }
                Err(error) => CheckRun {
                    sides: sides.clone(),
                    name: check.name.to_string(),
                    verdict: Verdict::NotProven,
                    reason: not_run(error)?,
                    counts: Counts::default(),
                    last_lines: String::new(),
                },
            };
            checked.runs.push(run);
        }
        Ok(checked)
    }

    /// Installs what the merge depends on. A failure is not the end: what is needed may be there already,
    /// and a check that fails then is not proven to fail because of the merge.
    async fn install(
        &self,
        checkout: &Path,
        running: &Running,
        checked: &mut Checked,
    ) -> Result<(Vec<(String, OsString)>, Option<String>), ProcessError> {
        let Some(project) = &self.merged else {
            return Ok((Vec::new(), None));
        };
        let around = Surroundings {
            checkout: checkout.to_owned(),
            scratch: running.folder.clone(),
            cancel: running.cancel.clone(),
            sink: running.sink.clone(),
        };
        match install_dependencies(project, &around).await {
            Ok(preparation) => {
                checked.programs.extend(preparation.runs);
                Ok((preparation.environment, None))
            }
            Err(PreparationError::NotRun { command, source }) => {
                let reason = format!("`{command}`: {}", not_run(source)?);
                Ok((Vec::new(), Some(reason)))
            }
            Err(PreparationError::Failed { command, finished }) => {
                let reason = format!("`{command}`: {}", finished.ending);
                checked.programs.push(*finished);
                Ok((Vec::new(), Some(reason)))
            }
        }
    }
}

/// The rung that the checks make: the worst of them, and nothing where there are none.
pub fn rung(runs: &[CheckRun]) -> Rung {
    let worst = |verdict| runs.iter().find(|run| run.verdict == verdict);
    if let Some(run) = worst(Verdict::Failed) {
        return Rung::failed(Name::Checks, format!("{}: {}", run.name, run.reason));
    }
    if let Some(run) = worst(Verdict::NotProven) {
        return Rung::not_proven(Name::Checks, format!("{}: {}", run.name, run.reason));
    }
    let executed: u32 = runs.iter().map(|run| run.counts.executed()).sum();
    if executed == 0 {
        return Rung::not_proven(Name::Checks, "the project has no tests that could be run");
    }
    Rung::passed(
        Name::Checks,
        format!(
            "{} checks of both sides pass, {executed} tests in them",
            runs.len()
        ),
    )
}

fn same(left: &PlannedCheck, right: &PlannedCheck) -> bool {
    let key = |check: &PlannedCheck| {
        let step = &check.step;
        (
            check.name.clone(),
            step.command.clone(),
            step.directory.clone(),
            step.environment.clone(),
            check.report.clone(),
        )
    };
    key(left) == key(right)
}

/// Why a program did not run; breaks of this machine stay errors.
fn not_run(error: ProcessError) -> Result<String, ProcessError> {
    match error {
        ProcessError::ProgramNotFound { .. }
        | ProcessError::NotExecutable { .. }
        | ProcessError::InterpreterNotFound { .. }
        | ProcessError::DirectoryMissing { .. } => Ok(error.to_string()),
        ProcessError::EmptyArgv
        | ProcessError::Home { .. }
        | ProcessError::Start { .. }
        | ProcessError::Abandoned { .. } => Err(error),
    }
}

/// What a check says about its tests: in the report that it was to write, else in what it printed.
async fn counts_of(check: &PlannedCheck, checkout: &Path, finished: &Finished) -> Option<Counts> {
    if let Some(report) = &check.report {
        let content = tokio::fs::read(checkout.join(report.junit.as_str())).await;
        return junit::parse(&content.ok()?).ok().map(Counts::from);
    }
    count::from_output(&finished.combined.text())
        .or_else(|| count::from_output(&finished.stdout.text()))
}

/// Judges a check by how it ended and by what it counted; the worse one wins.
fn judge(
    check: &PlannedCheck,
    sides: &[Side],
    finished: &Finished,
    limit: Duration,
    counts: Option<Counts>,
    missing: Option<&str>,
) -> CheckRun {
    let executed = counts.as_ref().map_or(0, Counts::executed);
    let failed = counts.as_ref().map_or(0, |counts| counts.failed);
    let (mut verdict, mut reason) = match finished.ending {
        Ending::TimedOut => (
            Verdict::Failed,
            format!("stopped after its limit of {}s", limit.as_secs()),
        ),
        Ending::Signalled(signal) => (Verdict::Failed, format!("ended by signal {signal}")),
        Ending::Cancelled => (Verdict::NotProven, "cancelled".to_owned()),
        Ending::Exited(_) if failed > 0 => (
            Verdict::Failed,
            format!("{failed} of {executed} tests failed"),
        ),
        Ending::Exited(0) if check.kind == CheckKind::Tests => match &counts {
            None => (
                Verdict::NotProven,
                "it does not say how many tests ran".to_owned(),
            ),
            Some(_) if executed == 0 => (Verdict::NotProven, "no test was executed".to_owned()),
            Some(_) => (Verdict::Passed, format!("{executed} tests passed")),
        },
        Ending::Exited(0) => (Verdict::Passed, "it succeeded".to_owned()),
        Ending::Exited(code) => (Verdict::Failed, format!("it ended with code {code}")),
    };
    if let (Verdict::Failed, Some(missing)) = (verdict, missing) {
        verdict = Verdict::NotProven;
        reason = format!("{reason}, but its dependencies could not be installed ({missing})");
    }
    CheckRun {
        sides: sides.to_vec(),
        name: check.name.to_string(),
        verdict,
        reason,
        counts: counts.unwrap_or_default(),
        last_lines: finished.last_lines(LAST_LINES),
    }
}
