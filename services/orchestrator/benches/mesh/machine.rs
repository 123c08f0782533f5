//! Orchestrators as processes of their own, with no-op agents connected to them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::database::Connection;
use testkit::scripted_agent::{ScriptedAgent, Session};

use contracts::agent::AGENT_TYPES;
use contracts::client::{self, ClientChannel};

/// Where everything is.
#[derive(Debug)]
pub struct Machine {
    /// Connection string of PostgreSQL.
    pub url: String,
    folder: PathBuf,
}

/// An orchestrator process; killed when dropped.
#[derive(Debug)]
pub struct Orchestrator {
    child: Child,
    /// Where it is called.
    pub url: String,
    /// A channel to it.
    pub channel: ClientChannel,
}

/// No-op agents of all types.
pub type Agents = Vec<(ScriptedAgent, Session)>;

impl Machine {
    /// On a database server.
    pub fn new(url: &str, folder: &Path) -> Self {
        Self {
            url: url.to_owned(),
            folder: folder.to_owned(),
        }
    }

    /// Empties the database of workflows.
    pub async fn clear(&self) {
        let connection = Connection::open(&self.url).await.unwrap();
        connection
            .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            .await
            .unwrap();
    }

    /// Starts an orchestrator and waits until it is ready.
    pub async fn orchestrator(&self) -> Orchestrator {
        let [grpc, http] = free_ports();
        let child = Command::new(env!("CARGO_BIN_EXE_orchestrator"))
            .args([
                "--listen",
                &grpc.to_string(),
                "--http-listen",
                &http.to_string(),
            ])
            .args(["--database-url", &self.url, "--log", "warn"])
            .arg("--data")
            .arg(self.folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{grpc}");
        let channel = client::channel(&url, None).unwrap();
        let orchestrator = Orchestrator {
            child,
            url,
            channel,
        };
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(http).await.is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "the orchestrator does not start"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        orchestrator
    }

    /// Connects an agent of each type with so many slots.
    pub async fn agents(&self, orchestrator: &Orchestrator, slots: i32) -> Agents {
        let mut agents = Vec::new();
        for agent_type in AGENT_TYPES {
            let agent = ScriptedAgent::passing(agent_type).await.unwrap();
            let session = agent.connect(&orchestrator.url, slots).await.unwrap();
            session.reachable().await.unwrap();
            agents.push((agent, session));
        }
        agents
    }
}

impl Orchestrator {
    /// Resident memory in MiB.
    pub fn memory_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }

    /// Share of one core that it uses over a time, in percent.
    pub async fn cpu_percent(&self, time: Duration) -> f64 {
        let before = self.cpu_seconds();
        let begin = Instant::now();
        tokio::time::sleep(time).await;
        100.0 * (self.cpu_seconds() - before) / begin.elapsed().as_secs_f64()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> [SocketAddr; 2] {
    // Both are held at once, so that they differ.
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}
