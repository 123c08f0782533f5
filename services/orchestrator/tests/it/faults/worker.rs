//! Agents as processes of their own, with the real agent runtime in them, which can be killed,
//! frozen, thawed and stopped.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

mod process;
mod work;

pub use work::{HELD, MANNER, Manner, gate, mark, runs};

/// Tells a process what it is to do.
const ORDERS: &str = "WORKER_ORDERS";
/// What a process says of each address that it serves.
const SERVES: &str = "serves ";
// A debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// What a process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// Where it registers.
    pub orchestrator: String,
    /// Where the orchestrator calls it, when not at its own address.
    pub advertise: Option<String>,
    /// The agents in it.
    pub agent_types: Vec<i32>,
    /// Slots of each.
    pub slots: usize,
    /// Folder of its own.
    pub data: PathBuf,
    /// Folder that it shares with the test.
    pub shared: PathBuf,
    /// Bytes of the artifact that each task keeps; zero: none.
    pub artifact_bytes: usize,
    /// How long work may go on after a stop was asked for.
    pub grace: Duration,
}

/// A process; dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: Pid,
    addresses: Vec<SocketAddr>,
    url: String,
    // Closed, the process ends.
    _life: ChildStdin,
    // It fails when it says something and nobody is there.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts one and waits until it serves.
    pub async fn start(orders: &Orders, name: &str) -> Self {
        let exe = std::env::current_exe().unwrap();
        Self::run(Command::new(exe), orders, name).await
    }

    /// The same with a clock that is ahead by so much, such as `+1h`.
    pub async fn start_at(offset: &str, orders: &Orders, name: &str) -> Self {
        let mut command = Command::new("faketime");
        command
            .args(["-m", "--exclude-monotonic", "-f", offset])
            .arg(std::env::current_exe().unwrap());
        Self::run(command, orders, name).await
    }

    async fn run(mut command: Command, orders: &Orders, name: &str) -> Self {
        let log = File::create(orders.shared.join(format!("{name}.log"))).unwrap();
        let mut child = command
            .args(["--exact", "faults::worker::process::process"])
            .args(["--ignored", "--nocapture"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let life = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let serving = async {
            while addresses.len() < orders.agent_types.len() {
                let said = lines.next_line().await.unwrap().expect("it starts");
                if let Some(address) = said.strip_prefix(SERVES) {
                    addresses.push(address.parse().unwrap());
                }
            }
        };
        timeout(READY_WITHIN, serving)
            .await
            .expect("it serves in time");
        let pid = Pid::from_raw(child.id().unwrap().cast_signed());
        let own = format!("http://{}", addresses[0]);
        Self {
            child,
            pid,
            addresses,
            url: orders.advertise.clone().unwrap_or(own),
            _life: life,
            _said: lines,
        }
    }

    /// Where it serves, whatever it says.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it says that it serves.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().await.unwrap();
    }

    /// Stops it in the middle of whatever it does.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = timeout(STOP_WITHIN, self.child.wait())
            .await
            .expect("it stops in time")
            .unwrap();
        assert!(status.success(), "it ended with {status}");
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }
}
