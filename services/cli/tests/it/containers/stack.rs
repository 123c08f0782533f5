//! The containers, and how the command reaches the mesh in them.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::command::{self, Ended};

// What says where the mesh is; scripts/up prints the same.
const SETTINGS: [&str; 3] = [
    "AGENTIC_ORCHESTRATOR_URL",
    "AGENTIC_TOKEN_FILE",
    "AGENTIC_TLS_CA",
];
const HEALTHY_WITHIN: Duration = Duration::from_mins(3);
const RESTARTED_WITHIN: Duration = Duration::from_mins(15);
// A workflow waits behind others, and through a fault.
const RUN_WITHIN: Duration = Duration::from_mins(8);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The mesh in containers.
#[derive(Debug, Clone)]
pub struct Stack {
    project: String,
    settings: Vec<(&'static str, String)>,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    id: String,
    service: String,
    project: String,
}

impl Stack {
    /// As `scripts/containers` says.
    pub fn from_environment() -> Result<Self> {
        let value = |name: &'static str| {
            let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
            value.with_context(|| format!("{name}: run scripts/containers"))
        };
        let settings = SETTINGS
            .iter()
            .map(|name| Ok((*name, value(name)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            project: value("PROJECT")?,
            settings,
        })
    }

    /// Runs the command from outside.
    pub async fn agentic(&self, arguments: &[&str]) -> Result<Ended> {
        let home = tempfile::tempdir()?;
        let mut command = command::agentic(home.path());
        command
            .envs(self.settings.iter().cloned())
            .args(arguments)
            .args(["--json", "--no-input"]);
        let output = timeout(RUN_WITHIN, command.output())
            .await
            .context("the command hangs")??;
        Ok(Ended {
            code: output.status.code().context("killed by a signal")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// The first container of a service.
    pub async fn container(&self, service: &str) -> Result<Container> {
        let found = self.containers(Some(service)).await?;
        Ok(Container {
            id: found.into_iter().next().context("no container")?,
            service: service.to_owned(),
            project: self.project.clone(),
        })
    }

    /// Waits until every container is well.
    pub async fn healthy(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let all = self.containers(None).await?;
            let mut arguments = vec!["inspect", "--format", "{{.Name}} {{.State.Health.Status}}"];
            arguments.extend(all.iter().map(String::as_str));
            let states = docker(&arguments).await?;
            if states.lines().all(|line| line.ends_with(" healthy")) {
                return Ok(());
            }
            ensure!(begun.elapsed() < HEALTHY_WITHIN, "not healthy:\n{states}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Restarts every container, as `scripts/up --restart` does.
    pub async fn restart_all(&self) -> Result<()> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut command = Command::new(format!("{root}/scripts/up"));
        command
            .arg("--restart")
            .env("PROJECT", &self.project)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let status = timeout(RESTARTED_WITHIN, command.status())
            .await
            .context("the restart hangs")??;
        ensure!(status.success(), "scripts/up --restart: {status}");
        Ok(())
    }

    async fn containers(&self, service: Option<&str>) -> Result<Vec<String>> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = service.map(|name| format!("label=com.docker.compose.service={name}"));
        let mut arguments = vec!["ps", "--all", "--quiet", "--filter", &project];
        if let Some(service) = &service {
            arguments.extend(["--filter", service]);
        }
        let listed = docker(&arguments).await?;
        let ids: Vec<_> = listed.lines().map(str::to_owned).collect();
        ensure!(!ids.is_empty(), "no containers of {}", self.project);
        Ok(ids)
    }
}

impl Container {
    /// Does something to it.
    pub async fn docker(&self, verb: &[&str]) -> Result<()> {
        let mut arguments = verb.to_vec();
        arguments.push(&self.id);
        docker(&arguments).await.map(|_| ())
    }

    /// What it said on standard output since then.
    pub async fn said(&self, since: SystemTime) -> Result<String> {
        let since = since.duration_since(UNIX_EPOCH)?.as_secs().to_string();
        docker(&["logs", "--since", &since, &self.id]).await
    }

    /// Takes it off a network for so long.
    pub async fn cut_from(&self, network: &str, time: Duration) -> Result<()> {
        let network = format!("{}_{network}", self.project);
        docker(&["network", "disconnect", &network, &self.id]).await?;
        sleep(time).await;
        // Under the name that the others know it by.
        docker(&[
            "network",
            "connect",
            "--alias",
            &self.service,
            &network,
            &self.id,
        ])
        .await
        .map(|_| ())
    }
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {arguments:?}: {said}");
    }
    Ok(String::from_utf8(output.stdout)?)
}
