//! From what a project declares and a task wants to what is run: one spec and one strategy. Where
//! neither says anything, the defaults here hold.

use std::time::Duration;

use agent_runtime::project::{
    AppPlan, Endpoint, Environment, Name as ProjectName, Project, ReadyBy, StartBy,
    Strategy as Declared, TargetKind as DeclaredTarget,
};
use contracts::deployment as wire;

use crate::{
    name::Name,
    spec::{HttpCheck, ProbeRule, Ready, RestartRule, Spec, TargetKind},
    strategy::{CanaryStep, DEFAULT_CANARY_STEPS, Strategy},
    task::{Deploy, Wanted},
};

/// Time that open requests have when a revision is taken out, unless the project says otherwise.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a revision is watched under traffic, unless the project says otherwise: a few probes.
const BAKE: Duration = Duration::from_secs(2);
/// Port inside a container whose image exposes none.
pub const CONTAINER_PORT: u16 = 8080;

/// Why nothing can be deployed. Says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// Nothing to start.
    #[error("the project is a library: nothing of it starts, so there is nothing to deploy")]
    Library,
    /// An app, and nobody says how it starts.
    #[error("nothing says how the app starts: declare app.start in .agentic/project.yaml")]
    NoStart,
    /// It runs elsewhere.
    #[error("app.start names {0}, which this agent does not start: declare a command or an image")]
    Foreign(&'static str),
    /// The start does not fit the target.
    #[error(
        "app.start names an image, which the target `process` cannot run: use the target `docker`"
    )]
    ImageAsProcess,
    /// A readiness that the target does not have.
    #[error("app.ready names docker_health, which the target `process` does not have")]
    NoDockerHealth,
    /// The environment wants what is not there.
    #[error("environment {0} has the target `ecs`, which this agent does not have")]
    Ecs(String),
}

/// What is to be run, and how it follows what runs now.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What.
    pub spec: Spec,
    /// How.
    pub strategy: Strategy,
}

/// Plans a deployment.
pub fn plan(
    project: &Project,
    environment: &Name,
    commit: &str,
    wish: &Deploy,
) -> Result<Plan, Unplannable> {
    let declared = ProjectName::parse(environment.as_str())
        .ok()
        .and_then(|name| project.environments.get(&name).cloned())
        .unwrap_or_default();
    let target = target(wish.target, &declared, environment)?;
    let none = AppPlan {
        start: None,
        start_declared: false,
        ready: agent_runtime::project::Found {
            value: agent_runtime::project::Ready::tcp(),
            origin: "default".to_owned(),
        },
        stop_within: Duration::from_secs(10),
        endpoints: Vec::new(),
    };
    let given = !wish.start_command.is_empty() || !wish.image.is_empty();
    let app = match &project.app {
        Some(app) => app,
        // Somebody who says how it starts knows better than detection.
        None if given => &none,
        None => return Err(Unplannable::Library),
    };
    let (command, image) = start(app, target, wish)?;
    let declared_start = app.start.as_ref().map(|found| &found.value);
    let spec = Spec {
        commit: commit.to_owned(),
        target,
        command,
        image,
        port_variable: declared_start.map_or_else(
            || "PORT".to_owned(),
            |start| start.port_variable.to_string(),
        ),
        container_port: None,
        environment: declared_start
            .into_iter()
            .flat_map(|start| &start.environment)
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect(),
        secrets: declared_start
            .into_iter()
            .flat_map(|start| &start.secrets)
            .map(ToString::to_string)
            .collect(),
        ready: ready(app, target)?,
        smoke: app.endpoints.iter().filter_map(smoke).collect(),
        ready_within: app.ready.value.within.get(),
        probe: probe(&declared),
        restart: RestartRule::default(),
        stop_within: app.stop_within,
        drain: declared
            .drain
            .map_or(DRAIN, agent_runtime::project::Period::get),
        bake: declared
            .bake
            .map_or(BAKE, agent_runtime::project::Period::get),
        memory_limit: declared
            .memory_limit
            .map(agent_runtime::project::Memory::bytes),
        desired_count: wish.desired_count,
        irreversible_migration: declared.irreversible_migration,
    };
    Ok(Plan {
        spec,
        strategy: strategy(wish, &declared),
    })
}

fn target(
    wanted: Wanted,
    declared: &Environment,
    environment: &Name,
) -> Result<TargetKind, Unplannable> {
    match (wanted, declared.target) {
        (Wanted::Process, _) | (Wanted::Declared, None | Some(DeclaredTarget::Process)) => {
            Ok(TargetKind::Process)
        }
        (Wanted::Docker, _) | (Wanted::Declared, Some(DeclaredTarget::Docker)) => {
            Ok(TargetKind::Docker)
        }
        (Wanted::Declared, Some(DeclaredTarget::Ecs)) => {
            Err(Unplannable::Ecs(environment.to_string()))
        }
    }
}

