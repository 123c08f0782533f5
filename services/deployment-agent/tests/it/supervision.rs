//! Long after its deployment: a live app is kept alive, or its users are told why it is not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use deployment_agent::{spec::Spec, strategy::Strategy, verdict::Verdict};
use opentelemetry::trace::TracerProvider as _;
use testkit::requirement::{Thing, is_met};
use tracing::Instrument as _;
use tracing_subscriber::{
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::{
    apps::spec,
    bench::{Bench, get, processes_with},
};

/// Processes of the app, without those that are going.
fn app_processes(bench: &Bench) -> Vec<i32> {
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    processes_with(&owner)
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Waits until the app's router gives this status.
async fn until(bench: &Bench, status: u16) -> String {
    let address = bench.address().await;
    let asked = async {
        loop {
            let (seen, body) = get(address, "/").await;
            if seen == status {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_is_started_again_behind_the_same_port() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let before = app_processes(&bench);
    for pid in &before {
        kill(*pid);
    }
    let back = async {
        loop {
            let now = app_processes(&bench);
            if !now.is_empty() && now.iter().all(|pid| !before.contains(pid)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .unwrap();
    assert_eq!(until(&bench, 200).await, "1");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_ends_and_users_health_and_the_next_deployment_know() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    // Crashes under the first request, and nobody asks while it is watched.
    let asked = Spec {
        bake: Duration::ZERO,
        ..spec("1", "crashes")
    };
    let account = bench.deploy(asked.clone(), Strategy::BlueGreen).await;
    assert_eq!(account.verdict, Verdict::Passed, "{}", account.summary);
    let reason = async {
        loop {
            let told = until(&bench, 503).await;
            if told.contains("exit code 7") && app_processes(&bench).is_empty() {
                return told;
            }
            // Every request that is answered makes it crash again.
            get(bench.address().await, "/").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_mins(1), reason)
        .await
        .unwrap();
    assert!(
        told.contains("fatal: lost the connection to the database"),
        "{told}"
    );
    let gone = async {
        loop {
            let health = bench.site().await.check_health(None).await.unwrap();
            if health.verdict == Verdict::Failed && health.summary.contains("503") {
                return;
            }
            get(bench.address().await, "/").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), gone)
        .await
        .unwrap();
    // It is not live in any sense that matters, so the same commit is deployed anew.
    let again = bench.deploy(asked, Strategy::BlueGreen).await;
    assert!(!again.already_live, "{}", again.summary);
    assert_eq!(again.revision, Some(2));
    bench.stop().await;
}

/// Remembers names of spans that ended.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<&'static str>>>);

impl<S> tracing_subscriber::Layer<S> for Ended
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_close(&self, id: tracing::span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id) {
            self.0.lock().unwrap().push(span.name());
        }
    }
}

#[tokio::test]
async fn an_app_is_told_its_trace_and_does_not_hold_its_tasks_span_open() {
    if !is_met(Thing::Python) {
        return;
    }
    let traces = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let ended = Ended::default();
    let layers = tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("test")))
        .with(ended.clone());
    let _guard = tracing::subscriber::set_default(layers);
    let bench = Bench::new().await;
    let span = tracing::info_span!("deployment task");
    let outer = contracts::trace::traceparent(&span);
    bench
        .deploy(spec("1", ""), Strategy::BlueGreen)
        .instrument(span)
        .await;
    assert!(ended.0.lock().unwrap().contains(&"deployment task"));
    let (_, environment) = get(bench.address().await, "/environment").await;
    let told = environment
        .lines()
        .find_map(|line| line.strip_prefix("TRACEPARENT="))
        .unwrap();
    let trace = |text: &str| text.split('-').nth(1).unwrap().to_owned();
    assert_eq!(trace(told), trace(&outer));
    assert_ne!(told, outer);
    bench.stop().await;
}
