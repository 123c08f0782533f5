//! One orchestrator as a process of its own, which can be killed, frozen, thawed and stopped.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

// A debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const HTTP_WITHIN: Duration = Duration::from_secs(20);

/// How replicas are started.
#[derive(Debug, Clone)]
pub struct Setting {
    pub database_url: String,
    pub data: PathBuf,
    pub connections: u16,
    /// Where artifacts are kept, when not in the data folder.
    pub artifacts: Option<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// A process; dropping it kills it.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    pid: Pid,
    url: String,
    http: SocketAddr,
    _log: JoinSet<()>,
}

impl Replica {
    /// Starts one on free ports and waits until it serves.
    pub async fn start(setting: &Setting) -> Self {
        let artifacts = setting.artifacts.iter();
        let artifacts = artifacts.flat_map(|place| ["--artifacts", place.as_str()]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_orchestrator"))
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--database-url", &setting.database_url])
            .args(["--database-connections", &setting.connections.to_string()])
            .args(["--shutdown-grace", "5s", "--log-format", "json"])
            .arg("--data")
            .arg(&setting.data)
            .args(artifacts)
            .envs(setting.environment.clone())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (grpc, http, replica_id) = timeout(READY_WITHIN, addresses(&mut lines))
            .await
            .expect("it serves in time");
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        let mut log = JoinSet::new();
        log.spawn(tell(lines, replica_id));
        Self {
            child,
            pid,
            url: format!("http://{grpc}"),
            http,
            _log: log,
        }
    }

    /// Where it serves gRPC.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bytes of memory that it has.
    pub fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
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
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = timeout(STOP_WITHIN, self.child.wait())
            .await
            .expect("it stops in time")
            .unwrap();
        assert!(status.success(), "it ended with {status}");
    }

    /// What its readiness check says: the status code.
    pub async fn readiness(&self) -> u16 {
        timeout(HTTP_WITHIN, self.ask("/health/ready"))
            .await
            .expect("the readiness check answers")
    }

    async fn ask(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }
}

async fn addresses(lines: &mut Lines<BufReader<ChildStderr>>) -> (SocketAddr, SocketAddr, String) {
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        if value["message"] == "orchestrator serves" {
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            let http = text("http");
            let http = http.trim_start_matches("Some(").trim_end_matches(')');
            return (
                text("grpc").parse().unwrap(),
                http.parse().unwrap(),
                text("replica_id"),
            );
        }
        said.push(line);
    }
    panic!("it did not start: {said:#?}")
}

// What replicas complain about is part of what a test says.
async fn tell(mut lines: Lines<BufReader<ChildStderr>>, replica_id: String) {
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("\"level\":\"ERROR\"") {
            let _ = writeln!(io::stderr(), "{replica_id}: {line}");
        }
    }
}
