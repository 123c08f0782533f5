//! Hints through Redis: as fast as through the database, and nobody misses them when Redis hangs, dies or lets
//! nobody in.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator::Config;
use orchestrator::redis::Redis;
use testkit::database::Database;
use testkit::redis_server::RedisServer;

use contracts::orchestrator::WorkflowState;

use crate::database;
use crate::mesh::{Replica, app, assert_gapless, eventually, passing_agents};
use crate::replicas::{delays, percentile};

mod limits;

const PASSWORD: &str = "p@ss w%rd";

async fn start(folder: &Path) -> RedisServer {
    RedisServer::start(folder, PASSWORD).await.unwrap()
}

fn signal(server: &RedisServer, signal: Signal) {
    let pid = i32::try_from(server.process_id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn settings(folder: &Path, password: &str) -> Redis {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    Redis::new(&RedisServer::url(folder), Some(&file)).unwrap()
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
    let server = start(folder.path()).await;
    let redis = settings(folder.path(), PASSWORD);
    let (driving, watching) = two(&database, folder.path(), &redis).await;
    let _agents = passing_agents(&driving.url).await;

    let mut with = delays(&driving, &watching, 20).await;
    assert_only_redis(&database).await;
    signal(&server, Signal::SIGSTOP);
    let mut without = delays(&driving, &watching, 5).await;
    signal(&server, Signal::SIGCONT);
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
        let server = start(folder.path()).await;
        let begun = Instant::now();
        // Looking alone is never so fast.
        eventually(
            async || percentile(&mut delays(&driving, &watching, 1).await, 100),
            |slowest| *slowest < Duration::from_millis(100),
        )
        .await;
        println!("hints are back {:?} after Redis is", begun.elapsed());
        server.kill().await.unwrap();
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
    let _server = start(folder.path()).await;
    let redis = settings(folder.path(), "wrong");
    let (driving, watching) = two(&database, folder.path(), &redis).await;
    let _agents = passing_agents(&driving.url).await;
    let id = driving.create(app("shop")).await.workflow_id;
    assert_gapless(&watching.watch(&id, 0).await, 0);
    driving.stop().await;
    watching.stop().await;
}
