//! The agent: one task from its request to its result. Leaves merging to the domain, and streams, leases and
//! cancellation to the runtime.

use agent_runtime::{
    Agent, Assignment,
    process::{Command, ProcessError, find_program},
    repository::{CheckoutSettings, Repository, RepositoryCache, RepositoryUrl},
};
use contracts::{
    error::Error,
    error_reason::ErrorReason,
    integration::{IntegrationResult, IntegrationTask},
    orchestrator::Capability,
    task::{AgentType, Artifact, Repository as WireRepository},
};

use crate::{
    checks::{self, Checked, Plan, Running},
    commit::Identity,
    config::Settings,
    grpc::{
        answer,
        request::{self, Request},
    },
    integrate::{End, Integrator, Order, Report, Workplace},
    merge,
};

/// Most bytes of the patch that is kept.
const PATCH_LIMIT: usize = 4 * 1024 * 1024;
/// Tools that projects are checked with, and how each says its version.
const TOOLS: [(&str, &str); 6] = [
    ("git", "--version"),
    ("cargo", "--version"),
    ("python3", "--version"),
    ("node", "--version"),
    ("npm", "--version"),
    ("go", "version"),
];

/// The integration agent.
pub struct IntegrationAgent {
    integrator: Integrator,
}

impl IntegrationAgent {
    /// An agent with its copies of repositories below a folder.
    pub fn new(settings: &Settings) -> Self {
        Self {
            integrator: Integrator {
                cache: RepositoryCache::new(&settings.cache),
                committer: Identity {
                    name: settings.committer_name.clone(),
                    email: settings.committer_email.clone(),
                },
            },
        }
    }
}

impl Agent for IntegrationAgent {
    type Task = IntegrationTask;
    type Result = IntegrationResult;
    const TYPE: AgentType = AgentType::Integration;

    async fn capabilities(&self) -> Vec<Capability> {
        let mut found = Vec::new();
        for (tool, argument) in TOOLS {
            if find_program(tool).is_none() {
                continue;
            }
            let version = Command::new([tool, argument])
                .timeout(std::time::Duration::from_secs(10))
                .run()
                .await
                .ok()
                .filter(agent_runtime::process::Finished::is_success)
                .map(|finished| {
                    finished
                        .stdout
                        .text()
                        .lines()
                        .next()
                        .unwrap_or("")
                        .to_owned()
                });
            found.push(Capability {
                kind: "tool".to_owned(),
                name: tool.to_owned(),
                version: version.unwrap_or_default(),
            });
        }
        let named = |kind: &str, name: &str| Capability {
            kind: kind.to_owned(),
            name: name.to_owned(),
            version: String::new(),
        };
        found.extend(["merge", "squash", "rebase", "fast_forward"].map(|it| named("strategy", it)));
        found.extend(["manual", "ours", "theirs"].map(|it| named("conflict_strategy", it)));
        found
    }

    async fn run(
        &self,
        assignment: Assignment<IntegrationTask>,
    ) -> Result<IntegrationResult, Error> {
        let cancel = assignment.cancel.clone();
        tokio::select! {
            biased;
            // Dropping the work ends its processes; a push is whole or was not made.
            () = cancel.cancelled() => Err(Error::new(ErrorReason::Cancelled, "the task was cancelled")),
            result = Box::pin(self.work(assignment)) => result,
        }
    }
}

impl IntegrationAgent {
    async fn work(
        &self,
        assignment: Assignment<IntegrationTask>,
    ) -> Result<IntegrationResult, Error> {
        let request = request::parse(&assignment.context, assignment.task.clone())?;
        match request {
            Request::Merge(order) => self.merge(&order, &assignment).await,
            Request::Nothing { verdict, reason } => {
                let repository = assignment.context.repository.clone();
                Ok(answer::of_nothing(repository, verdict, reason))
            }
            Request::Checks { url, revision } => self.checks(url, &revision, &assignment).await,
        }
    }

    async fn merge(
        &self,
        order: &Order,
        assignment: &Assignment<IntegrationTask>,
    ) -> Result<IntegrationResult, Error> {
        let place = workplace(assignment, order.check_timeout);
        let report = self
            .integrator
            .integrate(order, &place)
            .await
            .map_err(wire_error)?;
        let repository = self.open_again(&order.url).await?;
        let artifacts = keep(assignment, &repository, &report).await?;
        let conflicts = report.conflicts.clone();
        let conflicts = repository
            .with_objects("write conflicts down", move |objects, _| {
                answer::conflicts(objects, &conflicts)
            })
            .await
            .map_err(|error| wire_error(error.into()))?;
        Ok(answer::of_merge(order, &report, conflicts, artifacts))
    }

