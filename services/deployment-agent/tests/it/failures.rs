//! Every kind of failure has a truthful end, and what was good before is live after it.

use std::{path::Path, sync::Arc, time::Duration};

use deployment_agent::{
    account::Account,
    ledger::RevisionState,
    site::Order,
    spec::Spec,
    strategy::{CanaryStep, Strategy},
    verdict::Verdict,
};
use testkit::requirement::{Thing, is_met};
use tokio::time::Instant;

use crate::{
    apps::{Broken, spec},
    bench::{Bench, bounds, get, processes_with},
    load::Load,
};

/// Nothing is live, nothing runs, and the evidence is there.
async fn leaves_nothing(bench: Bench, account: &Account, reason: &str) {
    assert_eq!(account.verdict, Verdict::Failed, "{}", account.summary);
    assert!(account.summary.contains(reason), "{}", account.summary);
    assert!(
        account.summary.contains("nothing is live"),
        "{}",
        account.summary
    );
    assert_eq!(account.endpoint, None);
    let rollback = account.rollback.as_ref().expect("it was taken back");
    assert_eq!((rollback.from, rollback.to), (Some(1), None));
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
    let ledger = bench.ledger().await;
    assert!(ledger.live().is_none());
    assert_eq!(ledger.revision(1).unwrap().state, RevisionState::Failed);
    assert_eq!(ledger.port, None);
    bench.stop().await;
}

