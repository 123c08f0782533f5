//! A mesh of real processes, every input of which holds a secret.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator::access::secret::Secret;
use regex::Regex;
use tempfile::TempDir;
use testkit::database::Database;
use testkit::redis_server::RedisServer;
use tokio::process::{Child, Command};

use super::search::Outputs;
use crate::collector::Collector;
use crate::command::{Ended, agentic, end};
use crate::mesh::Place;

const PATIENCE: Duration = Duration::from_mins(2);
const AGENTS: [&str; 5] = ["scaffold", "validation", "e2e", "integration", "deployment"];

/// What is planted, by name.
pub type Planted = Vec<(&'static str, String)>;

/// The processes. Dropping it stops them.
pub struct Bed {
    pub planted: Planted,
    pub outputs: Outputs,
    pub database: Database,
    pub http: String,
    url: String,
    home: TempDir,
    ports: [String; 2],
    processes: Vec<Child>,
    collector: Option<Collector>,
    _redis: RedisServer,
}

impl Bed {
    pub async fn start() -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("agentic-secrets-")
            .tempdir()?;
        let made = agentic_in(
            home.path(),
            &["certs", "--folder", &at(home.path(), "certs")],
        );
        let made = end(made).await?;
        ensure!(made.code == 0, "{made:?}");
        let hostile =
            |name: &str| format!("pl\"{name}/ <é>+& {}", &Secret::random().reveal()[8..28]);
        let planted = vec![
            ("password of the database", hostile("database")),
            ("password of Redis", hostile("redis")),
            ("secret of the app under test", hostile("e2e")),
            ("secret of the deployed app", hostile("deployed")),
            ("password of a registry", hostile("registry")),
            (
                "password in a repository's URL",
                "pa55word-of-a-repository".to_owned(),
            ),
            ("variable of the processes", hostile("variable")),
            (
                "token of the administrator",
                Secret::random().reveal().to_owned(),
            ),
            ("token of the agents", Secret::random().reveal().to_owned()),
        ];
        let password = value(&planted, "password of Redis");
        let redis = RedisServer::start(home.path(), password).await?;
        let collector = Collector::start(&["traces", "metrics", "logs"]).await?;
        let mut bed = Self {
            outputs: Outputs::default(),
            database: Database::empty().await?,
            http: String::new(),
            url: String::new(),
            ports: Place::new()?.ports(),
            processes: Vec::new(),
            collector: Some(collector),
            _redis: redis,
            home,
            planted,
        };
        bed.plant_files()?;
        bed.start_orchestrator().await?;
        bed.start_agents().await?;
        Ok(bed)
    }

    pub fn path(&self, name: &str) -> String {
        at(self.home.path(), name)
    }

    pub fn value(&self, name: &str) -> String {
        value(&self.planted, name).to_owned()
    }

    fn plant(&mut self, name: &'static str, value: &str) {
        self.planted.push((name, value.trim().to_owned()));
    }

    fn plant_files(&mut self) -> Result<()> {
        for (file, name) in [
            ("database.password", "password of the database"),
            ("redis.password", "password of Redis"),
            ("e2e/development/TOKEN", "secret of the app under test"),
            ("deployed/development/TOKEN", "secret of the deployed app"),
            ("admin.token", "token of the administrator"),
            ("agent.token", "token of the agents"),
        ] {
            let path = PathBuf::from(self.path(file));
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, self.value(name) + "\n")?;
        }
        let registry = serde_json::json!({"auths": {"registry.example": {
            "username": "somebody", "password": self.value("password of a registry"),
        }}});
        fs::write(self.path("registry.json"), registry.to_string())?;
        for (name, file) in [
            ("key of the authority", "certs/ca.key"),
            ("key of the orchestrator", "certs/orchestrator.key"),
        ] {
            let key = fs::read_to_string(self.path(file))?;
            self.plant(name, &key);
        }
        Ok(())
    }

    async fn start_orchestrator(&mut self) -> Result<()> {
        let own = [
            format!("--database-url={}", self.database.connection_string()),
            format!(
                "--database-password-file={}",
                self.path("database.password")
            ),
            format!("--redis-url={}", RedisServer::url(self.home.path())),
            format!("--redis-password-file={}", self.path("redis.password")),
            format!("--tls-cert={}", self.path("certs/orchestrator.crt")),
            format!("--tls-key={}", self.path("certs/orchestrator.key")),
            format!("--tls-ca={}", self.path("certs/ca.crt")),
            format!("--enrolment-ca-cert={}", self.path("certs/ca.crt")),
            format!("--enrolment-ca-key={}", self.path("certs/ca.key")),
            format!("--bootstrap-token-file={}", self.path("admin.token")),
            format!("--bootstrap-agent-token-file={}", self.path("agent.token")),
            "--http-listen=127.0.0.1:0".to_owned(),
            "--access=restricted".to_owned(),
        ];
        self.spawn("orchestrator", &own)?;
        let serves = r#""grpc":"127\.0\.0\.1:(\d+)","http":"(?:Some\()?([\d.:]+)"#;
        let found = self.logged("orchestrator", serves).await?;
        self.url = format!("https://localhost:{}", found[0]);
        self.http = format!("http://{}", found[1]);
        Ok(())
    }

    async fn start_agents(&mut self) -> Result<()> {
        for kind in AGENTS {
            let made = self.run("admin.token", &["enrol", "--type", kind]).await?;
            ensure!(made.code == 0, "{made:?}");
            let token = format!("{kind}.enrolment");
            fs::write(self.path(&token), &made.out)?;
            self.plant("enrolment token", &made.out);
            let mut own = vec![
                format!("--orchestrator-url={}", self.url),
                format!("--enrolment-token-file={}", self.path(&token)),
                format!("--tls-ca={}", self.path("certs/ca.crt")),
                format!("--token-file={}", self.path("agent.token")),
            ];
            match kind {
                "e2e" => own.push(format!("--e2e-secrets={}", self.path("e2e"))),
                "deployment" => own.extend([
                    format!("--secrets={}", self.path("deployed")),
                    format!("--registry-credentials={}", self.path("registry.json")),
                    format!("--router-ports={}", self.ports[0]),
                    format!("--instance-ports={}", self.ports[1]),
                    "--docker=off".to_owned(),
                ]),
                _ => {}
            }
            self.spawn(&format!("{kind}-agent"), &own)?;
        }
        let ready = async {
            loop {
                let listed = self.run("admin.token", &["agents", "--json"]).await?;
                if listed.out.matches("AGENT_STATE_READY").count() == AGENTS.len() {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .context("the agents")??;
        for kind in AGENTS {
            let key = fs::read_to_string(self.path(&format!("data/{kind}/identity.pem")))?;
            let key = key
                .find("-----BEGIN PRIVATE")
                .map(|from| key[from..].to_owned());
            self.plant("key of an agent", &key.context("no key")?);
        }
        Ok(())
    }

    fn spawn(&mut self, name: &str, own: &[String]) -> Result<()> {
        let program = Path::new(env!("CARGO_BIN_EXE_agentic")).with_file_name(name);
        ensure!(program.exists(), "{} is not built", program.display());
        let out = File::create(self.path(&format!("{name}.log")))?;
        let collector = self.collector.as_ref().context("it has ended")?;
        let child = Command::new(program)
            .args([
                "--listen=127.0.0.1:0",
                "--shutdown-grace=5s",
                "--log-format=json",
            ])
            .args(["--log=debug", &format!("--data={}", self.path("data"))])
            .args(own)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
            .env(
                "AWS_SECRET_ACCESS_KEY",
                self.value("variable of the processes"),
            )
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        self.processes.push(child);
        Ok(())
    }

    // What a process says of itself.
    async fn logged(&self, name: &str, pattern: &str) -> Result<Vec<String>> {
        let pattern = Regex::new(pattern)?;
        let looking = async {
            loop {
                let log = fs::read_to_string(self.path(&format!("{name}.log")))?;
                if let Some(found) = pattern.captures(&log) {
                    let groups = found.iter().skip(1).flatten();
                    return anyhow::Ok(groups.map(|group| group.as_str().to_owned()).collect());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .with_context(|| {
                fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
            })?
    }

    /// Runs the command as whose token it is.
    pub async fn run(&self, token: &str, arguments: &[&str]) -> Result<Ended> {
        let mut command = agentic_in(self.home.path(), &[]);
        command
            .args([
                "--orchestrator",
                &self.url,
                "--tls-ca",
                &self.path("certs/ca.crt"),
            ])
            .args(["--token-file", &self.path(token)])
            .args(arguments)
            .env("AGENTIC_LOG", "debug");
        if let Some(collector) = &self.collector {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        }
        end(command).await
    }

    /// The same, and keeps what it says.
    pub async fn say(&mut self, token: &str, arguments: &[&str]) -> Result<Ended> {
        let ended = self.run(token, arguments).await?;
        let place = format!("agentic {}", arguments[..arguments.len().min(2)].join(" "));
        self.outputs.add(&place, ended.out.as_bytes());
        self.outputs.add(&place, ended.err.as_bytes());
        Ok(ended)
    }

    fn stop(&mut self) {
        for process in &mut self.processes {
            if let Some(pid) = process.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        // What was deployed ends with its agent only when that stops in order.
        for mut process in self.processes.drain(..) {
            for _ in 0..200 {
                if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = process.start_kill();
        }
    }

    /// Stops the mesh and keeps all that lies about: logs of processes, their telemetry, their data, the database.
    pub async fn collect(&mut self) -> Result<()> {
        // They send the rest of their telemetry when they end.
        self.stop();
        let collector = self.collector.take().context("it has ended")?;
        let telemetry = collector.stop_and_say().await?;
        self.outputs.add("telemetry", telemetry.as_bytes());
        let agents = AGENTS.map(|kind| format!("{kind}-agent"));
        for name in agents.iter().map(String::as_str).chain(["orchestrator"]) {
            let log = fs::read(self.path(&format!("{name}.log")))?;
            self.outputs.add(&format!("log of {name}"), &log);
        }
        let data = PathBuf::from(self.path("data"));
        self.outputs
            .add_folder("artifacts", &data.join("artifacts"), &[])?;
        self.outputs
            .add_folder("data", &data, &["artifacts", "identity.pem"])?;
        let client = self.database.connect().await?;
        let tables =
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
        for table in client.query(tables, &[]).await? {
            let table: String = table.get(0);
            let rows = format!("SELECT t::text FROM \"{table}\" AS t");
            for row in client.query(&rows, &[]).await? {
                self.outputs
                    .add("database", row.get::<_, String>(0).as_bytes());
            }
        }
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop();
    }
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn value<'p>(planted: &'p Planted, name: &str) -> &'p str {
    let found = planted.iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, value)| value)
}

fn agentic_in(home: &Path, arguments: &[&str]) -> Command {
    let mut command = agentic(home);
    command.args(arguments);
    command
}
