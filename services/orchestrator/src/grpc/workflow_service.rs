//! `WorkflowService`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, async_trait};

use contracts::agent::AGENT_TYPES;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::WorkflowId;
use contracts::orchestrator::workflow_service_server::WorkflowService as Service;
use contracts::orchestrator::{
    AgentState, AgentTypeStatistics, CancelWorkflowRequest, CancelWorkflowResponse,
    CreateWorkflowRequest, CreateWorkflowResponse, GetStatisticsRequest, GetStatisticsResponse,
    GetWorkflowRequest, GetWorkflowResponse, ListWorkflowEventsRequest, ListWorkflowEventsResponse,
    ListWorkflowsRequest, ListWorkflowsResponse, PauseWorkflowRequest, PauseWorkflowResponse,
    ResumeWorkflowRequest, ResumeWorkflowResponse, RetryWorkflowRequest, RetryWorkflowResponse,
    StateCount, WatchWorkflowLogsRequest, WatchWorkflowLogsResponse, WatchWorkflowRequest,
    WatchWorkflowResponse, WatchWorkflowsRequest, WatchWorkflowsResponse,
};
use contracts::parse::Fields;
use contracts::wire_time;

use super::{actor, namespace, page_token, pipeline_service, read_page, store_error};
use crate::access::audit::Subject;
use crate::artifacts::ArtifactStore;
use crate::engine::submit;
use crate::engine::workflow::Workflow;
use crate::engine::{Engine, EngineError};
use crate::store::{events, tasks, workflows};

mod budget;
mod logs;
mod many;
mod steering;

use many::{filter, follow_all};

// How long a stopping process waits for a reader to take notice.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(1);
// Messages that wait for one reader.
const QUEUE: usize = 64;
const COUNT_BOUND: i64 = 10_000;
const DAY: std::time::Duration = std::time::Duration::from_hours(24);

/// `agentic.orchestrator.v1.WorkflowService`.
#[derive(Debug, Clone)]
pub struct WorkflowService {
    engine: Engine,
    artifacts: ArtifactStore,
    tracker: TaskTracker,
}

impl WorkflowService {
    /// Serves the workflows of an engine.
    pub fn new(engine: Engine, artifacts: ArtifactStore, tracker: TaskTracker) -> Self {
        Self {
            engine,
            artifacts,
            tracker,
        }
    }

