//! `kill -9` of one agent after the other, each in the middle of its stage or after what it did and
//! before anybody heard of it, while the orchestrator lives: every stage runs twice, nothing is done
//! twice, and the work succeeds.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::database::Database;
use testkit::fault_proxy::{Direction, Fault, FaultProxy};
use testkit::repository::Repository;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::cassette::{Story, done, write};
use super::repairing::{LIBRARY, PROGRAM, REQUIREMENTS, rounds};
use super::{finished, get, is_equipped, stage};
use crate::command::Running;
use crate::gate::Gate;
use crate::processes::{self, EndedWithTest};
use crate::shop::{self, Limits};

// Whether somebody at the gate is the one that is waited for.
type IsWanted = fn(&str) -> bool;

const PATIENCE: Duration = Duration::from_mins(1);
const AGENTS: [&str; 5] = ["scaffold", "validation", "e2e", "integration", "deployment"];
// Beside those that other meshes of this test binary take.
const ROUTER_PORTS: &str = "30980-30989";
const INSTANCE_PORTS: &str = "30990-30999";

/// An orchestrator and one agent of each type, each a process.
struct Fleet {
    folder: TempDir,
    url: String,
    path: std::ffi::OsString,
    agents: BTreeMap<&'static str, Child>,
    // Where the deployment agent listens, and the only way to it.
    deployment: SocketAddr,
    proxy: FaultProxy,
    _orchestrator: Child,
    _log: JoinSet<()>,
    _database: Database,
}

fn program(name: &str) -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_agentic")).with_file_name(name);
    ensure!(
        program.is_file(),
        "no {}: build the whole workspace",
        program.display()
    );
    Ok(program)
}

