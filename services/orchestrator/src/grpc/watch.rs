//! Follows the event log of one workflow: the log itself, then whatever is committed, without gap
//! or repeat. A reader that lags is served from the log.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use contracts::id::WorkflowId;
use contracts::orchestrator::watch_workflow_response::Payload;
use contracts::orchestrator::{
    CaughtUp, KeepAlive, WatchWorkflowResponse, WorkflowEvent, workflow_event,
};
use contracts::wire_time;

use crate::engine::Engine;
use crate::events::Watch;
use crate::metrics;
use crate::store::{StoreError, events, malformed};

/// Something is sent at least this often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
// Read from the log at once.
const BATCH: i64 = 200;
// The database may be away for a moment while somebody watches.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<WatchWorkflowResponse, Status>>;

/// Sends until the workflow has ended, or the reader is gone.
pub(super) async fn follow(
    engine: Engine,
    namespace: String,
    workflow_id: WorkflowId,
    mut after: i64,
    mut watch: Watch,
    sender: Sender,
) {
    let mut caught_up = false;
    let mut failing_since: Option<Instant> = None;
    // Whether the newest event that was sent is an end.
    let mut ends: Option<bool> = None;
    loop {
        // Whoever has caught up asks the log only when there is more than is at hand.
        let all_sent = caught_up && watch.is_newest(after);
        let next = async {
            if all_sent {
                return Ok(Vec::new());
            }
            next(&engine, workflow_id, after, &watch).await
        };
        let events = match next.await {
            Ok(events) => events,
            Err(error)
                if error.is_transient()
                    && failing_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => {
                let _ = sender.send(Err(super::store_error(error).into())).await;
                return;
            }
        };
        failing_since = None;
        if events.is_empty() {
            if !caught_up {
                caught_up = true;
                if !send(&sender, Payload::CaughtUp(CaughtUp { sequence: after })).await {
                    return;
                }
                // The log has no more, and its last word was not an end.
                if ends != Some(false) && ended(&engine, &namespace, workflow_id, after).await {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = sender.closed() => return,
                () = engine.out_of_touch() => {
                    let error = super::store_error(StoreError::Closed);
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
                () = watch.beyond(after) => {}
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    let alive = KeepAlive { time: Some(wire_time::now()) };
                    if !send(&sender, Payload::KeepAlive(alive)).await {
                        return;
                    }
                }
            }
            continue;
        }
        for event in events {
            after = event.sequence;
            let last = matches!(event.payload, Some(workflow_event::Payload::Finished(_)));
            ends = Some(last);
            if !send(&sender, Payload::Event((*event).clone())).await {
                return;
            }
            if caught_up {
                metrics::watched(&event, engine.clock().now());
            }
            // A workflow that was retried has events after its end.
            if last
                && ((caught_up && watch.is_newest(after))
                    || ended(&engine, &namespace, workflow_id, after).await)
            {
                return;
            }
        }
    }
}

async fn send(sender: &Sender, payload: Payload) -> bool {
    sender
        .send(Ok(WatchWorkflowResponse {
            payload: Some(payload),
        }))
        .await
        .is_ok()
}

async fn next(
    engine: &Engine,
    workflow_id: WorkflowId,
    after: i64,
    watch: &Watch,
) -> Result<Vec<Arc<WorkflowEvent>>, StoreError> {
    let at_hand = watch.at_hand(after);
    if !at_hand.is_empty() {
        return Ok(at_hand);
    }
    let client = engine.store().client().await?;
    let rows = events::after(&client, workflow_id, after, BATCH).await?;
    rows.iter()
        .map(|(_, _, bytes)| read(bytes).map(Arc::new))
        .collect()
}

/// An event from its bytes.
pub(super) fn read(bytes: &[u8]) -> Result<WorkflowEvent, StoreError> {
    WorkflowEvent::decode(bytes).map_err(|error| malformed("events", &error))
}

async fn ended(engine: &Engine, namespace: &str, workflow_id: WorkflowId, sequence: i64) -> bool {
    let newest = async {
        let client = engine.store().client().await?;
        crate::store::workflows::last_sequence(&client, namespace, workflow_id).await
    }
    .await;
    match newest {
        Ok(Some((last, finished))) => finished && last == sequence,
        Ok(None) => true,
        // The next read tells.
        Err(_) => false,
    }
}
