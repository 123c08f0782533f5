//! The five generated services over one task table: reads the call, maps the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use contracts::error::Error;
use contracts::parse::Fields;
use contracts::task::TaskContext;
use contracts::{deployment, e2e, integration, scaffold, validation};

use crate::agent::Agent;
use crate::leases::Leases;
use crate::tasks::Tasks;
use crate::tasks::stream::Message;

const GRACE: Duration = Duration::from_secs(10);
const GRACE_MOST: Duration = Duration::from_mins(1);

/// An agent as a gRPC service.
pub struct AgentService<A: Agent> {
    tasks: Arc<Tasks<A>>,
    tracker: TaskTracker,
    leases: Leases,
}

impl<A: Agent> AgentService<A> {
    /// Serves the tasks of a table.
    pub fn new(tasks: Arc<Tasks<A>>, tracker: TaskTracker, leases: Leases) -> Self {
        Self {
            tasks,
            tracker,
            leases,
        }
    }
}

impl<A: Agent> Clone for AgentService<A> {
    fn clone(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            tracker: self.tracker.clone(),
            leases: self.leases.clone(),
        }
    }
}

macro_rules! serve {
    ($module:ident, $server_module:ident :: $service:ident, $task:ident, $result:ident) => {
        #[tonic::async_trait]
        impl<A> $module::$server_module::$service for AgentService<A>
        where
            A: Agent<Task = $module::$task, Result = $module::$result>,
        {
            type ExecuteStream = ReceiverStream<Result<$module::ExecuteResponse, Status>>;

            async fn execute(
                &self,
                request: Request<$module::ExecuteRequest>,
            ) -> Result<Response<Self::ExecuteStream>, Status> {
                let (metadata, extensions, request) = request.into_parts();
                let (context, task) = required(request.context, request.task)?;
                self.leases
                    .check(&metadata, &extensions, context.lease_epoch)
                    .await?;
                let attachment = self.tasks.execute(context, task).await?;
                let messages = attachment.pump(&self.tracker, |message| {
                    let payload = match message {
                        Message::Event(event) => $module::execute_response::Payload::Event(event),
                        Message::Result(result) => {
                            $module::execute_response::Payload::Result(result)
                        }
                    };
                    $module::ExecuteResponse {
                        payload: Some(payload),
                    }
                });
                Ok(Response::new(ReceiverStream::new(messages)))
            }

            async fn cancel(
                &self,
                request: Request<$module::CancelRequest>,
            ) -> Result<Response<$module::CancelResponse>, Status> {
                let request = request.into_inner();
                let grace = cancellation(&request.task_id, request.lease_epoch, request.grace)?;
                let stopped = self
                    .tasks
                    .cancel(&request.task_id, request.lease_epoch, grace)
                    .await?;
                Ok(Response::new($module::CancelResponse { stopped }))
            }
        }
    };
}

serve!(
    scaffold,
    scaffold_service_server::ScaffoldService,
    ScaffoldTask,
    ScaffoldResult
);
serve!(
    validation,
    validation_service_server::ValidationService,
    ValidationTask,
    ValidationResult
);
serve!(e2e, e2e_service_server::E2eService, E2eTask, E2eResult);
serve!(
    integration,
    integration_service_server::IntegrationService,
    IntegrationTask,
    IntegrationResult
);
serve!(
    deployment,
    deployment_service_server::DeploymentService,
    DeploymentTask,
    DeploymentResult
);

fn required<T>(context: Option<TaskContext>, task: Option<T>) -> Result<(TaskContext, T), Error> {
    let task = task.ok_or_else(|| Error::invalid_field("task", "is required"))?;
    Ok((context.unwrap_or_default(), task))
}

fn cancellation(
    task_id: &str,
    lease_epoch: i64,
    grace: Option<prost_types::Duration>,
) -> Result<Duration, Error> {
    let mut fields = Fields::new();
    fields.required_text("task_id", task_id, 128);
    if lease_epoch < 0 {
        fields.wrong("lease_epoch", "is negative");
    }
    let grace = fields.duration("grace", grace, Duration::ZERO, GRACE_MOST);
    fields.finish(grace.unwrap_or(GRACE))
}
