//! The agent dies, and the next one finds its way.

use std::{path::Path, time::Duration};

use contracts::task::Verdict;
use deployment_agent::{
    ledger::{Ledger, RevisionState},
    strategy::Strategy,
};
use testkit::{
    repository::Commit,
    requirement::{Thing, is_met},
};

use crate::{
    apps::spec,
    bench::{Bench, get, open, processes_with},
    load::loopback,
    serving::{Process, context, deploy, execute, project, repository},
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_the_app_comes_back_on_its_port() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let address = bench.address().await;
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    let Bench { folder, sites, .. } = bench;
    sites.shutdown(Duration::from_secs(30)).await;
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
    drop(sites);
    let sites = open(folder.path()).await;
    sites.settled().await;
    assert_eq!(get(address, "/").await, (200, "1".to_owned()));
    sites.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_never_share_a_data_folder() {
    let bench = Bench::new().await;
    let second = deployment_agent::sites::Claim::take(bench.folder.path());
    assert!(second.unwrap_err().to_string().contains("another agent"));
    bench.stop().await;
}

fn owner(data: &Path) -> String {
    std::fs::read_to_string(data.join("deployment/owner")).unwrap()
}

async fn ledger(data: &Path) -> Ledger {
    let path = data.join("deployment/environments/production/shop/ledger.json");
    Ledger::open(&path, "production", "shop").await.unwrap()
}

/// Waits until the app answers this, however often it does not yet.
async fn answers(port: u16, wanted: &str) {
    let asked = async {
        loop {
            let connected = tokio::net::TcpStream::connect(loopback(port)).await.is_ok();
            if connected && get(loopback(port), "/").await == (200, wanted.to_owned()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asked)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_brings_its_app_back_and_leaves_no_process_behind() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let repository = repository("1", "");
    let head = repository.head("main").unwrap().unwrap();
    let agent = Process::start(data.path()).await;
    let asked = context("d1", &repository, &head);
    let (_, first) = execute(agent.address, asked.clone(), deploy())
        .await
        .unwrap();
    let owner = owner(data.path());
    let before = processes_with(&owner);
    assert!(!before.is_empty());
    agent.kill();

    let agent = Process::start(data.path()).await;
    let port = ledger(data.path()).await.port.unwrap();
    answers(port, "1").await;
    let after = processes_with(&owner);
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} and {after:?}"
    );
    assert_eq!(after.len(), before.len());
    // The same task again is answered from the books.
    let (_, again) = execute(agent.address, asked, deploy()).await.unwrap();
    assert_eq!(again.deployment, first.deployment);
    assert_eq!(ledger(data.path()).await.revisions().len(), 1);
    assert!(agent.terminate());
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_was_killed_is_interrupted_and_its_task_starts_clean() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let mut repository = repository("1", "");
    let head = repository.head("main").unwrap().unwrap();
    let agent = Process::start(data.path()).await;
    execute(agent.address, context("d1", &repository, &head), deploy())
        .await
        .unwrap();
    let port = ledger(data.path()).await.port.unwrap();

    // Killed while green has the traffic and is watched.
    let slow = project("2", "", "{bake: 3s, drain: 2s, probe: {interval: 100ms}}");
    let second = Commit::on("main").write(".agentic/project.yaml", &slow);
    let second = repository.commit(second).unwrap();
    let asked = context("d2", &repository, &second);
    let deploying = tokio::spawn(execute(agent.address, asked.clone(), deploy()));
    answers(port, "2").await;
    agent.kill();
    assert!(deploying.await.unwrap().is_err());

    let agent = Process::start(data.path()).await;
    // What was verified is live again, not what was being tried.
    answers(port, "1").await;
    let found = ledger(data.path()).await;
    assert_eq!(found.live().unwrap().number, 1);
    assert_eq!(found.revision(2).unwrap().state, RevisionState::Interrupted);

    let retried = contracts::task::TaskContext {
        attempt: 2,
        ..asked
    };
    let (_, result) = execute(agent.address, retried, deploy()).await.unwrap();
    assert_eq!(result.outcome.unwrap().verdict(), Verdict::Passed);
    assert_eq!(get(loopback(port), "/").await, (200, "2".to_owned()));
    let found = ledger(data.path()).await;
    assert_eq!(found.live().unwrap().number, 3);
    // One app process runs, whatever was started in between.
    assert_eq!(processes_with(&owner(data.path())).len(), 1);
    assert!(agent.terminate());
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_a_killed_agents_app_are_found_and_ended() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let mut repository = repository("1", "");
    // The app leaves a helper in a session of its own.
    let yaml = project("1", "", crate::serving::QUICK).replace(
        "[python3, -u, app.py]",
        "[sh, -c, 'setsid sleep 300 </dev/null >/dev/null 2>&1 & exec python3 -u app.py']",
    );
    let head = repository
        .commit(Commit::on("main").write(".agentic/project.yaml", &yaml))
        .unwrap();
    let agent = Process::start(data.path()).await;
    let (_, result) = execute(agent.address, context("d1", &repository, &head), deploy())
        .await
        .unwrap();
    assert_eq!(result.outcome.unwrap().verdict(), Verdict::Passed);
    let owner = owner(data.path());
    let before = processes_with(&owner);
    assert_eq!(before.len(), 2);
    agent.kill();
    let agent = Process::start(data.path()).await;
    answers(ledger(data.path()).await.port.unwrap(), "1").await;
    let after = processes_with(&owner);
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} and {after:?}"
    );
    assert!(agent.terminate());
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
}
