//! One validation from the repository to the assessment: reads the change, scans it, runs the checks, measures
//! and judges. Knows neither the wire nor how reports are written.

mod checks;
mod code_coverage;
mod judge_run;
mod measure;
mod remembered;
mod secret_check;

use std::{path::Path, sync::Arc, time::Duration};

use agent_runtime::{
    Reporter,
    repository::{CheckoutSettings, CommitId, Repository},
};
use contracts::{
    error::Error, error_reason::ErrorReason, task::LogLevel, validation::ValidationTask,
};
use thiserror::Error as ThisError;
use time::{Date, OffsetDateTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    assessment::{Assessment, CheckOutcome},
    cache::Cache,
    change::{self, ChangeError},
    gates,
    judge::classify,
    plan::CheckPlan,
    refs::Commits,
    run::RunError,
    secrets::Scanner,
    subject::{self, Reading, Subject},
    toolchain::Toolchain,
    verdict::Judgement,
};

/// Limit of a check that names none.
pub const CHECK_TIMEOUT: Duration = Duration::from_mins(5);

/// Why a validation came to no result.
#[derive(Debug, ThisError)]
pub enum ValidationError {
    /// The call, the repository: as the contract says it.
    #[error("{0}")]
    Contract(Error),
    /// The change could not be read.
    #[error("reading the change")]
    Change(#[from] ChangeError),
    /// A check could not be run on this machine.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<Error> for ValidationError {
    fn from(error: Error) -> Self {
        Self::Contract(error)
    }
}

impl From<agent_runtime::repository::Error> for ValidationError {
    fn from(error: agent_runtime::repository::Error) -> Self {
        Self::Contract(error.into())
    }
}

impl From<ValidationError> for Error {
    fn from(error: ValidationError) -> Self {
        match error {
            ValidationError::Contract(error) => error,
            ValidationError::Change(ChangeError::Repository(error)) => error.into(),
            ValidationError::Run(RunError::Cancelled) => {
                Self::new(ErrorReason::Cancelled, "the validation was cancelled")
            }
            error @ (ValidationError::Change(ChangeError::Object { .. })
            | ValidationError::Run(RunError::Process(_) | RunError::Folder { .. })) => {
                tracing::error!(error = &error as &dyn std::error::Error, "validation broke");
                Self::new(
                    ErrorReason::Infrastructure,
                    "the validation could not be carried out on this machine",
                )
            }
        }
    }
}

/// What every validation of this process shares.
pub struct Validator {
    /// Secret rules.
    pub scanner: Arc<Scanner>,
    /// Remembered results.
    pub cache: Cache,
    /// Versions of tools.
    pub toolchain: Toolchain,
}

/// One validation to do.
pub struct Job<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The commits.
    pub commits: &'a Commits,
    /// What was asked.
    pub task: &'a ValidationTask,
    /// A folder of the attempt's own.
    pub folder: &'a Path,
    /// How to say what is going on.
    pub reporter: &'a Reporter,
    /// Ends everything.
    pub cancel: &'a CancellationToken,
    /// When it must be over.
    pub deadline: Instant,
}

impl Job<'_> {
    /// Limit of a check that names `own`.
    fn limit(&self, own: Option<Duration>) -> Duration {
        let asked = self
            .task
            .check_timeout
            .and_then(contracts::wire_time::duration);
        let limit = own
            .or(asked.filter(|asked| !asked.is_zero()))
            .unwrap_or(CHECK_TIMEOUT);
        limit.min(self.remaining())
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn uses_cache(&self) -> bool {
        self.task.use_cache.unwrap_or(true)
    }

    fn say(&self, text: impl AsRef<str>) {
        self.reporter.log(LogLevel::Info, text);
    }
}

/// An assessment, and what the project is.
pub struct Validated {
    /// What came of it.
    pub assessment: Assessment,
    /// What was judged; `None`: it could not be read.
    pub subject: Option<Box<Subject>>,
    /// Output of the checks that ran, by name.
    pub logs: Vec<(String, String)>,
}

