//! The agent: carries one task from its commits to a result with reports. Leaves streams, leases and cancellation to
//! the runtime, and all judging to the domain.

use std::sync::Arc;

use agent_runtime::{
    Agent, Assignment,
    process::find_program,
    repository::{RepositoryCache, RepositoryUrl},
};
use contracts::{
    error::Error,
    error_reason::ErrorReason,
    orchestrator::Capability,
    parse::Fields,
    task::{AgentType, Artifact},
    validation::{ValidationResult, ValidationTask},
};

use crate::{
    assessment::Assessment,
    cache::{Cache, CacheError},
    config::Settings,
    refs::{self, Resolved},
    report_files::{self, Page, ReportFileError},
    secrets::{RulesError, Scanner},
    toolchain::Toolchain,
    validate::{Job, Validated, ValidationError, Validator},
    wire,
};

/// Programs whose versions are published.
const TOOLS: &[&str] = &[
    "cargo", "rustc", "node", "npm", "python3", "go", "git", "make", "ruff", "mypy", "pytest",
];
/// Names of checks that a task may ask for, at most.
const MAXIMUM_CHECKS: usize = 64;

/// The validation agent.
pub struct ValidationAgent {
    repositories: RepositoryCache,
    validator: Validator,
    page: Page,
}

/// Why the agent cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Secret rules.
    #[error("secret rules")]
    Rules(#[from] RulesError),
    /// Remembered results.
    #[error("remembered results")]
    Cache(#[from] CacheError),
    /// The page.
    #[error("page template")]
    Page(#[from] minijinja::Error),
}

impl ValidationAgent {
    /// An agent that keeps what it needs in the folders of `settings`.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Ok(Self {
            repositories: RepositoryCache::new(&settings.repositories),
            validator: Validator {
                scanner: Arc::new(Scanner::new()?),
                cache: Cache::open(&settings.results)?,
                toolchain: Toolchain::default(),
            },
            page: Page::new()?,
        })
    }

    async fn work(
        &self,
        assignment: &Assignment<ValidationTask>,
    ) -> Result<ValidationResult, Error> {
        let Assignment {
            context,
            task,
            reporter,
            ..
        } = assignment;
        let asked = context.repository.clone().unwrap_or_default();
        check(&asked, task)?;
        reporter.progress(1.0, "repository", format!("opening {}", asked.url));
        let url = RepositoryUrl::parse(&asked.url)?;
        let repository = self.repositories.open_url(url).await?;
        let (validated, commits) = match refs::resolve(&repository, &asked, task).await? {
            Resolved::Commits(commits) => {
                let job = Job {
                    repository: &repository,
                    commits: &commits,
                    task,
                    folder: &assignment.folder,
                    reporter,
                    cancel: &assignment.cancel,
                    deadline: assignment.deadline,
                };
                let validated = Box::pin(self.validator.validate(&job))
                    .await
                    .map_err(|error| with_deadline(error, assignment.deadline))?;
                (validated, (commits.head, commits.base))
            }
            Resolved::Nothing {
                head,
                base,
                judgement,
            } => {
                let assessment = Assessment {
                    head: head.to_string(),
                    base: Some(base.to_string()),
                    unjudgeable: Some(judgement),
                    ..Assessment::default()
                };
                (
                    Validated {
                        assessment,
                        subject: None,
                        logs: Vec::new(),
                    },
                    (head, Some(base)),
                )
            }
        };
        let artifacts = self.keep(assignment, &validated).await?;
        let repository = contracts::task::Repository {
            head_commit: commits.0.to_string(),
            base_commit: commits.1.map(|base| base.to_string()).unwrap_or_default(),
            ..asked
        };
        let result = wire::result(&validated, repository, artifacts);
        let summary = result
            .outcome
            .as_ref()
            .map(|outcome| outcome.summary.clone())
            .unwrap_or_default();
        reporter.progress(100.0, "done", summary);
        Ok(result)
    }

    /// Reports and logs become artifacts.
    async fn keep(
        &self,
        assignment: &Assignment<ValidationTask>,
        validated: &Validated,
    ) -> Result<Vec<Artifact>, Error> {
        let reporter = &assignment.reporter;
        reporter.progress(97.0, "reports", "writing reports");
        let files = report_files::write(&validated.assessment, &self.page).map_err(
            |error: ReportFileError| {
                tracing::error!(error = &error as &dyn std::error::Error, "no report");
                Error::internal()
            },
        )?;
        let mut artifacts = Vec::new();
        for file in files {
            artifacts.push(
                reporter
                    .artifact(file.name, file.media_type, &file.bytes)
                    .await?,
            );
        }
        for (check, log) in &validated.logs {
            let name = format!("checks/{check}.log");
            artifacts.push(
                reporter
                    .artifact(&name, "text/plain; charset=utf-8", log.as_bytes())
                    .await?,
            );
        }
        Ok(artifacts)
    }
}

fn check(asked: &contracts::task::Repository, task: &ValidationTask) -> Result<(), Error> {
    let mut fields = Fields::new();
    fields.required_text(
        "context.repository.url",
        &asked.url,
        contracts::parse::URL_BYTES,
    );
    for (field, commit) in [
        ("context.repository.head_commit", &asked.head_commit),
        ("context.repository.base_commit", &asked.base_commit),
        ("task.base_commit", &task.base_commit),
    ] {
        if !commit.is_empty() {
            fields.commit(field, commit);
        }
    }
    if task.checks.len() > MAXIMUM_CHECKS {
        fields.wrong("task.checks", format!("at most {MAXIMUM_CHECKS} names"));
    }
    if let Some(limit) = task.check_timeout
        && contracts::wire_time::duration(limit).is_none()
    {
        fields.wrong("task.check_timeout", "a duration of at least zero");
    }
    fields.finish(())
}

/// A cancellation at the deadline is the deadline's.
fn with_deadline(error: ValidationError, deadline: tokio::time::Instant) -> Error {
    let error = Error::from(error);
    if error.reason == ErrorReason::Cancelled && tokio::time::Instant::now() >= deadline {
        return Error::new(
            ErrorReason::DeadlineExceeded,
            "the validation was not over before its deadline",
        );
    }
    error
}

impl Agent for ValidationAgent {
    type Task = ValidationTask;
    type Result = ValidationResult;
    const TYPE: AgentType = AgentType::Validation;

    async fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = Vec::new();
        let home = std::env::temp_dir();
        for tool in TOOLS.iter().filter(|tool| find_program(tool).is_some()) {
            let found = self
                .validator
                .toolchain
                .tool(&[(*tool).to_owned()], &home)
                .await;
            capabilities.push(Capability {
                kind: "tool".to_owned(),
                name: (*tool).to_owned(),
                version: found.map(|found| found.version).unwrap_or_default(),
            });
        }
        capabilities
    }

    async fn run(&self, assignment: Assignment<ValidationTask>) -> Result<ValidationResult, Error> {
        tokio::select! {
            biased;
            () = assignment.cancel.cancelled() => {
                Err(with_deadline(crate::run::RunError::Cancelled.into(), assignment.deadline))
            }
            result = Box::pin(self.work(&assignment)) => result,
        }
    }
}
