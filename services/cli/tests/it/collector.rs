//! A real collector that a test starts.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::spans::{Span, read};

const PATIENCE: Duration = Duration::from_mins(1);

/// A collector that runs.
pub struct Collector {
    child: Child,
    // Reads all the time: a full pipe would stop the collector.
    out: JoinSet<std::io::Result<String>>,
    endpoint: String,
    _folder: TempDir,
}

impl Collector {
    /// Starts one that says what it receives of these, such as `traces`, and waits until it listens.
    pub async fn start(signals: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [grpc, http] = free_addresses()?;
        let mut child = Command::new(testkit::requirement::peer_program("rotel"))
            .arg("start")
            .args(["--exporter", "blackhole"])
            .args(signals.iter().flat_map(|signal| ["--debug-log", signal]))
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &grpc])
            .args(["--otlp-http-endpoint", &http])
            .args(["--pid-file".as_ref(), folder.path().join("pid").as_os_str()])
            .args(["--log-file".as_ref(), folder.path().join("log").as_os_str()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        // It binds before it says so.
        tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await??;
        anyhow::ensure!(line.contains("Starting Rotel"), "{line:?}");
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut text = String::new();
            out.read_to_string(&mut text).await?;
            Ok(text)
        });
        Ok(Self {
            child,
            out: reading,
            endpoint: format!("http://{grpc}"),
            _folder: folder,
        })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops it, and says which spans it received.
    pub async fn stop(self) -> Result<Vec<Span>> {
        Ok(read(&self.stop_and_say().await?))
    }

    /// Stops it, and says in its words what it received.
    pub async fn stop_and_say(mut self) -> Result<String> {
        let pid = self.child.id().context("the collector has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(self.out.join_next().await.context("nobody reads")???)
    }
}

// Free a moment ago: the collector cannot say which ports it was given.
fn free_addresses() -> Result<[String; 2]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let [grpc, http] = listeners.map(|listener| listener.local_addr());
    Ok([grpc?.to_string(), http?.to_string()])
}