impl Validator {
    /// Validates one change.
    pub async fn validate(&self, job: &Job<'_>) -> Result<Validated, ValidationError> {
        let Commits {
            head, base, fork, ..
        } = *job.commits;
        let mut assessment = Assessment {
            head: head.to_string(),
            base: base.map(|base| base.to_string()),
            notes: vec![job.commits.note.clone()],
            ..Assessment::default()
        };
        job.reporter.progress(5.0, "reading", "reading the change");
        let subject = match subject::read(job.repository, job.commits).await? {
            Reading::Subject(subject) => subject,
            Reading::Refused(judgement) => {
                assessment.unjudgeable = Some(judgement);
                return Ok(Validated {
                    assessment,
                    subject: None,
                    logs: Vec::new(),
                });
            }
        };
        let plan = CheckPlan::new(subject.base.as_ref(), &subject.head, &job.task.checks)
            .map_err(|error| Error::invalid_field("task.checks", error.to_string()))?;
        assessment
            .notes
            .extend(subject.notes.iter().chain(&plan.notes).cloned());
        assessment.policy_source.clone_from(&subject.policy_source);
        assessment
            .replaced_gates
            .clone_from(&subject.policy.replaced);
        let today = OffsetDateTime::now_utc().date();
        assessment.notes.extend(subject.policy.expired(today));
        explain(job, &plan, &subject);

        let change = match fork {
            Some(fork) => Some(Change::read(job.repository, fork, head).await?),
            None => None,
        };
        if let Some(change) = &change {
            assessment.judge_changes = classify(&change.files, &subject.judge);
        }
        let scanning = async {
            if !plan.wants("secrets") {
                return Ok(None);
            }
            let scanner = self.scanner.clone();
            let scan = change::scan_for_secrets(job.repository, scanner, fork, head).await?;
            Ok::<_, ValidationError>(Some(scan))
        };
        let checking = self.run_checks(job, &subject, &plan, change.as_ref());
        let (scan, ran) = tokio::try_join!(scanning, checking)?;
        assessment.checks.push(match scan {
            Some(scan) => secret_check::outcome(&scan, &subject.policy, today),
            None => not_asked("secrets"),
        });
        assessment.checks.extend(ran.outcomes);
        assessment.other_runs = ran.other_runs;
        if plan.wants("coverage") {
            let coverage = code_coverage::outcome(ran.coverage.as_ref(), change.as_ref());
            assessment.checks.push(coverage.outcome);
            assessment.measurements = coverage.measurements;
        }
        if plan.wants("vulnerabilities") {
            let inventory = subject::third_party(job.repository, head).await?;
            measure::vulnerabilities(&inventory, &mut assessment);
        }
        measure::checks(&mut assessment);
        if base.is_some() {
            self.measure_base(job, &subject, &plan, &mut assessment)
                .await?;
        }
        job.reporter
            .progress(95.0, "judging", "judging by the gates");
        self.waive(&mut assessment, &subject, today);
        assessment.gates = gates::judge(&subject.policy, &assessment.measurements, today);
        Ok(Validated {
            assessment,
            subject: Some(subject),
            logs: ran.logs,
        })
    }

    /// Marks checks that somebody answers for. Build, tests and secrets are nobody's to waive.
    #[allow(clippy::unused_self, reason = "belongs to the steps of a validation")]
    fn waive(&self, assessment: &mut Assessment, subject: &Subject, today: Date) {
        for check in &mut assessment.checks {
            let is_fixed = [
                "build",
                "test",
                "tests",
                "secrets",
                "checkout",
                "dependencies",
            ]
            .iter()
            .any(|name| check.name == *name || check.name.starts_with(&format!("{name}-")));
            if !is_fixed && check.judgement.verdict != crate::verdict::Verdict::Passed {
                check.waiver = subject.policy.waiver_of(&check.name, today);
            }
        }
    }
}

/// What a change brings, as text and as lines.
struct Change {
    files: Vec<crate::judge::ChangedFile>,
    added: std::collections::BTreeMap<String, std::collections::BTreeSet<u32>>,
}

impl Change {
    async fn read(
        repository: &Repository,
        fork: CommitId,
        head: CommitId,
    ) -> Result<Self, ValidationError> {
        Ok(Self {
            files: change::texts(repository, fork, head).await?,
            added: change::added_lines(repository, fork, head).await?,
        })
    }
}

fn explain(job: &Job<'_>, plan: &CheckPlan, subject: &Subject) {
    job.say(&job.commits.note);
    for step in &plan.dependencies {
        job.say(format!(
            "plan: dependencies: {} (from {})",
            step.command, step.origin
        ));
    }
    for planned in plan.wanted() {
        let step = &planned.check.step;
        let weight = if planned.blocking {
            ""
        } else {
            ", does not stop the change"
        };
        job.say(format!(
            "plan: {}: {} (from {}{weight})",
            planned.check.name, step.command, step.origin
        ));
    }
    job.say(format!(
        "plan: checks by {}, policy: {}",
        subject::description_source(subject),
        subject.policy_source
    ));
}

/// A check that the task left out: what always stops a change cannot be left out unseen.
fn not_asked(name: &str) -> CheckOutcome {
    CheckOutcome {
        name: name.to_owned(),
        judgement: Judgement::not_proven("not asked for by the task"),
        blocking: true,
        origin: "task".to_owned(),
        tool_run: None,
        report: None,
        findings: Vec::new(),
        cached: false,
        waiver: None,
    }
}

fn checkout_settings() -> CheckoutSettings {
    CheckoutSettings {
        with_git: true,
        ..CheckoutSettings::default()
    }
}
