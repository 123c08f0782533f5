//! Hints through Redis: as fast as through the database, and nobody misses them when Redis hangs, dies or lets
//! nobody in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator::Config;
use orchestrator::redis::Redis;
use testkit::database::Database;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use contracts::orchestrator::WorkflowState;

use crate::database;
use crate::mesh::{PATIENCE, Replica, app, assert_gapless, eventually, passing_agents};
use crate::replicas::{delays, percentile};

mod limits;

const PASSWORD: &str = "p@ss w%rd";

/// A Redis of this test's own, on a socket in a folder.
struct Server {
    child: Child,
    // A full pipe would stop it.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(testkit::requirement::peer_program("redis-server"))
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD, "--unixsocket"])
            .arg(socket(folder))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
            let line = line.unwrap().unwrap().expect("it says that it is ready");
            if line.contains("ready to accept connections") {
                break;
            }
        }
        Self {
            child,
            _lines: lines,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn settings(folder: &Path, password: &str) -> Redis {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let url = format!("redis+unix://{}", socket(folder).display());
    Redis::new(&url, Some(&file)).unwrap()
}

async fn two(database: &Database, folder: &Path, redis: &Redis) -> (Replica, Replica) {
    let config = || Config {
        redis: Some(redis.clone()),
        ..Replica::config(database.connection_string(), folder)
    };
    let first = Replica::start_as(config()).await;
    let second = Replica::start_as(config()).await;
    (first, second)
}

// Nobody may listen for the database's notifications: what is measured is Redis.
async fn assert_only_redis(database: &Database) {
    let client = database.connect().await.unwrap();
    let listeners = "SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'agentic-orchestrator-hints'";
    assert!(client.query(listeners, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_watcher_on_another_replica_hears_through_redis_and_is_only_slower_while_redis_hangs() {
    testkit::require!(Redis);
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let redis = settings(folder.path(), PASSWORD);
    let (driving, watching) = two(&database, folder.path(), &redis).await;
    let _agents = passing_agents(&driving.url).await;

    let mut with = delays(&driving, &watching, 20).await;
    assert_only_redis(&database).await;
    server.signal(Signal::SIGSTOP);
    let mut without = delays(&driving, &watching, 5).await;
    server.signal(Signal::SIGCONT);
    let [with_p50, with_p99] = [50, 99].map(|percent| percentile(&mut with, percent));
    let [p50, p99] = [50, 99].map(|percent| percentile(&mut without, percent));
    println!(
        "watcher on another replica behind one on the driving replica: \
         hints through Redis p50 {with_p50:?} p99 {with_p99:?}, Redis frozen p50 {p50:?} p99 {p99:?}"
    );
    assert!(with_p50 < Duration::from_millis(100), "{with_p50:?}");
    assert!(p50 > with_p50, "hints are faster than looking");
    assert!(p99 < Duration::from_secs(10), "looking is the guarantee");
    driving.stop().await;
    watching.stop().await;
}

#[tokio::test]
async fn workflows_go_on_without_redis_and_hints_are_back_when_it_is() {
    testkit::require!(Redis);
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let redis = settings(folder.path(), PASSWORD);
    // Not there when they start, either.
    let (driving, watching) = two(&database, folder.path(), &redis).await;
    let _agents = passing_agents(&driving.url).await;
    let go_on = async || {
        let id = driving.create(app("shop")).await.workflow_id;
        assert_gapless(&watching.watch(&id, 0).await, 0);
        assert_eq!(watching.get(&id).await.state(), WorkflowState::Succeeded);
    };
    go_on().await;
    for _ in 0..2 {
        let server = Server::start(folder.path()).await;
        let begun = Instant::now();
        // Looking alone is never so fast.
        eventually(
            async || percentile(&mut delays(&driving, &watching, 1).await, 100),
            |slowest| *slowest < Duration::from_millis(100),
        )
        .await;
        println!("hints are back {:?} after Redis is", begun.elapsed());
        server.kill().await;
        go_on().await;
    }
    assert_only_redis(&database).await;
    driving.stop().await;
    watching.stop().await;
}

#[tokio::test]
async fn a_redis_that_lets_nobody_in_stops_no_workflow() {
    testkit::require!(Redis);
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path()).await;
    let redis = settings(folder.path(), "wrong");
    let (driving, watching) = two(&database, folder.path(), &redis).await;
    let _agents = passing_agents(&driving.url).await;
    let id = driving.create(app("shop")).await.workflow_id;
    assert_gapless(&watching.watch(&id, 0).await, 0);
    driving.stop().await;
    watching.stop().await;
}
