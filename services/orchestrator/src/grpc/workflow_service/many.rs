//! Which of many workflows a caller means, and the live events of those.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    self as wire, KeepAlive, WatchWorkflowsResponse, WorkflowFilter, WorkflowState, WorkflowType,
    watch_workflows_response,
};
use contracts::parse::Fields;
use contracts::wire_time;

use crate::engine::Engine;
use crate::grpc::{NAMESPACE, watch};
use crate::store::workflows::Filter;

/// Checks a filter.
pub(super) fn filter(fields: &mut Fields, filter: WorkflowFilter) -> Filter {
    fields.text("filter.name", &filter.name, 400);
    fields.labels("filter.labels", &filter.labels);
    for state in &filter.states {
        fields.required_enum::<WorkflowState>("filter.states", *state);
    }
    for kind in &filter.types {
        fields.required_enum::<WorkflowType>("filter.types", *kind);
    }
    let mut time = |field: &str, time: Option<prost_types::Timestamp>| {
        time.and_then(|time| {
            let read = wire_time::system_time(time);
            if read.is_none() {
                fields.wrong(field, "is no time since 1970");
            }
            read
        })
    };
    Filter {
        namespace: NAMESPACE.to_owned(),
        from: time("filter.create_time_from", filter.create_time_from),
        to: time("filter.create_time_to", filter.create_time_to),
        states: numbers(&filter.states),
        types: numbers(&filter.types),
        name: filter.name,
        labels: filter
            .labels
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn numbers(values: &[i32]) -> Vec<i16> {
    values
        .iter()
        .filter_map(|value| i16::try_from(*value).ok())
        .collect()
}

/// Sends the live events that match until the reader is gone.
pub(super) async fn follow_all(
    engine: Engine,
    wanted: WorkflowFilter,
    mut all: broadcast::Receiver<Arc<wire::WorkflowEvent>>,
    sender: mpsc::Sender<Result<WatchWorkflowsResponse, Status>>,
) {
    loop {
        let payload = tokio::select! {
            biased;
            () = sender.closed() => return,
            event = all.recv() => match event {
                Ok(event) => {
                    if !matches(&engine, &wanted, &event).await {
                        continue;
                    }
                    watch_workflows_response::Payload::Event((*event).clone())
                }
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    let error = Error::new(
                        ErrorReason::RateLimited,
                        format!("this watch lagged {count} events behind; list, and watch again"),
                    );
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = tokio::time::sleep(watch::KEEP_ALIVE) => {
                let time = Some(wire_time::now());
                watch_workflows_response::Payload::KeepAlive(KeepAlive { time })
            }
        };
        if sender
            .send(Ok(WatchWorkflowsResponse {
                payload: Some(payload),
            }))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn matches(engine: &Engine, wanted: &WorkflowFilter, event: &wire::WorkflowEvent) -> bool {
    if *wanted == WorkflowFilter::default() {
        return true;
    }
    let Ok(id) = event.workflow_id.parse() else {
        return false;
    };
    let Ok(workflow) = engine.get(NAMESPACE, id).await else {
        return false;
    };
    let request = &workflow.submission.request;
    let created = wire_time::timestamp(workflow.submission.create_time);
    let within = |from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>| {
        let key = |time: &prost_types::Timestamp| (time.seconds, time.nanos);
        from.is_none_or(|from| key(&created) >= key(&from))
            && to.is_none_or(|to| key(&created) < key(&to))
    };
    (wanted.states.is_empty() || wanted.states.contains(&event.state))
        && (wanted.types.is_empty() || wanted.types.contains(&request.r#type))
        && (wanted.name.is_empty() || wanted.name == request.name)
        && wanted
            .labels
            .iter()
            .all(|(name, value)| request.labels.get(name) == Some(value))
        && within(wanted.create_time_from, wanted.create_time_to)
}