    async fn checks(
        &self,
        url: RepositoryUrl,
        revision: &str,
        assignment: &Assignment<IntegrationTask>,
    ) -> Result<IntegrationResult, Error> {
        assignment
            .reporter
            .progress(5.0, "fetch", format!("reading {url}"));
        let repository = self.open_again(&url).await?;
        let commit = repository.resolve(revision).await?;
        let plan = Plan::of_one(&repository, commit)
            .await
            .map_err(|error| wire_error(error.into()))?;
        let place = workplace(assignment, std::time::Duration::from_mins(5));
        let mut checked = Checked::default();
        if !plan.is_empty() {
            let settings = CheckoutSettings {
                with_git: true,
                ..CheckoutSettings::default()
            };
            let folder = &place.running.folder;
            let checkout = repository.checkout(commit, folder, settings).await?;
            assignment
                .reporter
                .progress(20.0, "checks", "running the checks");
            checked = plan
                .run(checkout.path(), &place.running)
                .await
                .map_err(|error| wire_error(error.into()))?;
        }
        let rung = checks::rung(&checked.runs);
        let context = assignment.context.repository.clone().unwrap_or_default();
        let judged = WireRepository {
            url: url.to_string(),
            head_commit: commit.to_string(),
            ..context
        };
        Ok(answer::of_checks(
            judged,
            &rung,
            &checked.runs,
            &checked.programs,
        ))
    }

    async fn open_again(&self, url: &RepositoryUrl) -> Result<Repository, Error> {
        Ok(self.integrator.cache.open_url(url.clone()).await?)
    }
}

fn workplace(
    assignment: &Assignment<IntegrationTask>,
    check_timeout: std::time::Duration,
) -> Workplace {
    Workplace {
        running: Running {
            timeout: check_timeout,
            cancel: assignment.cancel.clone(),
            sink: Some(assignment.reporter.process_sink()),
            folder: assignment.folder.clone(),
        },
        reporter: assignment.reporter.clone(),
    }
}

/// What people may want to look at later: what the target got.
async fn keep(
    assignment: &Assignment<IntegrationTask>,
    repository: &Repository,
    report: &Report,
) -> Result<Vec<Artifact>, Error> {
    let End::Merged { commit, .. } = &report.end else {
        return Ok(Vec::new());
    };
    let (patch, cut) = repository
        .patch(report.target_before, *commit, PATCH_LIMIT)
        .await?;
    if patch.is_empty() {
        return Ok(Vec::new());
    }
    let name = if cut {
        "merge-beginning.diff"
    } else {
        "merge.diff"
    };
    let artifact = assignment
        .reporter
        .artifact(name, "text/x-diff; charset=utf-8", patch.as_bytes())
        .await?;
    Ok(vec![artifact])
}

/// Errors of the domain as callers are told them.
fn wire_error(error: crate::integrate::Error) -> Error {
    use crate::integrate::Error as Domain;

    match error {
        Domain::Repository(error) => error.into(),
        Domain::Merge(error) => merge_error(error),
        Domain::Project(error) => project_error(error),
        Domain::Process(error) => process_error(&error),
    }
}

fn merge_error(error: merge::Error) -> Error {
    match error {
        merge::Error::Repository(error) => error.into(),
        merge::Error::Unrelated => {
            Error::invalid_field("task.merge.source", "shares no history with the target")
        }
        merge::Error::GitTooOld { .. } => {
            Error::new(ErrorReason::CapabilityMissing, error.to_string())
        }
        merge::Error::Object { .. }
        | merge::Error::Io { .. }
        | merge::Error::Git { .. }
        | merge::Error::Listing(_) => broken(&error),
    }
}

fn project_error(error: agent_runtime::project::ProjectError) -> Error {
    use agent_runtime::project::ProjectError;

    match error {
        ProjectError::Description(error) => {
            Error::new(ErrorReason::ProjectInvalid, error.to_string())
        }
        ProjectError::Repository(error) => error.into(),
        ProjectError::Commit { .. } | ProjectError::Unreadable { .. } => broken(&error),
    }
}

fn process_error(error: &ProcessError) -> Error {
    broken(error)
}

/// Something on this machine; the log has the cause.
fn broken(error: &dyn std::error::Error) -> Error {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "integration broke");
    Error::new(ErrorReason::Infrastructure, error.to_string())
}
