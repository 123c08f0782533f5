//! `WorkflowService` as the script says.

use std::pin::Pin;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::watch_workflow_response::Payload;
use contracts::orchestrator::workflow_event::Payload as EventPayload;
use contracts::orchestrator::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use contracts::orchestrator::{
    CancelWorkflowRequest, CancelWorkflowResponse, CaughtUp, CreateWorkflowRequest,
    CreateWorkflowResponse, GetStatisticsRequest, GetStatisticsResponse, GetWorkflowRequest,
    GetWorkflowResponse, ListWorkflowEventsRequest, ListWorkflowEventsResponse,
    ListWorkflowsRequest, ListWorkflowsResponse, PauseWorkflowRequest, PauseWorkflowResponse,
    ResumeWorkflowRequest, ResumeWorkflowResponse, RetryWorkflowRequest, RetryWorkflowResponse,
    WatchWorkflowLogsRequest, WatchWorkflowLogsResponse, WatchWorkflowRequest,
    WatchWorkflowResponse, WatchWorkflowsRequest, WatchWorkflowsResponse, Workflow,
};
use contracts::task::Log;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Scripted, Watch};

type Answers<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// The service.
pub fn service(scripted: Scripted) -> WorkflowServiceServer<Scripted> {
    WorkflowServiceServer::new(scripted)
}

/// A message with an event.
fn message(event: contracts::orchestrator::WorkflowEvent) -> WatchWorkflowResponse {
    WatchWorkflowResponse {
        payload: Some(Payload::Event(event)),
    }
}

impl Scripted {
    fn workflow(&self, id: &str) -> Result<Workflow, Status> {
        self.refused()?;
        let knowledge = self.know();
        if knowledge.workflow.workflow_id == id {
            Ok(knowledge.workflow.clone())
        } else {
            let error = Error::new(
                ErrorReason::WorkflowNotFound,
                format!("there is no workflow {id}"),
            );
            Err(error.into())
        }
    }

    fn trace<M>(&self, request: &Request<M>) {
        let header = request.metadata().get("traceparent");
        let text = header
            .and_then(|text| text.to_str().ok())
            .unwrap_or_default();
        self.know().traceparents.push(text.to_owned());
    }

    fn changed(&self, what: &str, id: &str) -> Result<Option<Workflow>, Status> {
        let workflow = self.workflow(id)?;
        self.know().changes.push(what.to_owned());
        Ok(Some(workflow))
    }

    // The log from a point on, then live, to the event that ends it.
    fn follow(&self, after: i64) -> Answers<WatchWorkflowResponse> {
        let scripted = self.clone();
        let (sender, receiver) = mpsc::channel(16);
        let following = async move {
            let mut grown = scripted.grown.subscribe();
            let mut seen = usize::try_from(after).unwrap_or(0);
            let mut told = false;
            loop {
                let fresh: Vec<_> = scripted.know().events.iter().skip(seen).cloned().collect();
                for event in fresh {
                    seen += 1;
                    let over = matches!(event.payload, Some(EventPayload::Finished(_)))
                        && seen == scripted.know().events.len();
                    if sender.send(Ok(message(event))).await.is_err() || over {
                        return;
                    }
                }
                if !told {
                    told = true;
                    let caught_up = WatchWorkflowResponse {
                        payload: Some(Payload::CaughtUp(CaughtUp {
                            sequence: seen as i64,
                        })),
                    };
                    if sender.send(Ok(caught_up)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = grown.changed() => if changed.is_err() { return },
                }
            }
        };
        // Driven by the stream itself, so that it ends with the call.
        let driver = stream::once(following).filter_map(|()| async { None });
        Box::pin(stream::select(ReceiverStream::new(receiver), driver))
    }
}

#[tonic::async_trait]
impl WorkflowService for Scripted {
    async fn create_workflow(
        &self,
        request: Request<CreateWorkflowRequest>,
    ) -> Result<Response<CreateWorkflowResponse>, Status> {
        self.trace(&request);
        let request = request.into_inner();
        self.know().created.push(request.clone());
        self.refused()?;
        let mut workflow = self.know().workflow.clone();
        if request.validate_only {
            workflow.workflow_id.clear();
        }
        Ok(Response::new(CreateWorkflowResponse {
            workflow: Some(workflow),
        }))
    }

    async fn get_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<GetWorkflowResponse>, Status> {
        let workflow = self.workflow(&request.into_inner().workflow_id)?;
        Ok(Response::new(GetWorkflowResponse {
            workflow: Some(workflow),
        }))
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        self.refused()?;
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut knowledge = self.know();
        let (workflows, next) = match knowledge.pages.pop_front() {
            Some(page) => page,
            None if filter.name.is_empty() || filter.name == knowledge.workflow.name => {
                (vec![knowledge.workflow.clone()], String::new())
            }
            None => Default::default(),
        };
        Ok(Response::new(ListWorkflowsResponse {
            total_count: workflows.len() as i64,
            workflows,
            next_page_token: next,
            total_is_estimate: false,
        }))
    }

    type WatchWorkflowStream = Answers<WatchWorkflowResponse>;

