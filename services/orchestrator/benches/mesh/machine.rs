//! Orchestrators as processes of their own, with no-op agents connected to them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::database::Connection;
use testkit::scripted_agent::{ScriptedAgent, Session};

use contracts::agent::AGENT_TYPES;
use contracts::client::{self, ClientChannel};
use service_runtime::embedded_postgres::EmbeddedPostgres;

use crate::peer::Peer;

/// As many as nobody waits for.
pub const SLOTS: i32 = 256;

/// Where everything is.
#[derive(Debug)]
pub struct Machine {
    /// Connection string of PostgreSQL.
    pub url: String,
    /// Who else is measured.
    pub peer: Option<Peer>,
    postgres: u32,
    /// Where PostgreSQL writes what it does.
    pub postgres_log: PathBuf,
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
    pub fn new(postgres: &EmbeddedPostgres, folder: &Path, peer: Option<Peer>) -> Self {
        Self {
            url: postgres.connection_string().to_owned(),
            peer,
            postgres: postgres.process_id(),
            postgres_log: postgres.log_file(),
            folder: folder.to_owned(),
        }
    }

    /// Processor time that the database server's processes of now have used.
    pub fn database_cpu(&self) -> Duration {
        let processes = std::fs::read_dir("/proc").unwrap();
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Usage::of)
            .filter(|usage| usage.parent == self.postgres)
            .map(|usage| usage.cpu)
            .sum()
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
        self.orchestrator_with(&[], &[]).await
    }

    /// The same with more arguments and settings.
    pub async fn orchestrator_with(
        &self,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Orchestrator {
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
            .args(arguments)
            .envs(environment.iter().cloned())
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

    /// Connects an agent of each type with so many slots, all at once, and waits until all get work.
    pub async fn agents(&self, orchestrator: &Orchestrator, slots: i32) -> Agents {
        let agents = self.connect(orchestrator, slots).await;
        for (_, session) in &agents {
            // Told with a beat: long after the first work may have come.
            session.reachable().await.unwrap();
        }
        agents
    }

    /// The same, without waiting.
    pub async fn connect(&self, orchestrator: &Orchestrator, slots: i32) -> Agents {
        let mut agents = Vec::new();
        for agent_type in AGENT_TYPES {
            let agent = ScriptedAgent::passing(agent_type).await.unwrap();
            let session = agent.connect(&orchestrator.url, slots).await.unwrap();
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
        let before = self.cpu();
        let begin = Instant::now();
        tokio::time::sleep(time).await;
        100.0 * self.cpu().saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64()
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        Usage::of(self.child.id()).unwrap().cpu
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

// What the kernel says of a process.
struct Usage {
    parent: u32,
    cpu: Duration,
}

impl Usage {
    // `None`: it is gone.
    fn of(process: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        Some(Self {
            parent: fields[1].parse().ok()?,
            cpu: Duration::from_millis(10 * ticks),
        })
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