    // Runs the source of a stream until it ends or the process stops; then the reader is told, so
    // that it watches elsewhere and does not hold the stop up.
    fn run<M: Send + 'static>(
        &self,
        source: impl Future<Output = ()> + Send + 'static,
        sender: mpsc::Sender<Result<M, Status>>,
    ) {
        let stopping = self.engine.stopping();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    let error = Error::new(ErrorReason::Draining, "this replica is stopping");
                    // A reader that does not even take this is cut.
                    let _ = tokio::time::timeout(FAREWELL, sender.send(Err(error.into()))).await;
                }
                () = source => {}
            }
        });
    }

    async fn checked(
        &self,
        namespace: &str,
        request: CreateWorkflowRequest,
    ) -> Result<submit::Checked, Error> {
        let store = self.engine.store();
        let pipeline = pipeline_service::of_request(store, namespace, &request).await?;
        submit::check(request, pipeline)
    }

    async fn page(
        &self,
        namespace: &str,
        request: ListWorkflowsRequest,
    ) -> Result<ListWorkflowsResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let filter = filter(&mut fields, namespace, request.filter.unwrap_or_default());
        fields.finish(())?;
        let before: Option<WorkflowId> = read_page(&request.page_token)?;
        let found = async {
            let client = self.engine.store().client().await?;
            let rows = workflows::list(&client, &filter, before, size + 1).await?;
            let count = workflows::count(&client, &filter, COUNT_BOUND).await?;
            let workflows: Result<Vec<_>, _> =
                rows.into_iter().map(Workflow::read_listed).collect();
            Ok((workflows?, count))
        };
        let (mut listed, total_count) = found.await.map_err(store_error)?;
        let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            listed.pop();
        }
        let next_page_token = listed
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.id().to_string()));
        Ok(ListWorkflowsResponse {
            workflows: listed
                .iter()
                .map(|workflow| workflow.to_wire(false))
                .collect(),
            next_page_token,
            total_count,
            total_is_estimate: total_count >= COUNT_BOUND,
        })
    }

    async fn events_page(
        &self,
        namespace: &str,
        request: ListWorkflowEventsRequest,
    ) -> Result<ListWorkflowEventsResponse, Error> {
        let mut fields = Fields::new();
        let workflow_id: Option<WorkflowId> = fields.id("workflow_id", &request.workflow_id);
        let size = fields.page_size(request.page_size);
        fields.text("stage", &request.stage, 64);
        let workflow_id = fields.finish(workflow_id)?.ok_or_else(Error::internal)?;
        let after = read_page::<i64>(&request.page_token)?.unwrap_or(0);
        self.known(namespace, workflow_id).await?;
        let found = async {
            let client = self.engine.store().client().await?;
            let stage = request.stage.as_str();
            let rows = if stage.is_empty() {
                events::after(&client, workflow_id, after, size + 1).await?
            } else {
                events::of_stage_after(&client, workflow_id, stage, after, size + 1).await?
            };
            let count = events::count(&client, workflow_id, stage).await?;
            let events: Result<Vec<_>, _> = rows
                .iter()
                .map(|(_, _, bytes)| super::watch::read(bytes))
                .collect();
            Ok((events?, count))
        };
        let (mut listed, total_count) = found.await.map_err(store_error)?;
        let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            listed.pop();
        }
        let next_page_token = listed
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.sequence.to_string()));
        Ok(ListWorkflowEventsResponse {
            events: listed,
            next_page_token,
            total_count,
        })
    }

    // Sequence of its newest event, and whether it has ended.
    async fn known(&self, namespace: &str, workflow_id: WorkflowId) -> Result<(i64, bool), Error> {
        let found = async {
            let client = self.engine.store().client().await?;
            workflows::last_sequence(&client, namespace, workflow_id).await
        };
        found
            .await
            .map_err(store_error)?
            .ok_or_else(|| EngineError::NotFound(workflow_id).into())
    }

    async fn statistics(&self, namespace: &str) -> Result<GetStatisticsResponse, Error> {
        let now = self.engine.clock().now();
        let found = async {
            let client = self.engine.store().client().await?;
            let states = workflows::count_by_state(&client, namespace, now - DAY).await?;
            Ok((
                states,
                tasks::count_by_type(&client, Some(namespace)).await?,
            ))
        };
        let (states, types) = found.await.map_err(store_error)?;
        let agents = self.engine.list_agents(None).await?;
        let agent_types = AGENT_TYPES.into_iter().map(|agent_type| {
            let counted = types
                .iter()
                .find(|count| count.agent_type == agent_type as i16);
            let of_type = agents
                .iter()
                .filter(|agent| agent.agent_type() == agent_type);
            let (slots, free) = of_type.fold((0, 0), |(all, free), agent| match agent.state() {
                AgentState::Ready => (
                    all + i64::from(agent.slot_count),
                    free + i64::from(agent.free_slot_count),
                ),
                AgentState::Connecting
                | AgentState::Unreachable
                | AgentState::Suspect
                | AgentState::Unfit
                | AgentState::Draining => (all + i64::from(agent.slot_count), free),
                AgentState::Unspecified | AgentState::Lost | AgentState::Gone => (all, free),
            });
            AgentTypeStatistics {
                agent_type: agent_type.into(),
                waiting_count: counted.map_or(0, |count| count.waiting),
                running_count: counted.map_or(0, |count| count.leased),
                slot_count: slots,
                free_slot_count: free,
                oldest_wait: counted.and_then(|count| count.oldest).map(|oldest| {
                    wire_time::wire_duration(now.duration_since(oldest).unwrap_or_default())
                }),
            }
        });
        Ok(GetStatisticsResponse {
            states: states
                .into_iter()
                .map(|(state, workflow_count)| StateCount {
                    state: i32::from(state),
                    workflow_count,
                })
                .collect(),
            agent_types: agent_types.collect(),
        })
    }
}

#[async_trait]
impl Service for WorkflowService {
    type WatchWorkflowStream = ReceiverStream<Result<WatchWorkflowResponse, Status>>;
    type WatchWorkflowsStream = ReceiverStream<Result<WatchWorkflowsResponse, Status>>;
    type WatchWorkflowLogsStream = ReceiverStream<Result<WatchWorkflowLogsResponse, Status>>;

    async fn create_workflow(
        &self,
        request: Request<CreateWorkflowRequest>,
    ) -> Result<Response<CreateWorkflowResponse>, Status> {
        let (namespace, actor) = (namespace::of(&request)?, actor(&request, ""));
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let checked = self.checked(&namespace, request).await?;
        let workflow = if validate_only {
            self.engine.picture(&namespace, checked)
        } else {
            let traceparent = super::traceparent();
            self.engine
                .submit(&namespace, checked, traceparent, actor)
                .await?
                .to_wire(true)
        };
        let subject = format!("workflow/{}", workflow.workflow_id);
        let mut response = Response::new(CreateWorkflowResponse {
            workflow: Some(workflow),
        });
        response.extensions_mut().insert(Subject(subject));
        Ok(response)
    }