type Started = (Vec<String>, Option<String>);

fn start(app: &AppPlan, target: TargetKind, wish: &Deploy) -> Result<Started, Unplannable> {
    let image = Some(wish.image.clone()).filter(|image| !image.is_empty());
    let by = app.start.as_ref().map(|found| &found.value.by);
    match target {
        TargetKind::Process => {
            if !wish.start_command.is_empty() {
                return Ok((wish.start_command.clone(), None));
            }
            match by {
                Some(StartBy::Command(command)) => Ok((command.as_slice().to_vec(), None)),
                Some(StartBy::Image(_)) => Err(Unplannable::ImageAsProcess),
                Some(StartBy::Compose(_)) => Err(Unplannable::Foreign("a Compose file")),
                Some(StartBy::Url(_)) => Err(Unplannable::Foreign("a URL")),
                None => Err(Unplannable::NoStart),
            }
        }
        // An image knows how it starts; only somebody's explicit command overrides it.
        TargetKind::Docker => match (image, by) {
            (Some(image), _) => Ok((wish.start_command.clone(), Some(image))),
            (None, Some(StartBy::Image(image))) => {
                Ok((wish.start_command.clone(), Some(image.clone())))
            }
            (None, Some(StartBy::Compose(_))) => Err(Unplannable::Foreign("a Compose file")),
            (None, Some(StartBy::Url(_))) => Err(Unplannable::Foreign("a URL")),
            (None, Some(StartBy::Command(_)) | None) => Ok((wish.start_command.clone(), None)),
        },
    }
}

fn ready(app: &AppPlan, target: TargetKind) -> Result<Ready, Unplannable> {
    Ok(match &app.ready.value.by {
        ReadyBy::Http(http) => Ready::Http(HttpCheck {
            path: http.path.clone(),
            status: http.status,
            contains: None,
        }),
        ReadyBy::Tcp => Ready::Tcp,
        ReadyBy::Log(pattern) => Ready::Log {
            pattern: pattern.clone(),
        },
        ReadyBy::DockerHealth if target == TargetKind::Docker => Ready::DockerHealth,
        ReadyBy::DockerHealth => return Err(Unplannable::NoDockerHealth),
    })
}

/// What can be asked of a green revision without doing anything: plain GETs.
fn smoke(endpoint: &Endpoint) -> Option<HttpCheck> {
    let is_plain = endpoint.method == "GET"
        && endpoint.send.headers.is_empty()
        && endpoint.send.body.is_none();
    is_plain.then(|| HttpCheck {
        path: endpoint.path.clone(),
        status: endpoint.status,
        contains: endpoint.contains.clone(),
    })
}

fn probe(declared: &Environment) -> ProbeRule {
    let default = ProbeRule::default();
    let Some(probe) = &declared.probe else {
        return default;
    };
    ProbeRule {
        interval: probe
            .interval
            .map_or(default.interval, agent_runtime::project::Period::get),
        timeout: probe
            .timeout
            .map_or(default.timeout, agent_runtime::project::Period::get),
        successes: probe.successes.unwrap_or(default.successes),
        failures: probe.failures.unwrap_or(default.failures),
        latency_below: probe.latency_below.map(agent_runtime::project::Period::get),
    }
}

fn strategy(wish: &Deploy, declared: &Environment) -> Strategy {
    let canary = || Strategy::Canary {
        steps: canary_steps(wish, declared),
    };
    match wish.strategy {
        wire::Strategy::Rolling => Strategy::Rolling,
        wire::Strategy::BlueGreen => Strategy::BlueGreen,
        wire::Strategy::Canary => canary(),
        wire::Strategy::Recreate => Strategy::Recreate,
        wire::Strategy::Unspecified => match declared.strategy {
            Some(Declared::Rolling) => Strategy::Rolling,
            Some(Declared::Canary) => canary(),
            Some(Declared::Recreate) => Strategy::Recreate,
            Some(Declared::BlueGreen) | None => Strategy::BlueGreen,
        },
    }
}

fn canary_steps(wish: &Deploy, declared: &Environment) -> Vec<CanaryStep> {
    if !wish.canary_steps.is_empty() {
        return wish.canary_steps.clone();
    }
    if declared.steps.is_empty() {
        let bake = declared.bake.map(agent_runtime::project::Period::get);
        return DEFAULT_CANARY_STEPS
            .map(|step| CanaryStep {
                bake: bake.unwrap_or(step.bake),
                ..step
            })
            .to_vec();
    }
    let bake = declared.bake.map_or(
        DEFAULT_CANARY_STEPS[0].bake,
        agent_runtime::project::Period::get,
    );
    declared
        .steps
        .iter()
        .map(|percent| CanaryStep {
            weight_percent: u32::from(*percent),
            bake,
        })
        .collect()
}
