//! Replicas whose clocks are hours apart: one process is an hour ahead, the other one behind.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use contracts::client;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{WatchWorkflowsRequest, watch_workflows_response};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::bed::Bed;
use super::figures::Figures;

const HOUR: i64 = 3600;
const PATIENCE: Duration = Duration::from_mins(1);

// Loaded before the C library, it puts the wall clock off, and no other.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, time);
    const char *ahead = getenv("CLOCK_AHEAD_SECONDS");
    if (answer == 0 && id == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
    return answer;
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_are_two_hours_apart_show_watchers_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let (source, shim) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success());

    let mut bed = Bed::with_clocks(&shim, &[HOUR, -HOUR]).await;
    let since = Instant::now();
    let watches = [
        Watch::start(bed.url(0)).await,
        Watch::start(bed.url(1)).await,
    ];
    let connection = bed.connection().await;
    let begun = connection.query_one("SELECT now()", &[]).await.unwrap();
    let begun: std::time::SystemTime = begun.get(0);
    let held = bed.hold(0, 2).await;
    bed.load.more(40).await;

    let rows = connection
        .query(
            "SELECT workflow_id, last_sequence,
                    abs(extract(epoch FROM create_time - now()))::float8 FROM workflows
             WHERE end_time IS NOT NULL AND create_time >= $1",
            &[&begun],
        )
        .await
        .unwrap();
    assert!(rows.len() >= 20, "{} workflows", rows.len());
    let mut wanted = HashMap::new();
    for row in rows {
        assert!(
            row.get::<_, f64>(2) < 600.0,
            "a time by a replica's own clock"
        );
        wanted.insert(row.get::<_, Uuid>(0).to_string(), row.get::<_, i64>(1));
    }
    for watch in watches {
        watch.sees(&wanted).await;
    }
    let figures = Figures {
        fault: "clocks of orchestrators two hours apart",
        detected: Duration::ZERO,
        recovered: since.elapsed(),
    };
    for journey in bed.end(held, figures).await {
        assert_eq!(journey.adopted_count + journey.lost_count, 0, "{journey:?}");
    }
}

// How far a watcher of all workflows has seen each of those that it saw from their beginning.
struct Watch {
    seen: watch::Receiver<HashMap<String, i64>>,
    tasks: JoinSet<()>,
}

impl Watch {
    async fn start(url: String) -> Self {
        let channel = client::channel(&url, None).unwrap();
        let mut stream = WorkflowServiceClient::new(channel)
            .watch_workflows(WatchWorkflowsRequest::default())
            .await
            .unwrap()
            .into_inner();
        let (see, seen) = watch::channel(HashMap::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let Some(watch_workflows_response::Payload::Event(event)) = message.payload else {
                    continue;
                };
                see.send_modify(|seen: &mut HashMap<String, i64>| {
                    let last = seen.get(&event.workflow_id).copied();
                    if last.is_some() || event.sequence == 1 {
                        let expected = last.unwrap_or(0) + 1;
                        assert_eq!(event.sequence, expected, "of {}", event.workflow_id);
                        seen.insert(event.workflow_id, event.sequence);
                    }
                });
            }
        });
        Self { seen, tasks }
    }

    async fn sees(mut self, wanted: &HashMap<String, i64>) {
        let complete = self.seen.wait_for(|seen| {
            let mut wanted = wanted.iter();
            wanted.all(|(id, last)| seen.get(id) >= Some(last))
        });
        let complete = matches!(timeout(PATIENCE, complete).await, Ok(Ok(_)));
        if !complete {
            let failed = self.tasks.try_join_next();
            panic!("events were missed: {failed:?}");
        }
    }
}
