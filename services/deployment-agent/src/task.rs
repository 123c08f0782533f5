//! Reads a task: every wrong field is named at once. Knows nothing of how an action is carried out.

use std::time::Duration;

use contracts::{
    deployment::{self as wire, deployment_task},
    error::Error,
    parse::Fields,
    task::TaskContext,
    wire_time,
};

use crate::{
    name::Name,
    spec::MAX_INSTANCE_COUNT,
    strategy::{CanaryStep, DEFAULT_CANARY_STEPS},
};

/// Environment of a task that names none (contract).
const DEFAULT_ENVIRONMENT: &str = "development";
/// App of a task that names none and belongs to no workflow.
const DEFAULT_APP: &str = "app";
/// Most arguments of a start command, and most bytes of each.
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 8192;
/// Longest watch of a canary step.
const MAX_BAKE: Duration = Duration::from_hours(1);

/// A checked task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Which app.
    pub app: Name,
    /// Where.
    pub environment: Name,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Build an image.
    Build(wire::Build),
    /// Push an image.
    Push(wire::Push),
    /// Deploy.
    Deploy(Deploy),
    /// Roll back, and why.
    Rollback(String),
    /// Probe what is live, at this path.
    CheckHealth(Option<String>),
    /// Check the prerequisites of a deployment.
    Verify(Wanted),
    /// Compare what is live with what would be.
    Diff,
    /// Say what is live.
    Status,
}

/// Where a deployment is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What the project declares, else processes.
    Declared,
    /// Processes.
    Process,
    /// Containers.
    Docker,
}

/// A checked wish to deploy; what is left out is the project's to say.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// Where to.
    pub target: Wanted,
    /// How.
    pub strategy: wire::Strategy,
    /// Steps of a canary; empty: the project's.
    pub canary_steps: Vec<CanaryStep>,
    /// Instances.
    pub desired_count: u32,
    /// Port of the router.
    pub port: Option<u16>,
    /// Argument vector; empty: the project's.
    pub start_command: Vec<String>,
    /// Image; empty: built.
    pub image: String,
}

impl Task {
    /// Checks a task.
    pub fn parse(context: &TaskContext, task: &wire::DeploymentTask) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let environment = [&task.environment, &context.environment]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or(DEFAULT_ENVIRONMENT, String::as_str);
        let environment = Name::parse(environment);
        let app = if task.app.is_empty() {
            app_of(context)
        } else {
            Name::parse(&task.app)
        };
        if let Err(error) = &environment {
            fields.wrong("task.environment", error.to_string());
        }
        if let Err(error) = &app {
            fields.wrong("task.app", error.to_string());
        }
        let action = action(&mut fields, task.action.as_ref());
        match (app, environment, action) {
            (Ok(app), Ok(environment), Some(action)) => fields.finish(Self {
                app,
                environment,
                action,
            }),
            _ => Err(fields.finish(()).err().unwrap_or_else(Error::internal)),
        }
    }
}

/// The workflow's name, else the repository's, else a plain one.
fn app_of(context: &TaskContext) -> Result<Name, crate::name::Invalid> {
    let repository = context.repository.as_ref().map_or("", |repository| {
        let url = repository.url.trim_end_matches('/');
        let last = url.rsplit('/').next().unwrap_or(url);
        last.trim_end_matches(".git")
    });
    [context.workflow_name.as_str(), repository]
        .into_iter()
        .filter(|title| !title.is_empty())
        .find_map(|title| Name::from_title(title).ok())
        .map_or_else(|| Name::parse(DEFAULT_APP), Ok)
}

fn action(fields: &mut Fields, action: Option<&deployment_task::Action>) -> Option<Action> {
    use deployment_task::Action as Wire;
    match action {
        None => {
            fields.wrong("task.action", "is required");
            None
        }
        Some(Wire::Build(build)) => {
            fields.text("task.build.dockerfile", &build.dockerfile, 512);
            fields.text("task.build.tag", &build.tag, 256);
            Some(Action::Build(build.clone()))
        }
        Some(Wire::Push(push)) => {
            fields.required_text("task.push.image", &push.image, 512);
            fields.required_text("task.push.repository", &push.repository, 512);
            Some(Action::Push(push.clone()))
        }
        Some(Wire::Deploy(deploy)) => Some(Action::Deploy(parse_deploy(fields, deploy))),
        Some(Wire::Rollback(rollback)) => {
            fields.text("task.rollback.reason", &rollback.reason, 4096);
            let reason = rollback.reason.trim();
            let reason = if reason.is_empty() {
                "asked for by an operator"
            } else {
                reason
            };
            Some(Action::Rollback(reason.to_owned()))
        }
        Some(Wire::CheckHealth(check)) => {
            let path = &check.path;
            fields.text("task.check_health.path", path, 2048);
            if !path.is_empty() && !path.starts_with('/') {
                fields.wrong("task.check_health.path", "must begin with '/'");
            }
            Some(Action::CheckHealth(
                Some(path.clone()).filter(|path| !path.is_empty()),
            ))
        }
        Some(Wire::Verify(verify)) => Some(Action::Verify(target(
            fields,
            "task.verify.target",
            verify.target,
        ))),
        Some(Wire::Diff(wire::Diff {})) => Some(Action::Diff),
        Some(Wire::Status(wire::Status {})) => Some(Action::Status),
    }
}

