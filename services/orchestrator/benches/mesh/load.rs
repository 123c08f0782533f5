//! Load on an orchestrator: workflows made and watched to their end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;

use contracts::client::ClientChannel;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateWorkflowRequest, WatchWorkflowRequest, WorkflowEvent, WorkflowType,
    watch_workflow_response, workflow_event,
};
use contracts::wire_time;

/// How long one workflow took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From the submission to its first stage's start, as seen by a watcher.
    pub start: Duration,
    /// From the submission to its end, as seen by a watcher.
    pub whole: Duration,
}

/// The middle one.
pub fn median(times: &mut [Duration]) -> Duration {
    percentile(times, 50)
}

/// The one below which so many percent lie.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times
        .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// A workflow of five stages.
pub fn request() -> CreateWorkflowRequest {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    CreateWorkflowRequest {
        r#type: WorkflowType::App.into(),
        // Apps of one name would be deployed one after the other.
        name: format!("bench-{number}"),
        ..CreateWorkflowRequest::default()
    }
}

/// Makes one, and says which.
pub async fn create(client: &mut WorkflowServiceClient<ClientChannel>) -> String {
    client
        .create_workflow(request())
        .await
        .unwrap()
        .into_inner()
        .workflow
        .unwrap()
        .workflow_id
}

/// Watches one to its end.
pub async fn watch(
    client: &mut WorkflowServiceClient<ClientChannel>,
    workflow_id: String,
    mut seen: impl FnMut(&WorkflowEvent),
) {
    let request = WatchWorkflowRequest {
        workflow_id,
        after_sequence: 0,
    };
    let mut stream = client.watch_workflow(request).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(watch_workflow_response::Payload::Event(event)) = message.payload {
            // To the end of the stream: dropping thousands a second looks like an attack.
            seen(&event);
        }
    }
}

/// Makes one and watches it to its end.
pub async fn one(client: &mut WorkflowServiceClient<ClientChannel>) -> Taken {
    let begin = Instant::now();
    let workflow_id = create(client).await;
    let mut start = None;
    watch(client, workflow_id, |event| {
        if matches!(
            event.payload,
            Some(workflow_event::Payload::StageStarted(_))
        ) {
            start.get_or_insert(begin.elapsed());
        }
    })
    .await;
    Taken {
        start: start.unwrap_or_default(),
        whole: begin.elapsed(),
    }
}

/// So many at a time, for a while: how many a second.
pub async fn throughput(channel: &ClientChannel, concurrency: usize, time: Duration) -> f64 {
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let mut client = WorkflowServiceClient::new(channel.clone());
        workers.spawn(async move {
            let mut count = 0_u32;
            while begin.elapsed() < time {
                one(&mut client).await;
                count += 1;
            }
            count
        });
    }
    let mut count = 0;
    while let Some(done) = workers.join_next().await {
        count += done.unwrap();
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// How long after its commit an event was seen.
pub fn delay(event: &WorkflowEvent) -> Duration {
    let committed = event
        .time
        .and_then(wire_time::system_time)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    SystemTime::now()
        .duration_since(committed)
        .unwrap_or_default()
}
