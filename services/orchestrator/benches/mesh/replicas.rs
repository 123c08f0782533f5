//! How far a watcher is behind who watches on another replica than the one that drives: with hints through the
//! database, and through Redis where there is one.

use std::time::Duration;

use testkit::redis_server::RedisServer;
use testkit::requirement::{Thing, is_met};

use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;

use crate::load;
use crate::machine::{Machine, Orchestrator, SLOTS};
use crate::report::{Report, Row};

const WARM_UP: usize = 20;
const WORKFLOWS: usize = 200;
const PASSWORD: &str = "of the benchmark";

/// The delay of all events, beside that of a watcher on the replica that drives.
pub async fn watch_delay(machine: &Machine, report: &mut Report) {
    add(machine, "watch_delay_other_replica_p99", &[], report).await;
    if !is_met(Thing::Redis) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let _redis = RedisServer::start(folder.path(), PASSWORD).await.unwrap();
    let arguments = [
        "--redis-url".to_owned(),
        RedisServer::url(folder.path()),
        "--redis-password-file".to_owned(),
        password.display().to_string(),
    ];
    let name = "watch_delay_other_replica_redis_p99";
    add(machine, name, &arguments, report).await;
}

async fn add(machine: &Machine, name: &str, arguments: &[String], report: &mut Report) {
    machine.clear().await;
    let driving = machine.orchestrator_with(arguments, &[]).await;
    let watching = machine.orchestrator_with(arguments, &[]).await;
    let _agents = machine.agents(&driving, SLOTS).await;
    delays(&driving, &watching, WARM_UP).await;
    let mut own = delays(&driving, &driving, WORKFLOWS).await;
    let mut others = delays(&driving, &watching, WORKFLOWS).await;
    let millis = |times: &mut Vec<Duration>, percent| {
        load::percentile(times, percent).as_secs_f64() * 1000.0
    };
    let p50 = millis(&mut others, 50);
    report.add(
        Row::new(name, millis(&mut others, 99), "ms")
            .floor(millis(&mut own, 99))
            .note(format!(
                "p50 {p50:.1} ms; floor: on the replica that drives"
            )),
    );
}

// One workflow after the other, made here and watched there.
async fn delays(driving: &Orchestrator, watching: &Orchestrator, count: usize) -> Vec<Duration> {
    let mut make = WorkflowServiceClient::new(driving.channel.clone());
    let mut watch = WorkflowServiceClient::new(watching.channel.clone());
    let mut delays = Vec::new();
    for _ in 0..count {
        let workflow_id = load::create(&mut make).await;
        load::watch(&mut watch, workflow_id, |event| {
            delays.push(load::delay(event));
        })
        .await;
    }
    delays
}