fn evidence(bench: &Bench, account: &Account, end: &str) -> String {
    let file = account
        .forensics
        .iter()
        .find(|file| file.ends_with(end))
        .expect("it was kept");
    let folder = bench.folder.path().join("environments/production/shop");
    std::fs::read_to_string(folder.join(Path::new(file))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_exits_at_once_fails_with_its_last_words() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let begun = Instant::now();
    let account = bench.deploy(spec("1", "exits"), Strategy::BlueGreen).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it must fail at once"
    );
    assert!(evidence(&bench, &account, "1.log").contains("no configuration for the database"));
    leaves_nothing(
        bench,
        &account,
        "exit code 1; last line of its log: no configuration",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_gets_ready_fails_at_its_deadline() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let asked = Spec {
        ready_within: Duration::from_secs(2),
        ..spec("1", "never ready")
    };
    let account = bench.deploy(asked, Strategy::Rolling).await;
    leaves_nothing(bench, &account, "not ready within 2s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_answers_500_fails_and_its_body_is_kept() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let asked = Spec {
        ready_within: Duration::from_secs(2),
        ..spec("1", "unhealthy")
    };
    let account = bench.deploy(asked, Strategy::BlueGreen).await;
    assert!(evidence(&bench, &account, "1.json").contains("database is away"));
    leaves_nothing(bench, &account, "answered 500, not 200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_be_made_touches_nothing() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let account = bench.deploy_from(spec("1", ""), Arc::new(Broken)).await;
    leaves_nothing(bench, &account, "pip install failed").await;
}

/// Clients that ask while a sick revision is deployed.
const CLIENTS: usize = 4;

/// A sick revision over a good one: given up for the reason, and the good one serves every request.
/// Returns how many requests failed meanwhile.
async fn given_up(asked: Spec, strategy: Strategy, reason: &str) -> usize {
    let bench = Bench::new().await;
    let good = Spec {
        desired_count: asked.desired_count,
        ..spec("1", "")
    };
    bench.deploy(good, Strategy::BlueGreen).await;
    let load = Load::start(bench.address().await, CLIENTS);
    load.wait_for(100).await;
    let account = bench.deploy(asked, strategy).await;
    assert_eq!(account.verdict, Verdict::Failed, "{}", account.summary);
    assert!(account.summary.contains(reason), "{}", account.summary);
    let rollback = account.rollback.as_ref().expect("it was taken back");
    assert_eq!((rollback.from, rollback.to), (Some(2), Some(1)));
    assert!(!account.forensics.is_empty());
    let before = load.seen();
    load.wait_for(100).await;
    let after = load.stop().await;
    assert_eq!(
        after.failures.len(),
        before.failures.len(),
        "{:?}",
        after.failures
    );
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    let ledger = bench.ledger().await;
    assert_eq!(ledger.live().unwrap().number, 1);
    assert_eq!(ledger.revision(2).unwrap().state, RevisionState::Failed);
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    assert_eq!(
        processes_with(&owner).len(),
        ledger.live().unwrap().spec.desired_count as usize
    );
    bench.stop().await;
    before.failures.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_switch_goes_back_to_blue() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = Spec {
        bake: Duration::from_secs(10),
        ..spec("2", "crashes")
    };
    let failed = given_up(
        asked,
        Strategy::BlueGreen,
        "exit code 7; last line of its log: fatal: lost",
    )
    .await;
    // What was inside when it crashed is lost, and nothing else: blue stood by.
    assert!(failed <= CLIENTS, "{failed} requests failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_lost_after_the_switch_goes_back() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = Spec {
        bake: Duration::from_secs(10),
        ..spec("2", "sick later")
    };
    let failed = given_up(asked, Strategy::BlueGreen, "3 probes in a row failed").await;
    assert_eq!(failed, 0, "it answered to the end, and blue stood by");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_deployment_that_fails_in_its_middle_brings_the_stopped_ones_back() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = Spec {
        bake: Duration::from_secs(3),
        desired_count: 3,
        ..spec("2", "later ones crash")
    };
    let failed = given_up(asked, Strategy::Rolling, "exit code 7").await;
    assert!(failed <= CLIENTS, "{failed} requests failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_requests_is_a_failure_and_few_users_saw_it() {
    if !is_met(Thing::Python) {
        return;
    }
    let steps = vec![
        CanaryStep {
            weight_percent: 10,
            bake: Duration::from_secs(10),
        },
        CanaryStep {
            weight_percent: 100,
            bake: Duration::from_secs(10),
        },
    ];
    let failed = given_up(
        spec("2", "fails requests"),
        Strategy::Canary { steps },
        "requests failed",
    )
    .await;
    // One in ten, until enough was seen.
    assert!(failed > 0, "nobody saw it, so nothing was proven");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_app_that_fails_is_taken_back_to_what_ran_before() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::Recreate).await;
    let account = bench.deploy(spec("2", "exits"), Strategy::Recreate).await;
    assert_eq!(account.verdict, Verdict::Failed, "{}", account.summary);
    assert_eq!(account.rollback.as_ref().unwrap().to, Some(1));
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_ends_the_instance_that_exceeds_it() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = Spec {
        bake: Duration::from_secs(10),
        memory_limit: Some(100 * 1024 * 1024),
        ..spec("2", "eats memory")
    };
    given_up(
        asked,
        Strategy::BlueGreen,
        "memory limit of 100 MiB exceeded",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_before_anything_runs() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut asked = spec("1", "");
    asked.secrets = vec!["DATABASE_URL".into()];
    let order = Order {
        port: Some(port),
        ..bench.order(asked, Strategy::BlueGreen)
    };
    let account = bench.try_deploy(order).await.unwrap();
    assert_eq!(account.verdict, Verdict::Failed);
    // Both are told together.
    assert!(
        account.summary.contains("another program listens on"),
        "{}",
        account.summary
    );
    assert!(
        account.summary.contains("DATABASE_URL"),
        "{}",
        account.summary
    );
    assert_eq!(account.revision, None);
    assert!(bench.ledger().await.revisions().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_app_and_neither_the_ledger_nor_the_agents_environment_does() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let store = bench.folder.path().join("secrets/production");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("DATABASE_URL"), "postgres://shop:hunter2@db\n").unwrap();
    let mut asked = spec("1", "");
    asked.secrets = vec!["DATABASE_URL".into()];
    let account = bench.deploy(asked, Strategy::BlueGreen).await;
    assert_eq!(account.verdict, Verdict::Passed, "{}", account.summary);
    let (_, environment) = get(bench.address().await, "/environment").await;
    assert!(
        environment.contains("DATABASE_URL=postgres://shop:hunter2@db"),
        "{environment}"
    );
    assert!(!environment.contains("CARGO_MANIFEST_DIR"), "{environment}");
    let ledger = bench.site().await.folder().join("ledger.json");
    assert!(!std::fs::read_to_string(ledger).unwrap().contains("hunter2"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_goes_to_the_last_verified_revision_and_not_to_the_one_before() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let second = bench.deploy(spec("2", "exits"), Strategy::BlueGreen).await;
    assert_eq!(second.verdict, Verdict::Failed);
    bench.deploy(spec("3", ""), Strategy::BlueGreen).await;
    let load = Load::start(bench.address().await, 4);
    load.wait_for(50).await;
    let account = bench.rollback("rollback-1").await;
    assert_eq!(account.verdict, Verdict::Passed, "{}", account.summary);
    let rollback = account.rollback.as_ref().unwrap();
    assert_eq!((rollback.from, rollback.to), (Some(3), Some(1)));
    assert_eq!(rollback.reason, "customers complain");
    load.wait_for(50).await;
    assert_eq!(load.stop().await.failures, Vec::<String>::new());
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    let ledger = bench.ledger().await;
    assert_eq!(ledger.revision(3).unwrap().state, RevisionState::RolledBack);
    // What was taken back is not gone back to, and a repeated task does nothing more.
    let repeated = bench.rollback("rollback-1").await;
    assert_eq!(repeated, account);
    let again = bench.rollback("rollback-2").await;
    assert_eq!(again.verdict, Verdict::NotProven, "{}", again.summary);
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_irreversible_migration_keeps_the_traffic_and_asks_a_person() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let sick = |vice| Spec {
        irreversible_migration: true,
        bake: Duration::from_secs(10),
        ..spec("2", vice)
    };
    // Before it took traffic, the old one keeps serving.
    let early = bench.deploy(sick("exits"), Strategy::BlueGreen).await;
    assert!(!early.needs_person);
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    // After it took traffic, it keeps it.
    let load = Load::start(bench.address().await, 2);
    let late = bench.deploy(sick("sick later"), Strategy::BlueGreen).await;
    load.stop().await;
    assert_eq!(late.verdict, Verdict::Failed, "{}", late.summary);
    assert!(
        late.needs_person && late.rollback.is_none(),
        "{}",
        late.summary
    );
    assert_eq!(bench.ledger().await.live().unwrap().number, 3);
    // On a person's word it goes back all the same.
    let back = bench.rollback("person").await;
    assert_eq!(back.verdict, Verdict::Passed, "{}", back.summary);
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_deployment_is_taken_back_and_not_proven() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let bounds = bounds();
    let asked = Spec {
        bake: Duration::from_mins(1),
        ..spec("2", "")
    };
    let order = bench.order(asked, Strategy::BlueGreen);
    let router = Arc::clone(bench.site().await.router());
    let cancelling = async {
        while router.shares() != [(2, 1)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bounds.cancel.cancel();
    };
    let (account, ()) = tokio::join!(bench.deploy_within(order, &bounds), cancelling);
    let account = account.unwrap();
    assert_eq!(account.verdict, Verdict::NotProven, "{}", account.summary);
    assert_eq!(account.rollback.as_ref().unwrap().to, Some(1));
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_newer_ledger_is_refused_and_left_alone() {
    let bench = Bench::new().await;
    let folder = bench.folder.path().join("environments/production/shop");
    std::fs::create_dir_all(&folder).unwrap();
    let cases = [
        ("{\"version\": 1, \"environment\": ", "damaged"),
        ("{\"version\": 99, \"anything\": true}", "version 99"),
        ("", "damaged"),
    ];
    for (text, said) in cases {
        std::fs::write(folder.join("ledger.json"), text).unwrap();
        let order = bench.order(spec("1", ""), Strategy::BlueGreen);
        let error = bench.try_deploy(order).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(
            std::fs::read_to_string(folder.join("ledger.json")).unwrap(),
            text
        );
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_releases_are_pruned_but_never_one_to_go_back_to() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    for failing in 2..9 {
        bench
            .deploy(spec(&failing.to_string(), "exits"), Strategy::BlueGreen)
            .await;
    }
    let folder = bench.site().await.folder().join("releases");
    let mut kept: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split('-').next().unwrap().to_owned())
        .collect();
    kept.sort();
    assert_eq!(kept, ["1", "4", "5", "6", "7", "8"]);
    bench.stop().await;
}
