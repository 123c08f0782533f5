//! A client as it should be: every call carries a request id or a sequence, and goes to the next
//! replica when this one does not answer. It notes what it saw.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use contracts::client;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateWorkflowRequest, ListWorkflowsRequest, WatchWorkflowRequest, WorkflowEvent,
    WorkflowState, watch_workflow_response, workflow_event,
};

// What a caller has patience for.
const CALL: Duration = Duration::from_secs(5);
// Keep-alives come every 15 s.
const SILENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_mins(2);

/// What a client saw of one workflow.
#[derive(Debug, Clone)]
pub struct Journey {
    pub workflow_id: String,
    /// How often a replica did not answer before the workflow was taken in.
    pub refused_count: u32,
    /// How often the watch broke.
    pub broken_count: u32,
    /// How often in a row a call had to be made again, at most.
    pub worst_run: u32,
    pub last_sequence: i64,
    pub end: Option<WorkflowState>,
    /// When another replica took a stage of it over first.
    pub adopted: Option<Instant>,
    pub adopted_count: u32,
    pub lost_count: u32,
    /// Where its stages were begun, in order.
    pub starts: Vec<Start>,
    /// Why its stages were tried again, in order.
    pub retries: Vec<Again>,
}

/// A stage was begun by an agent.
#[derive(Debug, Clone)]
pub struct Start {
    pub task_id: String,
    pub instance_id: String,
    pub at: Instant,
}

/// A stage is to be tried again.
#[derive(Debug, Clone)]
pub struct Again {
    pub class: String,
    pub reason: String,
    pub at: Instant,
}

/// A client of all replicas.
#[derive(Debug, Clone)]
pub struct Client {
    urls: watch::Receiver<Vec<String>>,
    turn: usize,
}

impl Client {
    /// One that begins with a replica.
    pub fn new(urls: watch::Receiver<Vec<String>>, turn: usize) -> Self {
        Self { urls, turn }
    }

    /// Has a workflow taken in.
    pub async fn create(&mut self, request: CreateWorkflowRequest) -> Journey {
        let begun = Instant::now();
        let mut refused_count = 0;
        loop {
            let request = client::request(request.clone(), CALL);
            let answer = timeout(CALL, self.workflows().create_workflow(request))
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
            match answer {
                Ok(answer) => {
                    return Journey {
                        workflow_id: answer.into_inner().workflow.unwrap().workflow_id,
                        refused_count,
                        broken_count: 0,
                        worst_run: refused_count,
                        last_sequence: 0,
                        end: None,
                        adopted: None,
                        adopted_count: 0,
                        lost_count: 0,
                        starts: Vec::new(),
                        retries: Vec::new(),
                    };
                }
                Err(status) => {
                    refused_count += 1;
                    self.elsewhere(&status, begun).await;
                }
            }
        }
    }

    /// Asks once, and nowhere else.
    pub async fn ask(&self) -> Result<(), Status> {
        let request = client::request(ListWorkflowsRequest::default(), PATIENCE);
        self.workflows().list_workflows(request).await.map(|_| ())
    }

    /// Has a workflow taken in, at the first try or not.
    pub async fn create_once(&self, request: CreateWorkflowRequest) -> Result<(), Status> {
        let request = client::request(request, PATIENCE);
        self.workflows().create_workflow(request).await.map(|_| ())
    }

    /// Watches to the end.
    pub async fn finish(&mut self, journey: &mut Journey) {
        self.watch(journey, |journey| journey.end.is_some()).await;
    }

    /// Watches until enough was seen.
    pub async fn watch(&mut self, journey: &mut Journey, enough: impl Fn(&Journey) -> bool) {
        let begun = Instant::now();
        let mut run = 0;
        while !enough(journey) {
            let before = journey.last_sequence;
            match self.follow(journey, &enough).await {
                Ok(()) => {}
                Err(status) => {
                    run = if journey.last_sequence > before {
                        1
                    } else {
                        run + 1
                    };
                    journey.worst_run = journey.worst_run.max(run);
                    journey.broken_count += 1;
                    self.elsewhere(&status, begun).await;
                }
            }
        }
    }

    async fn follow(
        &mut self,
        journey: &mut Journey,
        enough: &impl Fn(&Journey) -> bool,
    ) -> Result<(), Status> {
        let request = WatchWorkflowRequest {
            workflow_id: journey.workflow_id.clone(),
            after_sequence: journey.last_sequence,
        };
        let silent = |_| Status::deadline_exceeded("the stream is silent");
        let mut stream = timeout(CALL, self.workflows().watch_workflow(request))
            .await
            .map_err(silent)??
            .into_inner();
        loop {
            let message = timeout(SILENCE, stream.message()).await.map_err(silent)??;
            let Some(message) = message else {
                return Err(Status::unavailable("the stream ended"));
            };
            if let Some(watch_workflow_response::Payload::Event(event)) = message.payload {
                journey.take(&event);
                if enough(journey) {
                    return Ok(());
                }
            }
        }
    }

    fn workflows(&self) -> WorkflowServiceClient<client::ClientChannel> {
        let urls = self.urls.borrow();
        let url = &urls[self.turn % urls.len()];
        WorkflowServiceClient::new(client::channel(url, None).unwrap())
    }

    async fn elsewhere(&mut self, status: &Status, begun: Instant) {
        // A server that runs out of time says CANCELLED.
        let late = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
        let gone = late || client::is_broken(status);
        assert!(gone, "a client cannot try this again: {status:?}");
        assert!(begun.elapsed() < PATIENCE, "nobody answers: {status:?}");
        self.turn += 1;
        sleep(PAUSE).await;
    }
}

impl Journey {
    fn take(&mut self, event: &WorkflowEvent) {
        assert_eq!(
            event.sequence,
            self.last_sequence + 1,
            "a gap or a repeat in {}",
            self.workflow_id
        );
        self.last_sequence = event.sequence;
        let payload = event.payload.as_ref().unwrap();
        if let workflow_event::Payload::LeaseChanged(change) = payload
            && change.adopted
        {
            self.adopted.get_or_insert_with(Instant::now);
            self.adopted_count += 1;
        }
        if let workflow_event::Payload::StageStarted(started) = payload {
            self.starts.push(Start {
                task_id: started.task_id.clone(),
                instance_id: started.agent_instance_id.clone(),
                at: Instant::now(),
            });
        }
        if let workflow_event::Payload::RetryScheduled(retry) = payload {
            self.lost_count += u32::from(retry.error_class == "lost");
            self.retries.push(Again {
                class: retry.error_class.clone(),
                reason: retry.reason.clone(),
                at: Instant::now(),
            });
        }
        if let workflow_event::Payload::Finished(finished) = payload {
            self.end = Some(finished.workflow.as_ref().unwrap().state());
        }
    }
}
