//! The agent: from a task to a result. Leaves streams, leases and cancellation to the runtime, and the course of
//! the test to the examination.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_runtime::{
    Agent, Assignment,
    process::{Command, find_program},
    project::{Project, ProjectError, Variable},
    repository::RepositoryCache,
};
use contracts::{
    e2e::{E2eResult, E2eTask},
    error::Error,
    error_reason::ErrorReason,
    orchestrator::Capability,
    task::{AgentType, Resolution, TaskContext, Verdict},
};

use crate::{
    bench::Workshop,
    config::Settings,
    examination::Examination,
    order::Order,
    plan::Plan,
    subject::Subject,
    tampering,
    wire::{self, Frame},
};

/// Environment of tasks that name none.
const DEFAULT_ENVIRONMENT: &str = "development";

/// Largest value of a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Tools that make more possible, and how they are asked for their version.
const TOOLS: [(&str, &[&str]); 4] = [
    ("hurl", &["hurl", "--version"]),
    ("node", &["node", "--version"]),
    ("python3", &["python3", "--version"]),
    ("docker", &["docker", "--version"]),
];

/// The end-to-end agent.
pub struct E2eAgent {
    cache: RepositoryCache,
    secrets: Option<PathBuf>,
}

impl E2eAgent {
    /// An agent with its settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            cache: RepositoryCache::new(settings.cache.clone()),
            secrets: settings.secrets.clone(),
        }
    }

    async fn examine(&self, assignment: Assignment<E2eTask>) -> Result<E2eResult, Error> {
        let order = Order::parse(assignment.task.clone())?;
        let context = &assignment.context;
        let reporter = &assignment.reporter;
        reporter.progress(1.0, "read", "reading the project");
        let subject = Subject::find(&self.cache, context.repository.as_ref()).await?;
        if subject.is_none() && order.url.is_none() {
            return Err(Error::invalid_field(
                "context.repository.url",
                "is required, unless the task names the URL of an app that runs already",
            ));
        }
        let project = match &subject {
            None => None,
            Some(subject) => Some(
                Project::of_commits(&subject.repository, subject.base, subject.head)
                    .await
                    .map_err(project_error)?,
            ),
        };
        let plan = Plan::make(&order, project.as_ref())?;
        let frame = Frame {
            asked: context.repository.as_ref(),
            subject: subject.as_ref(),
            project: project.as_ref(),
        };
        let Some(start) = &plan.start else {
            let reason = match &project {
                Some(project) if project.is_app() => {
                    "nobody says how the app starts: declare `app.start` in .agentic/project.yaml"
                }
                Some(_) | None => "the project is a library: nothing says that, or how, it starts",
            };
            return Ok(wire::nothing_to_start(&frame, &plan, reason));
        };
        let secrets = match self.secrets(context, &start.start.secrets) {
            Ok(secrets) => secrets,
            Err(reason) => return Ok(wire::nothing_to_start(&frame, &plan, &reason)),
        };
        for (name, value) in &secrets {
            reporter.secret(name, value);
        }
        let workshop = Workshop {
            hidden: reporter.secrets().clone(),
            folder: assignment.folder.clone(),
            cancel: assignment.cancel.clone(),
            sink: Some(reporter.process_sink()),
            secrets,
        };
        let examination = Examination {
            plan: &plan,
            start,
            subject: subject.as_ref().zip(project.as_ref()),
            workshop: &workshop,
            reporter,
        };
        let examined = Box::pin(examination.run()).await?;
        let mut result = wire::result(&frame, &plan, start, examined);
        if let (Some(subject), Some(project)) = (&subject, &project) {
            judge_the_judge(&mut result, subject, project, context).await?;
        }
        reporter.progress(100.0, "done", String::new());
        Ok(result)
    }

    /// Values of the app's secrets, from the folder of its environment.
    fn secrets(
        &self,
        context: &TaskContext,
        names: &[Variable],
    ) -> Result<Vec<(String, String)>, String> {
        let environment = match context.environment.as_str() {
            "" => DEFAULT_ENVIRONMENT,
            name => name,
        };
        names
            .iter()
            .map(|name| {
                let missing = || {
                    format!(
                        "the app's secret `{name}` is not among this agent's for `{environment}`"
                    )
                };
                let folder = self.secrets.as_deref().ok_or_else(missing)?;
                let value = secret(folder, environment, name.as_str()).ok_or_else(missing)?;
                Ok((name.to_string(), value))
            })
            .collect()
    }
}

impl Agent for E2eAgent {
    type Task = E2eTask;
    type Result = E2eResult;
    const TYPE: AgentType = AgentType::E2e;

    async fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = Vec::new();
        for (name, argv) in TOOLS {
            if find_program(name).is_none() {
                continue;
            }
            let asked = Command::new(argv.iter().copied())
                .timeout(Duration::from_secs(10))
                .run()
                .await;
            let version = asked
                .ok()
                .filter(agent_runtime::process::Finished::is_success)
                .and_then(|finished| finished.stdout.text().lines().next().map(str::to_owned));
            if let Some(version) = version {
                capabilities.push(Capability {
                    kind: "tool".to_owned(),
                    name: name.to_owned(),
                    version,
                });
            }
        }
        capabilities
    }

    async fn run(&self, assignment: Assignment<E2eTask>) -> Result<E2eResult, Error> {
        Box::pin(self.examine(assignment)).await
    }
}

/// A result that would pass while the change touches its judges needs a person.
async fn judge_the_judge(
    result: &mut E2eResult,
    subject: &Subject,
    project: &Project,
    context: &TaskContext,
) -> Result<(), Error> {
    let Some(base) = subject.base else {
        return Ok(());
    };
    let passed = result
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome.verdict == i32::from(Verdict::Passed));
    if !passed {
        return Ok(());
    }
    let touched = tampering::find(&subject.repository, base, subject.head, &project.suites).await?;
    if touched.is_empty() {
        return Ok(());
    }
    let digest = wire::digest_of(&touched);
    let agreed = context.decisions.iter().find(|decision| {
        decision.subject_digest == digest && decision.resolution == i32::from(Resolution::Approve)
    });
    match (agreed, &mut result.outcome) {
        (Some(decision), Some(outcome)) => {
            outcome.summary = format!(
                "{}; {} agreed to the changed tests: {}",
                outcome.summary,
                decision.actor,
                touched.join("; ")
            );
        }
        (Some(_), None) => {}
        (None, _) => wire::ask_about(result, &touched),
    }
    Ok(())
}

fn project_error(error: ProjectError) -> Error {
    match error {
        ProjectError::Description(wrong) => {
            Error::new(ErrorReason::ProjectInvalid, wrong.to_string())
        }
        ProjectError::Repository(error) => error.into(),
        ProjectError::Commit { .. } | ProjectError::Unreadable { .. } => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the project could not be read"
            );
            Error::internal()
        }
    }
}

/// `<folder>/<environment>/<NAME>`, without the line end that editors leave.
fn secret(folder: &Path, environment: &str, name: &str) -> Option<String> {
    let plain = !environment.is_empty()
        && environment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !plain {
        return None;
    }
    let path = folder.join(environment).join(name);
    let found = fs::metadata(&path).ok()?;
    if !found.is_file() || found.len() > MAX_SECRET_BYTES {
        return None;
    }
    let value = fs::read_to_string(path).ok()?;
    Some(value.trim_end_matches(['\r', '\n']).to_owned())
}
