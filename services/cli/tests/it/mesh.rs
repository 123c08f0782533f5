//! The real mesh in a process of its own, driven by the command alone.

mod access;
mod cassette;
mod killed_agents;
mod outcomes;
mod process;
mod repairing;
pub mod shared;
mod undoing;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::command::{Ended, agentic};

// A debug build on a busy machine, making a database cluster.
const READY_WITHIN: Duration = Duration::from_mins(3);
const STOP_WITHIN: Duration = Duration::from_mins(1);
// Every mesh of this test binary deploys to ports of its own.
static PORTS: AtomicU16 = AtomicU16::new(0);
const PORTS_PER_MESH: u16 = 40;

/// A data folder that meshes run on, one after the other.
pub struct Place {
    folder: TempDir,
    first_port: u16,
}

impl Place {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let step = PORTS.fetch_add(PORTS_PER_MESH, Ordering::Relaxed);
        Ok(Self {
            folder: tempfile::Builder::new().prefix("agentic-mesh-").tempdir()?,
            first_port: 31_000 + step,
        })
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The command on this data folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = agentic(self.folder.path());
        command.arg("--data").arg(self.data()).args(arguments);
        command
    }

    /// Runs the command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        crate::command::end(self.command(arguments)).await
    }

    /// Ports of what it deploys: of apps, and of the instances behind them.
    pub fn ports(&self) -> [String; 2] {
        [0, PORTS_PER_MESH / 2].map(|from| {
            let first = self.first_port + from;
            format!("{first}-{}", first + PORTS_PER_MESH / 2 - 1)
        })
    }

    /// The command that starts a mesh here.
    pub fn up(&self, arguments: &[&str]) -> Command {
        let [router, instances] = self.ports();
        let mut command = self.command(&["up"]);
        command
            .args(["--router-ports", &router])
            .args(["--instance-ports", &instances])
            .args(["--docker", "off"])
            .arg("--postgres-wheel")
            .arg(testkit::cluster::wheel_folder())
            .args(arguments);
        command
    }

    /// Starts a mesh and waits until it is ready.
    pub async fn start(&self) -> Result<Mesh> {
        self.start_as(self.up(&["--json"])).await
    }

    /// The same by this command.
    pub async fn start_as(&self, mut up: Command) -> Result<Mesh> {
        std::fs::create_dir_all(self.data())?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut child = up.stderr(log).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(READY_WITHIN, lines.next_line()).await??;
        let Some(line) = line else {
            bail!(
                "the mesh did not start: {}",
                std::fs::read_to_string(self.log())?
            );
        };
        Ok(Mesh {
            child,
            ready: serde_json::from_str(&line)?,
        })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("mesh.log")
    }
}

/// A mesh that runs.
pub struct Mesh {
    child: Child,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Mesh {
    /// Its process.
    pub fn pid(&self) -> Result<Pid> {
        let pid = self.child.id().context("it has ended")?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGKILL)?;
        tokio::time::timeout(STOP_WITHIN, self.child.wait()).await??;
        Ok(())
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let status = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await??;
        anyhow::ensure!(status.success(), "the mesh ended with {status}");
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // What it deployed ends with it only when it stops in order.
        let Ok(pid) = self.pid() else { return };
        let _ = kill(pid, Signal::SIGTERM);
        for _ in 0..200 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The machine has what the template `python-http` and its stages need.
pub fn is_equipped() -> bool {
    use testkit::requirement::{Thing, is_met};
    is_met(Thing::Git) && is_met(Thing::Python)
}

/// One HTTP request, one answer.
pub async fn get(url: &str) -> Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rest = url.strip_prefix("http://").context("not http")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = tokio::net::TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(STOP_WITHIN, stream.read_to_string(&mut answer)).await??;
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("{url} answered {answer:?}"))?;
    Ok((status, answer))
}

/// What git says about a repository.
pub fn git(repository: &Path, arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(repository)
        .args(arguments)
        .stdin(Stdio::null())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The last line of a followed workflow: the workflow.
pub fn finished(ended: &Ended) -> Result<Value> {
    ended.json()?.pop().with_context(|| format!("{ended:?}"))
}

/// A stage of a workflow.
pub fn stage<'a>(workflow: &'a Value, name: &str) -> Result<&'a Value> {
    let stages = workflow["stages"].as_array().context("no stages")?;
    stages
        .iter()
        .find(|stage| stage["name"] == serde_json::json!(name))
        .with_context(|| format!("no stage {name}"))
}

/// Sequences of the events among the lines.
pub fn sequences(lines: &[Value]) -> Vec<i64> {
    lines
        .iter()
        .filter_map(|line| line["sequence"].as_str()?.parse().ok())
        .collect()
}