    async fn watch_workflow(
        &self,
        request: Request<WatchWorkflowRequest>,
    ) -> Result<Response<Self::WatchWorkflowStream>, Status> {
        self.trace(&request);
        let after = request.into_inner().after_sequence;
        let script = {
            let mut knowledge = self.know();
            knowledge.watched_after.push(after);
            knowledge.watches.pop_front()
        };
        self.grown.send_modify(|count| *count += 1);
        let answers: Answers<_> = match script {
            None => self.follow(after),
            Some(Watch::Refuse(status)) => return Err(status),
            Some(Watch::BreakAfter(count, status)) => {
                let events: Vec<_> = self
                    .know()
                    .events
                    .iter()
                    .skip(usize::try_from(after).unwrap_or(0))
                    .take(count)
                    .cloned()
                    .collect();
                let said = events.into_iter().map(|event| Ok(message(event)));
                Box::pin(stream::iter(said.chain([Err(status)]).collect::<Vec<_>>()))
            }
            Some(Watch::Say(said)) => Box::pin(stream::iter(said)),
            Some(Watch::SayAndHang(said)) => Box::pin(stream::iter(said).chain(stream::pending())),
        };
        Ok(Response::new(answers))
    }

    type WatchWorkflowsStream = Answers<WatchWorkflowsResponse>;

    async fn watch_workflows(
        &self,
        _: Request<WatchWorkflowsRequest>,
    ) -> Result<Response<Self::WatchWorkflowsStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_workflow_events(
        &self,
        request: Request<ListWorkflowEventsRequest>,
    ) -> Result<Response<ListWorkflowEventsResponse>, Status> {
        let request = request.into_inner();
        self.workflow(&request.workflow_id)?;
        let from: usize = request.page_token.parse().unwrap_or(0);
        let events: Vec<_> = self
            .know()
            .events
            .iter()
            .skip(from)
            .take(3)
            .cloned()
            .collect();
        let total = self.know().events.len();
        let next = from + events.len();
        Ok(Response::new(ListWorkflowEventsResponse {
            events,
            next_page_token: if next < total {
                next.to_string()
            } else {
                String::new()
            },
            total_count: total as i64,
        }))
    }

    type WatchWorkflowLogsStream = Answers<WatchWorkflowLogsResponse>;

    async fn watch_workflow_logs(
        &self,
        request: Request<WatchWorkflowLogsRequest>,
    ) -> Result<Response<Self::WatchWorkflowLogsStream>, Status> {
        self.workflow(&request.into_inner().workflow_id)?;
        let lines = ["collected 14 items", "\u{1b}[31mFAILED\u{1b}[0m shop.py"].map(|text| {
            Ok(WatchWorkflowLogsResponse {
                stage: "validation".into(),
                attempt: 1,
                log: Some(Log {
                    text: text.into(),
                    ..Log::default()
                }),
                ..WatchWorkflowLogsResponse::default()
            })
        });
        Ok(Response::new(Box::pin(stream::iter(lines))))
    }

    async fn cancel_workflow(
        &self,
        request: Request<CancelWorkflowRequest>,
    ) -> Result<Response<CancelWorkflowResponse>, Status> {
        let request = request.into_inner();
        let workflow = self.changed(&format!("cancel {}", request.reason), &request.workflow_id)?;
        Ok(Response::new(CancelWorkflowResponse { workflow }))
    }

    async fn pause_workflow(
        &self,
        request: Request<PauseWorkflowRequest>,
    ) -> Result<Response<PauseWorkflowResponse>, Status> {
        let request = request.into_inner();
        let workflow = self.changed("pause", &request.workflow_id)?;
        Ok(Response::new(PauseWorkflowResponse { workflow }))
    }

    async fn resume_workflow(
        &self,
        request: Request<ResumeWorkflowRequest>,
    ) -> Result<Response<ResumeWorkflowResponse>, Status> {
        let request = request.into_inner();
        let cost = request.budget.map_or(0, |budget| budget.cost_micros);
        let workflow = self.changed(&format!("resume {cost}"), &request.workflow_id)?;
        Ok(Response::new(ResumeWorkflowResponse { workflow }))
    }

    async fn retry_workflow(
        &self,
        request: Request<RetryWorkflowRequest>,
    ) -> Result<Response<RetryWorkflowResponse>, Status> {
        let request = request.into_inner();
        let workflow = self.changed(
            &format!("retry {}", request.from_stage),
            &request.workflow_id,
        )?;
        Ok(Response::new(RetryWorkflowResponse { workflow }))
    }

    async fn get_statistics(
        &self,
        _: Request<GetStatisticsRequest>,
    ) -> Result<Response<GetStatisticsResponse>, Status> {
        Ok(Response::new(GetStatisticsResponse::default()))
    }
}

/// Events as a watch says them.
pub fn say(
    events: &[contracts::orchestrator::WorkflowEvent],
) -> Vec<Result<WatchWorkflowResponse, Status>> {
    events
        .iter()
        .cloned()
        .map(|event| Ok(message(event)))
        .collect()
}
