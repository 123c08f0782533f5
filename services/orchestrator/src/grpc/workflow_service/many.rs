//! Which of many workflows a caller means, and the live events of those.

use std::collections::HashMap;

use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    KeepAlive, WatchWorkflowsResponse, WorkflowFilter, WorkflowState, WorkflowType,
    watch_workflows_response,
};
use contracts::parse::Fields;
use contracts::wire_time;

use crate::engine::workflow::Submission;
use crate::engine::{Engine, EngineError};
use crate::events::all::Published;
use crate::grpc::{store_error, watch};
use crate::store::StoreError;
use crate::store::workflows::Filter;

// Workflows that one watch remembers its answer for.
const KNOWN: usize = 10_000;

/// Checks a filter.
pub(super) fn filter(fields: &mut Fields, namespace: &str, filter: WorkflowFilter) -> Filter {
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
        namespace: namespace.to_owned(),
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
    namespace: String,
    wanted: WorkflowFilter,
    mut all: broadcast::Receiver<Published>,
    sender: mpsc::Sender<Result<WatchWorkflowsResponse, Status>>,
) {
    let mut wanted = Wanted::new(engine.clone(), namespace, wanted);
    loop {
        let payload = tokio::select! {
            biased;
            () = sender.closed() => return,
            published = all.recv() => match published {
                Ok(published) => match wanted.matches(&published).await {
                    Ok(true) => {
                        watch_workflows_response::Payload::Event((*published.event).clone())
                    }
                    Ok(false) => continue,
                    // It may be one of those that are wanted: none is left out in silence.
                    Err(error) => {
                        let _ = sender.send(Err(Error::from(error).into())).await;
                        return;
                    }
                },
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
            () = engine.out_of_touch() => {
                let error = store_error(StoreError::Closed);
                let _ = sender.send(Err(error.into())).await;
                return;
            }
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

// A filter, and what it said of workflows: all of it but the state never changes.
struct Wanted {
    engine: Engine,
    namespace: String,
    filter: WorkflowFilter,
    takes_all: bool,
    known: HashMap<String, bool>,
}

impl Wanted {
    fn new(engine: Engine, namespace: String, filter: WorkflowFilter) -> Self {
        let takes_all = WorkflowFilter {
            states: Vec::new(),
            ..filter.clone()
        } == WorkflowFilter::default();
        Self {
            engine,
            namespace,
            filter,
            takes_all,
            known: HashMap::new(),
        }
    }

    async fn matches(&mut self, published: &Published) -> Result<bool, EngineError> {
        let event = &published.event;
        if *published.namespace != *self.namespace
            || !(self.filter.states.is_empty() || self.filter.states.contains(&event.state))
        {
            return Ok(false);
        }
        if self.takes_all {
            return Ok(true);
        }
        if let Some(known) = self.known.get(&event.workflow_id) {
            return Ok(*known);
        }
        let Ok(id) = event.workflow_id.parse() else {
            return Ok(false);
        };
        let workflow = match self.engine.get(&self.namespace, id).await {
            Ok(workflow) => workflow,
            Err(EngineError::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let fits = self.fits(&workflow.submission);
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(event.workflow_id.clone(), fits);
        Ok(fits)
    }

    fn fits(&self, submission: &Submission) -> bool {
        let (filter, request) = (&self.filter, &submission.request);
        let created = wire_time::timestamp(submission.create_time);
        let key = |time: &prost_types::Timestamp| (time.seconds, time.nanos);
        let from = |from: prost_types::Timestamp| key(&created) >= key(&from);
        let to = |to: prost_types::Timestamp| key(&created) < key(&to);
        (filter.types.is_empty() || filter.types.contains(&request.r#type))
            && (filter.name.is_empty() || filter.name == request.name)
            && filter
                .labels
                .iter()
                .all(|(name, value)| request.labels.get(name) == Some(value))
            && filter.create_time_from.is_none_or(from)
            && filter.create_time_to.is_none_or(to)
    }
}