fn parse_deploy(fields: &mut Fields, deploy: &wire::Deploy) -> Deploy {
    let strategy: wire::Strategy = fields.known_enum("task.deploy.strategy", deploy.strategy);
    let canary_steps = deploy
        .canary_steps
        .iter()
        .enumerate()
        .map(|(index, step)| canary_step(fields, index, step))
        .collect::<Vec<_>>();
    if !canary_steps.is_sorted_by(|a, b| a.weight_percent < b.weight_percent) {
        fields.wrong(
            "task.deploy.canary_steps",
            "each share must be larger than the one before",
        );
    }
    if canary_steps.len() > 20 {
        fields.wrong("task.deploy.canary_steps", "has more than 20 steps");
    }
    let most = i32::try_from(MAX_INSTANCE_COUNT).unwrap_or(i32::MAX);
    if !(0..=most).contains(&deploy.desired_count) {
        fields.wrong(
            "task.deploy.desired_count",
            format!("must be from 0 to {most}"),
        );
    }
    let port = u16::try_from(deploy.port);
    if port.is_err() {
        fields.wrong("task.deploy.port", "must be from 0 to 65535");
    }
    let command = &deploy.start_command;
    if command.len() > MAX_ARGUMENTS
        || command
            .iter()
            .any(|part| part.len() > MAX_ARGUMENT_BYTES || part.contains('\0'))
    {
        fields.wrong(
            "task.deploy.start_command",
            format!(
                "has at most {MAX_ARGUMENTS} arguments of {MAX_ARGUMENT_BYTES} bytes without NUL"
            ),
        );
    }
    if command
        .first()
        .is_some_and(|program| program.trim().is_empty())
    {
        fields.wrong("task.deploy.start_command", "begins with an empty program");
    }
    fields.text("task.deploy.image", &deploy.image, 512);
    Deploy {
        target: target(fields, "task.deploy.target", deploy.target),
        strategy,
        canary_steps,
        desired_count: u32::try_from(deploy.desired_count).unwrap_or(1).max(1),
        port: port.ok().filter(|port| *port != 0),
        start_command: command.clone(),
        image: deploy.image.clone(),
    }
}

fn canary_step(fields: &mut Fields, index: usize, step: &wire::CanaryStep) -> CanaryStep {
    let field = format!("task.deploy.canary_steps[{index}]");
    if !(1..=100).contains(&step.weight_percent) {
        fields.wrong(format!("{field}.weight_percent"), "must be from 1 to 100");
    }
    let default = DEFAULT_CANARY_STEPS[0].bake;
    let bake = match step.bake {
        None => default,
        Some(bake) => match wire_time::duration(bake) {
            Some(bake) if bake <= MAX_BAKE => bake,
            Some(_) | None => {
                fields.wrong(format!("{field}.bake"), "must be from 0 to 1 h");
                default
            }
        },
    };
    CanaryStep {
        weight_percent: u32::try_from(step.weight_percent).unwrap_or(1),
        bake,
    }
}

fn target(fields: &mut Fields, field: &str, value: i32) -> Wanted {
    let kind: wire::TargetKind = fields.known_enum(field, value);
    match kind {
        wire::TargetKind::Unspecified => Wanted::Declared,
        wire::TargetKind::Process => Wanted::Process,
        wire::TargetKind::Docker => Wanted::Docker,
        wire::TargetKind::Ecs => {
            fields.wrong(field, "this agent has no ECS target: use PROCESS or DOCKER");
            Wanted::Declared
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::task::Repository;

    use super::*;

    fn deploy(deploy: wire::Deploy) -> wire::DeploymentTask {
        wire::DeploymentTask {
            action: Some(deployment_task::Action::Deploy(deploy)),
            ..wire::DeploymentTask::default()
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let task = wire::DeploymentTask {
            app: "../up".into(),
            environment: "Prod uction".into(),
            ..deploy(wire::Deploy {
                target: 99,
                desired_count: 17,
                port: 70_000,
                start_command: vec![" ".into()],
                canary_steps: vec![
                    wire::CanaryStep {
                        weight_percent: 50,
                        bake: None,
                    },
                    wire::CanaryStep {
                        weight_percent: 0,
                        bake: None,
                    },
                ],
                ..wire::Deploy::default()
            })
        };
        let error = Task::parse(&TaskContext::default(), &task).unwrap_err();
        let named: Vec<&str> = error
            .fields
            .iter()
            .map(|(field, _)| field.as_str())
            .collect();
        for field in [
            "task.app",
            "task.environment",
            "task.deploy.target",
            "task.deploy.desired_count",
            "task.deploy.port",
            "task.deploy.start_command",
            "task.deploy.canary_steps[1].weight_percent",
            "task.deploy.canary_steps",
        ] {
            assert!(named.contains(&field), "{field} is missing in {named:?}");
        }
    }

    #[test]
    fn an_action_is_required() {
        let error =
            Task::parse(&TaskContext::default(), &wire::DeploymentTask::default()).unwrap_err();
        assert_eq!(
            error.fields,
            [("task.action".to_owned(), "is required".to_owned())]
        );
    }

    #[test]
    fn names_come_from_the_workflow_or_the_repository() {
        let task = deploy(wire::Deploy::default());
        let context = TaskContext {
            workflow_name: "My Shop".into(),
            environment: "production".into(),
            ..TaskContext::default()
        };
        let parsed = Task::parse(&context, &task).unwrap();
        assert_eq!(parsed.app.as_str(), "my-shop");
        assert_eq!(parsed.environment.as_str(), "production");
        let context = TaskContext {
            repository: Some(Repository {
                url: "/srv/Web-Shop.git/".into(),
                ..Default::default()
            }),
            ..TaskContext::default()
        };
        let parsed = Task::parse(&context, &task).unwrap();
        assert_eq!(
            (parsed.app.as_str(), parsed.environment.as_str()),
            ("web-shop", "development")
        );
    }
}
