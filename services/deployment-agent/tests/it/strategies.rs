//! Every strategy under load: what it does differently, and that no user sees it.

use std::{sync::Arc, time::Duration};

use deployment_agent::{
    account::Account,
    ledger::RevisionState,
    spec::Spec,
    strategy::{CanaryStep, Strategy},
    verdict::Verdict,
};
use testkit::requirement::{Thing, is_met};

use crate::{
    apps::spec,
    bench::{Bench, get, processes_with},
    load::Load,
};

fn canary() -> Strategy {
    let bake = Duration::from_millis(500);
    let steps = [20, 50, 100];
    Strategy::Canary {
        steps: steps
            .map(|weight_percent| CanaryStep {
                weight_percent,
                bake,
            })
            .to_vec(),
    }
}

fn steps(account: &Account) -> Vec<&str> {
    account
        .steps
        .iter()
        .map(|step| step.name.as_str())
        .collect()
}

/// Deploys over a live revision while clients ask, and hands over what both sides saw.
async fn switched_under_load(asked: impl Fn(&str) -> Spec, strategy: Strategy) -> Account {
    let bench = Bench::new().await;
    let first = bench.deploy(asked("1"), strategy.clone()).await;
    assert_eq!(first.verdict, Verdict::Passed, "{}", first.summary);
    let load = Load::start(bench.address().await, 8);
    load.wait_for(200).await;
    let second = bench.deploy(asked("2"), strategy).await;
    assert_eq!(second.verdict, Verdict::Passed, "{}", second.summary);
    load.wait_for(200).await;
    let seen = load.stop().await;
    assert_eq!(seen.failures, Vec::<String>::new());
    assert_eq!(second.failed_request_count, 0);
    assert!(
        seen.bodies["1"] > 0 && seen.bodies["2"] > 0,
        "{:?}",
        seen.bodies
    );
    assert_eq!(seen.bodies.len(), 2);
    assert_eq!(get(bench.address().await, "/").await, (200, "2".to_owned()));
    assert_eq!(second.revision, Some(2));
    assert_eq!(bench.ledger().await.live().unwrap().number, 2);
    bench.stop().await;
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn blue_green_switches_all_at_once_and_no_request_fails() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = |version: &str| Spec {
        desired_count: 2,
        ..spec(version, "")
    };
    let account = switched_under_load(asked, Strategy::BlueGreen).await;
    let expected = [
        "prepare the release",
        "start green",
        "switch to green",
        "watch green",
        "retire the old revision",
    ];
    assert_eq!(steps(&account), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_replaces_instance_by_instance_and_no_request_fails() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = |version: &str| Spec {
        desired_count: 3,
        ..spec(version, "")
    };
    let account = switched_under_load(asked, Strategy::Rolling).await;
    let steps = steps(&account);
    assert_eq!(
        steps
            .iter()
            .filter(|step| step.starts_with("start instance"))
            .count(),
        3
    );
    assert_eq!(
        steps
            .iter()
            .filter(|step| **step == "stop an old instance")
            .count(),
        2
    );
    assert_eq!(steps.last(), Some(&"retire the old revision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_grows_its_share_and_no_request_fails() {
    if !is_met(Thing::Python) {
        return;
    }
    let asked = |version: &str| Spec {
        desired_count: 2,
        ..spec(version, "")
    };
    let account = switched_under_load(asked, canary()).await;
    let shifts: Vec<_> = steps(&account)
        .into_iter()
        .filter(|step| step.starts_with("shift"))
        .collect();
    assert_eq!(shifts, ["shift 20 %", "shift 50 %", "shift 100 %"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_never_runs_two_revisions_and_says_so_meanwhile() {
    if !is_met(Thing::Python) {
        return;
    }
    let held = tempfile::tempdir().unwrap();
    let _ = held;
    // The port is the app's own, so that two of them cannot run.
    let fixed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = fixed.local_addr().unwrap().port();
    drop(fixed);
    let asked = |version: &str| {
        let mut asked = spec(version, "");
        asked
            .environment
            .insert("FIXED_PORT".into(), port.to_string());
        asked.ready = deployment_agent::spec::Ready::Log {
            pattern: r"listening on .*:(?<port>\d+)".into(),
        };
        asked
    };
    let bench = Bench::new().await;
    let first = bench.deploy(asked("1"), Strategy::Recreate).await;
    assert_eq!(first.verdict, Verdict::Passed, "{}", first.summary);
    // Under any other strategy it fails, and what was live stays live.
    let beside = bench.deploy(asked("2"), Strategy::BlueGreen).await;
    assert_eq!(beside.verdict, Verdict::Failed, "{}", beside.summary);
    assert_eq!(get(bench.address().await, "/").await, (200, "1".to_owned()));

    let third = bench.deploy(asked("3"), Strategy::Recreate).await;
    assert_eq!(third.verdict, Verdict::Passed, "{}", third.summary);
    assert_eq!(get(bench.address().await, "/").await, (200, "3".to_owned()));
    let steps = steps(&third);
    let at = |name: &str| steps.iter().position(|step| *step == name).unwrap();
    assert!(at("stop the old revision") < at("start the new revision"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_what_is_live_already_does_nothing_and_says_so() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let first = bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    let running = processes_with(&owner);
    let again = bench.deploy(spec("1", ""), Strategy::Rolling).await;
    assert!(again.already_live);
    assert_eq!(again.verdict, Verdict::Passed);
    assert_eq!((again.revision, again.endpoint), (Some(1), first.endpoint));
    assert!(again.summary.contains("live already"), "{}", again.summary);
    assert_eq!(processes_with(&owner), running);
    assert_eq!(bench.ledger().await.revisions().len(), 1);
    bench.stop().await;
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_task_gets_the_recorded_result_and_runs_nothing() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let order = bench.order(spec("1", ""), Strategy::BlueGreen);
    let key = order.task_key.clone();
    let first = bench.try_deploy(order).await.unwrap();
    let mut order = bench.order(spec("1", ""), Strategy::BlueGreen);
    order.task_key = key;
    order.attempt = 2;
    let again = bench.try_deploy(order).await.unwrap();
    assert_eq!(again, first);
    assert!(!again.already_live);
    assert_eq!(bench.ledger().await.revisions().len(), 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_of_one_environment_take_turns() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Arc::new(Bench::new().await);
    let (first, second) = tokio::join!(
        bench.deploy(spec("1", ""), Strategy::BlueGreen),
        bench.deploy(spec("2", ""), Strategy::BlueGreen),
    );
    assert_eq!(
        (first.verdict, second.verdict),
        (Verdict::Passed, Verdict::Passed)
    );
    let ledger = bench.ledger().await;
    assert_eq!(ledger.revisions().len(), 2);
    assert!(
        ledger
            .revisions()
            .iter()
            .all(|r| r.state == RevisionState::Verified)
    );
    let times: Vec<_> = ledger
        .revisions()
        .iter()
        .map(|r| (r.create_time, r.verified_at))
        .collect();
    assert!(
        times[0].1.unwrap() <= times[1].0,
        "they overlapped: {times:?}"
    );
    Arc::into_inner(bench).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_cut_at_the_drain_deadline_on_record() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    let mut first = spec("1", "");
    first.drain = Duration::from_millis(500);
    bench.deploy(first, Strategy::BlueGreen).await;
    let address = bench.address().await;
    let streaming = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /stream HTTP/1.1\r\nhost: shop.test\r\n\r\n")
            .unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let router = Arc::clone(bench.site().await.router());
    while router.group_sample(1).requests == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = bench.deploy(spec("2", ""), Strategy::BlueGreen).await;
    assert_eq!(second.verdict, Verdict::Passed, "{}", second.summary);
    let text = streaming.await.unwrap();
    assert!(
        text.contains("tick") && !text.ends_with("0\r\n\r\n"),
        "it must not look finished"
    );
    let cut = second
        .events
        .iter()
        .any(|event| event.message.contains("were cut"));
    assert!(cut, "{:?}", second.events);
    bench.stop().await;
}
