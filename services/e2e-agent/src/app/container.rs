//! Apps in containers, through the `docker` program: a container that runs in the foreground is a process like
//! any other, and is removed by name whatever happens to that process.

use std::{process::Stdio, time::Duration};

use agent_runtime::{
    process::{Command, find_program},
    project::StartBy,
};
use uuid::Uuid;

use super::{Launch, StartFailure};

/// Limit of one question to the engine.
const ENGINE_WITHIN: Duration = Duration::from_secs(20);

/// A container or a set of services that belongs to a test.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    run: Vec<String>,
    remove: Vec<String>,
    /// Compose files are read again for the removal, and mean nothing without their variables.
    variables: Vec<(String, String)>,
    /// Finds its containers.
    filter: String,
    armed: bool,
}

impl Container {
    /// What is started for `by`, if that is a container at all. Says so when there is no engine.
    pub(super) async fn of(
        by: &StartBy,
        port: u16,
        launch: &Launch,
    ) -> Result<Option<Self>, StartFailure> {
        let name = format!("agentic-e2e-{}", Uuid::now_v7());
        let mut variables = launch.environment.clone();
        variables.push((launch.port_variable.clone(), port.to_string()));
        let container = match by {
            StartBy::Command(_) | StartBy::Url(_) => return Ok(None),
            StartBy::Image(image) => {
                let mut run: Vec<String> = ["docker", "run", "--rm", "--init", "--name", &name]
                    .map(str::to_owned)
                    .to_vec();
                run.push(format!("--publish=127.0.0.1:{port}:{port}"));
                run.push(format!("--env={}", launch.port_variable));
                // Values come from the environment of the docker program, so that no argument shows them.
                run.extend(
                    launch
                        .environment
                        .iter()
                        .map(|(key, _)| format!("--env={key}")),
                );
                run.push(image.clone());
                let remove = ["docker", "rm", "--force", "--volumes", &name]
                    .map(str::to_owned)
                    .to_vec();
                Self {
                    run,
                    remove,
                    variables,
                    filter: format!("name=^/{name}$"),
                    name,
                    armed: true,
                }
            }
            StartBy::Compose(file) => {
                let mut compose = compose_program()?;
                let file = launch
                    .checkout
                    .join(file.as_str())
                    .to_string_lossy()
                    .into_owned();
                compose.extend(["--file", &file, "--project-name", &name].map(str::to_owned));
                let with = |rest: &[&str]| {
                    let mut argv = compose.clone();
                    argv.extend(rest.iter().map(|part| (*part).to_owned()));
                    argv
                };
                Self {
                    run: with(&["up", "--abort-on-container-exit"]),
                    remove: with(&["down", "--volumes", "--remove-orphans"]),
                    filter: format!("label=com.docker.compose.project={name}"),
                    name,
                    variables,
                    armed: true,
                }
            }
        };
        engine_answers().await?;
        Ok(Some(container))
    }

    /// How to ask for its health.
    pub(super) fn question(&self) -> HealthQuestion {
        HealthQuestion {
            filter: self.filter.clone(),
        }
    }

    /// Runs it in the foreground.
    pub(super) fn command(&self) -> Command {
        Command::new(self.run.iter().cloned())
    }

    /// Removes it and waits until it is gone.
    pub(super) async fn remove(mut self) {
        self.armed = false;
        let removed = Command::new(self.remove.iter().cloned())
            .environments(self.variables.iter().map(|(name, value)| (name, value)))
            .timeout(ENGINE_WITHIN)
            .run()
            .await;
        match removed {
            Ok(finished) if finished.is_success() => {}
            Ok(finished) => {
                let said = finished.last_lines(3);
                tracing::warn!(container = self.name, said, "a container may be left");
            }
            Err(error) => tracing::warn!(container = self.name, %error, "a container may be left"),
        }
    }
}

/// Asks for the health of the containers that belong to a test.
#[derive(Debug, Clone)]
pub(super) struct HealthQuestion {
    filter: String,
}

impl HealthQuestion {
    /// Whether every health check there is content, and there is at least one; else what they say.
    pub(super) async fn ask(&self) -> Result<(), String> {
        let list = [
            "docker",
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            &self.filter,
        ];
        let ids = engine(&list).await?;
        if ids.trim().is_empty() {
            return Err("the engine does not know the container yet".to_owned());
        }
        let format = "--format={{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}";
        let mut inspect = vec!["docker", "inspect", format];
        inspect.extend(ids.split_whitespace());
        let states = engine(&inspect).await?;
        let mut states = states
            .lines()
            .map(str::trim)
            .filter(|state| *state != "none")
            .peekable();
        if states.peek().is_none() {
            return Err("no container has a health check".to_owned());
        }
        match states.find(|state| *state != "healthy") {
            None => Ok(()),
            Some(state) => Err(format!("a health check says {state}")),
        }
    }
}

async fn engine(argv: &[&str]) -> Result<String, String> {
    Command::new(argv.iter().copied())
        .timeout(ENGINE_WITHIN)
        .run()
        .await
        .map(|asked| asked.stdout.text())
        .map_err(|error| error.to_string())
}

impl Drop for Container {
    /// The last resort when the task is dropped: nobody can wait here.
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let Some((program, arguments)) = self.remove.split_first() else {
            return;
        };
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Err(error) = std::thread::Builder::new()
            .name("container-end".into())
            .spawn(move || command.status())
        {
            tracing::error!(container = self.name, %error, "a container is left");
        }
    }
}

async fn engine_answers() -> Result<(), StartFailure> {
    let asked = Command::new(["docker", "version", "--format", "{{.Server.Version}}"])
        .timeout(ENGINE_WITHIN)
        .run()
        .await;
    match asked {
        Ok(finished) if finished.is_success() => Ok(()),
        Ok(finished) => Err(StartFailure::Unavailable(format!(
            "the app runs in a container, and no Docker engine answers: {}",
            finished.last_lines(1)
        ))),
        Err(error) => Err(StartFailure::Unavailable(format!(
            "the app runs in a container, and {error}"
        ))),
    }
}

/// `docker-compose` where it is a program of its own, else the plugin.
fn compose_program() -> Result<Vec<String>, StartFailure> {
    if find_program("docker-compose").is_some() {
        return Ok(vec!["docker-compose".to_owned()]);
    }
    if find_program("docker").is_some() {
        return Ok(vec!["docker".to_owned(), "compose".to_owned()]);
    }
    Err(StartFailure::Unavailable(
        "the app is a set of Compose services, and `docker` is not installed".to_owned(),
    ))
}