fn process(name: &str, log: &Path) -> Result<Command> {
    let mut command = Command::new(program(name)?);
    let log = File::options().create(true).append(true).open(log)?;
    command
        .env_clear()
        .args(["--log-format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}

impl Fleet {
    async fn start(gate: &Gate, folder: TempDir) -> Result<Self> {
        let database = Database::empty().await?;
        let log = folder.path().join("orchestrator.log");
        let mut orchestrator = process("orchestrator", &log)?
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--access", "open"])
            .args(["--database-url", database.connection_string()])
            .arg("--data")
            .arg(folder.path().join("data"))
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(orchestrator.stderr.take().context("no log")?).lines();
        let serves = async {
            while let Some(line) = lines.next_line().await? {
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                if value["message"] == json!("orchestrator serves") {
                    return value["grpc"].as_str().map(ToOwned::to_owned).context(line);
                }
            }
            anyhow::bail!("the orchestrator did not start")
        };
        let grpc = tokio::time::timeout(PATIENCE, serves).await??;
        // Read to its end, so that the orchestrator never waits for a reader.
        let mut log = JoinSet::new();
        log.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let deployment = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = std::env::var_os("PATH").context("no PATH")?;
        let folders = std::iter::once(gate.git()?).chain(std::env::split_paths(&path));
        let mut fleet = Self {
            path: std::env::join_paths(folders)?,
            folder,
            url: format!("http://{grpc}"),
            agents: BTreeMap::new(),
            deployment,
            proxy: FaultProxy::start(deployment).await?,
            _orchestrator: orchestrator,
            _log: log,
            _database: database,
        };
        for agent in AGENTS {
            fleet.agent(agent)?;
        }
        Ok(fleet)
    }

    fn agent(&mut self, name: &'static str) -> Result<()> {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut command = process(&format!("{name}-agent"), &log)?;
        command
            .env("PATH", &self.path)
            .args(["--orchestrator-url", &self.url])
            .arg("--data")
            .arg(self.folder.path().join("data"));
        if name == "deployment" {
            command
                .args(["--listen", &self.deployment.to_string()])
                .args(["--advertise", &self.proxy.url(), "--docker", "off"])
                .args(["--router-ports", ROUTER_PORTS])
                .args(["--instance-ports", INSTANCE_PORTS]);
        } else {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if name == "scaffold" {
            let cassette = self.folder.path().join("cassette");
            command.arg("--cassette").arg(cassette);
        }
        self.agents.insert(name, command.spawn()?);
        Ok(())
    }

    // Its end, and its next life.
    async fn kill(&mut self, name: &'static str) -> Result<()> {
        let mut agent = self.agents.remove(name).context(name)?;
        agent.kill().await?;
        self.agent(name)
    }

    // Waits until the books of the deployment agent have a revision that proved itself.
    async fn verified(&self) -> Result<()> {
        let books = self.folder.path().join("data/deployment");
        let verified = async {
            loop {
                let ledger = find(&books, "ledger.json");
                let text = ledger.and_then(|file| std::fs::read_to_string(file).ok());
                if text.is_some_and(|text| text.contains("\"verified\"")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, verified)
            .await
            .context("no revision was verified")
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.ends_with(name).then_some(path)
        }
    })
}

// The model writes an app that waits at the gate: its tests, and each of its starts.
async fn record(folder: &Path, name: &str, gate: &Gate) -> Result<()> {
    let repository = shop::repository(name, Limits::AMPLE)?;
    let mut story = Story::new(folder, name, REQUIREMENTS, repository)?;
    let library = shop::library(&gate.python("\"tests\""));
    let server = shop::server(&gate.python("\"app\""));
    story
        .fix(&[
            write(LIBRARY, &library),
            write(PROGRAM, &server),
            done("Wait at the gate"),
        ])
        .await
}

#[tokio::test]
async fn every_agent_dies_once_in_its_stage_and_everything_is_done_once() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("killed-agents");
    let _apps = EndedWithTest::new(name);
    let (gate, folder) = (Gate::new()?, tempfile::tempdir()?);
    record(&folder.path().join("cassette"), name, &gate).await?;
    let mut fleet = Fleet::start(&gate, folder).await?;
    let repository = shop::repository(name, Limits::AMPLE)?;
    let base = repository.resolve("main")?;
    let (orchestrator, url) = (fleet.url.clone(), repository.url());
    let fixed = ["run", "--no-input", "--json", "--type", "bugfix"];
    let own = [
        "--requirements",
        REQUIREMENTS,
        "--repository",
        &url,
        "--name",
        name,
    ];
    let watch = Running::start(
        &[
            &["--orchestrator", &orchestrator][..],
            &fixed,
            &own,
            &["--target", "main", "--set", "scaffold.generator=cassette"],
        ]
        .concat(),
    )?;

    // After the branch was pushed, amid tests, amid the app's test, after the merge was pushed.
    let marks: [(_, IsWanted); 4] = [
        ("scaffold", |who| who.contains(":refs/heads/agentic/")),
        ("validation", |who| who == "tests"),
        ("e2e", |who| who == "app"),
        ("integration", |who| who.ends_with(":refs/heads/main")),
    ];
    for (agent, is_wanted) in marks {
        let kept = gate.keep(is_wanted).await.context(agent)?;
        fleet.kill(agent).await?;
        kept.died().await.context(agent)?;
    }
    // After the revision took the traffic; nobody hears of it.
    let kept = gate.keep(|who| who == "app").await?;
    fleet.proxy.set(Direction::ToClient, Fault::Discard);
    drop(kept);
    fleet.verified().await?;
    fleet.kill("deployment").await?;
    fleet.proxy.set(Direction::ToClient, Fault::None);
    drop(gate);

    let ended = watch.end().await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let events = ended.json()?;
    let workflow = finished(&ended)?;
    assert_eq!(rounds(&events), []);
    for name in AGENTS {
        let found = stage(&workflow, name)?;
        assert_eq!(found["verdict"], json!("VERDICT_PASSED"), "{found}");
        assert_eq!(found["attemptCount"], json!(2), "{found}");
        assert_eq!(found.get("failedCount"), None, "{found}");
        let ends = events
            .iter()
            .filter(|event| event["stage"] == json!(name) && event.get("stageFinished").is_some());
        assert_eq!(ends.count(), 1, "{name}");
    }
    assert_done_once(&workflow, &repository, &base, name).await
}

// One commit on one branch, one merge, one revision that answers and is all that runs.
async fn assert_done_once(
    workflow: &Value,
    repository: &Repository,
    base: &str,
    name: &str,
) -> Result<()> {
    let refs = ["for-each-ref", "--format=%(refname)", "refs/heads/agentic"];
    let branches = repository.git(&refs)?;
    assert_eq!(branches.lines().count(), 1, "{branches}");
    let since = format!("{base}..{}", branches.trim());
    let commits = repository.git(&["rev-list", &since])?;
    assert_eq!(commits.lines().count(), 1, "{commits}");
    let since = format!("{base}..main");
    let merges = repository.git(&["rev-list", "--first-parent", &since])?;
    let outcome = &workflow["outcome"];
    assert_eq!(
        json!(merges.lines().collect::<Vec<_>>()),
        json!([outcome["mergedCommit"]])
    );
    assert_eq!(outcome["revision"], json!("1"), "{outcome}");
    // Whole runs: the one that was cut off counts for nothing.
    let checks = &stage(workflow, "validation")?["result"]["validation"]["checks"];
    let tests = checks.as_array().context("no checks")?;
    let tests = tests.iter().find(|check| check["name"] == json!("tests"));
    assert_eq!(tests.context("no tests")?["executedCount"], json!(1));
    let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
    assert_eq!(get(&format!("{endpoint}/health")).await?.0, 200);
    assert_eq!(processes::with_argument(name).len(), 1);
    Ok(())
}