    async fn get_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<GetWorkflowResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let id = workflow_id(&request.get_ref().workflow_id)?;
        let workflow = self.engine.get(&namespace, id).await;
        let workflow = workflow.map_err(Error::from)?;
        let mut wire = workflow.to_wire(true);
        let told = self.engine.tell_waits(&workflow, &mut wire).await;
        told.map_err(Error::from)?;
        Ok(Response::new(GetWorkflowResponse {
            workflow: Some(wire),
        }))
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let page = self.page(&namespace, request.into_inner()).await?;
        Ok(Response::new(page))
    }

    async fn watch_workflow(
        &self,
        request: Request<WatchWorkflowRequest>,
    ) -> Result<Response<Self::WatchWorkflowStream>, Status> {
        let namespace = namespace::of(&request)?;
        let request = request.into_inner();
        let id = workflow_id(&request.workflow_id)?;
        if request.after_sequence < 0 {
            return Err(Error::invalid_field("after_sequence", "is negative").into());
        }
        // Watching begins before the first look, so that nothing falls between.
        let watch = self.engine.events().watch(id);
        let beyond = |last: i64| request.after_sequence > last;
        let mut last = watch.newest(&namespace).unwrap_or(-1);
        if beyond(last) {
            (last, _) = self.known(&namespace, id).await?;
        }
        if beyond(last) {
            return Err(Error::invalid_field(
                "after_sequence",
                format!("is beyond the newest event, {last}"),
            )
            .into());
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let engine = self.engine.clone();
        let after = request.after_sequence;
        let following = super::watch::follow(engine, namespace, id, after, watch, sender.clone());
        self.run(following, sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn watch_workflows(
        &self,
        request: Request<WatchWorkflowsRequest>,
    ) -> Result<Response<Self::WatchWorkflowsStream>, Status> {
        let namespace = namespace::of(&request)?;
        let mut fields = Fields::new();
        let wanted = request.into_inner().filter.unwrap_or_default();
        filter(&mut fields, &namespace, wanted.clone());
        fields.finish(())?;
        let all = self.engine.events().all().watch().await;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let following = follow_all(self.engine.clone(), namespace, wanted, all, sender.clone());
        self.run(following, sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_workflow_events(
        &self,
        request: Request<ListWorkflowEventsRequest>,
    ) -> Result<Response<ListWorkflowEventsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let page = self.events_page(&namespace, request.into_inner());
        Ok(Response::new(page.await?))
    }

    async fn watch_workflow_logs(
        &self,
        request: Request<WatchWorkflowLogsRequest>,
    ) -> Result<Response<Self::WatchWorkflowLogsStream>, Status> {
        let namespace = namespace::of(&request)?;
        let request = request.into_inner();
        let id = workflow_id(&request.workflow_id)?;
        self.known(&namespace, id).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let reader = logs::Reader {
            namespace,
            stage: request.stage,
            follow: request.follow,
        };
        self.run(
            reader.run(
                self.engine.clone(),
                self.artifacts.clone(),
                id,
                sender.clone(),
            ),
            sender,
        );
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel_workflow(
        &self,
        request: Request<CancelWorkflowRequest>,
    ) -> Result<Response<CancelWorkflowResponse>, Status> {
        let workflow = self.steer(request).await?;
        Ok(Response::new(CancelWorkflowResponse { workflow }))
    }

    async fn pause_workflow(
        &self,
        request: Request<PauseWorkflowRequest>,
    ) -> Result<Response<PauseWorkflowResponse>, Status> {
        let workflow = self.steer(request).await?;
        Ok(Response::new(PauseWorkflowResponse { workflow }))
    }

    async fn resume_workflow(
        &self,
        request: Request<ResumeWorkflowRequest>,
    ) -> Result<Response<ResumeWorkflowResponse>, Status> {
        let workflow = self.steer(request).await?;
        Ok(Response::new(ResumeWorkflowResponse { workflow }))
    }

    async fn retry_workflow(
        &self,
        request: Request<RetryWorkflowRequest>,
    ) -> Result<Response<RetryWorkflowResponse>, Status> {
        let workflow = self.steer(request).await?;
        Ok(Response::new(RetryWorkflowResponse { workflow }))
    }

    async fn get_statistics(
        &self,
        request: Request<GetStatisticsRequest>,
    ) -> Result<Response<GetStatisticsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        Ok(Response::new(self.statistics(&namespace).await?))
    }
}

fn workflow_id(text: &str) -> Result<WorkflowId, Error> {
    let mut fields = Fields::new();
    let id = fields.id("workflow_id", text);
    fields.finish(id)?.ok_or_else(Error::internal)
}
