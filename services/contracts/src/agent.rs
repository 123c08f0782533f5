//! The five agent services behind one face, for whoever hands out tasks.

use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::{Code, Request, Status, Streaming};

use crate::client::ClientChannel;
use crate::deployment::DeploymentResult;
use crate::integration::IntegrationResult;
use crate::lease::Signer;
use crate::orchestrator::{StageResult, StageTask, stage_result, stage_task};
use crate::task::{AgentType, Outcome, StageInput, TaskContext, TaskEvent};
use crate::{deployment, e2e, integration, scaffold, validation};

/// One message of a task's stream.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentMessage {
    /// Something happened.
    Event(TaskEvent),
    /// The task is over.
    Result(Box<StageResult>),
}

/// Asks for a task to be stopped.
#[derive(Debug, Clone)]
pub struct Cancellation {
    /// Which task.
    pub task_id: String,
    /// Lease epoch of the caller; zero: none.
    pub lease_epoch: i64,
    /// How long to wait for the work to stop.
    pub grace: std::time::Duration,
}

macro_rules! execute {
    ($module:ident, $client_module:ident::$client:ident, $variant:ident, $call:expr, $task:expr) => {{
        let Call {
            channel,
            context,
            signer,
        } = $call;
        let mut client = $module::$client_module::$client::new(channel)
            .max_decoding_message_size(crate::RESPONSE_BYTES)
            .max_encoding_message_size(crate::RESPONSE_BYTES);
        let request = $module::ExecuteRequest {
            context: Some(context),
            task: Some($task),
        };
        let mut request = Request::new(request);
        if let Some(signer) = signer {
            let path = format!("/{}/Execute", service_name(AgentType::$variant));
            let message = request.get_ref().encode_to_vec();
            signer.sign(&path, &message, request.metadata_mut());
        }
        let stream = client.execute(request).await?.into_inner();
        Ok(messages(
            stream,
            |response: $module::ExecuteResponse| match response.payload {
                Some($module::execute_response::Payload::Event(event)) => {
                    Some(AgentMessage::Event(event))
                }
                Some($module::execute_response::Payload::Result(result)) => {
                    let result = Some(stage_result::Result::$variant(result));
                    Some(AgentMessage::Result(Box::new(StageResult { result })))
                }
                None => None,
            },
        ))
    }};
}

macro_rules! cancel {
    ($module:ident, $client_module:ident::$client:ident, $channel:expr, $cancellation:expr) => {{
        let grace = $cancellation.grace;
        let request = $module::CancelRequest {
            task_id: $cancellation.task_id,
            lease_epoch: $cancellation.lease_epoch,
            grace: Some(crate::wire_time::wire_duration(grace)),
        };
        let deadline = grace + crate::client::UNARY_DEADLINE;
        let request = crate::client::request(request, deadline);
        Ok($module::$client_module::$client::new($channel)
            .cancel(request)
            .await?
            .into_inner()
            .stopped)
    }};
}

struct Call<'a> {
    channel: ClientChannel,
    context: TaskContext,
    signer: Option<&'a Signer>,
}

/// Runs a task, or goes on with it. The stream ends after the result, or with an error.
pub async fn execute(
    channel: ClientChannel,
    context: TaskContext,
    task: StageTask,
) -> Result<BoxStream<'static, Result<AgentMessage, Status>>, Status> {
    execute_signed(channel, context, task, None).await
}

/// The same; with a signer the agent can tell that the lease is its orchestrator's.
pub async fn execute_signed(
    channel: ClientChannel,
    context: TaskContext,
    task: StageTask,
    signer: Option<&Signer>,
) -> Result<BoxStream<'static, Result<AgentMessage, Status>>, Status> {
    use stage_task::Task;
    let call = Call {
        channel,
        context,
        signer,
    };
    match task.task {
        Some(Task::Scaffold(task)) => {
            execute!(
                scaffold,
                scaffold_service_client::ScaffoldServiceClient,
                Scaffold,
                call,
                task
            )
        }
        Some(Task::Validation(task)) => {
            execute!(
                validation,
                validation_service_client::ValidationServiceClient,
                Validation,
                call,
                task
            )
        }
        Some(Task::E2e(task)) => {
            execute!(e2e, e2e_service_client::E2eServiceClient, E2e, call, task)
        }
        Some(Task::Integration(task)) => {
            execute!(
                integration,
                integration_service_client::IntegrationServiceClient,
                Integration,
                call,
                task
            )
        }
        Some(Task::Deployment(task)) => {
            execute!(
                deployment,
                deployment_service_client::DeploymentServiceClient,
                Deployment,
                call,
                task
            )
        }
        None => Err(Status::new(Code::InvalidArgument, "the stage has no task")),
    }
}

/// Stops a task. True: the work has stopped.
pub async fn cancel(
    channel: ClientChannel,
    agent_type: AgentType,
    cancellation: Cancellation,
) -> Result<bool, Status> {
    match agent_type {
        AgentType::Scaffold => cancel!(
            scaffold,
            scaffold_service_client::ScaffoldServiceClient,
            channel,
            cancellation
        ),
        AgentType::Validation => cancel!(
            validation,
            validation_service_client::ValidationServiceClient,
            channel,
            cancellation
        ),
        AgentType::E2e => cancel!(
            e2e,
            e2e_service_client::E2eServiceClient,
            channel,
            cancellation
        ),
        AgentType::Integration => cancel!(
            integration,
            integration_service_client::IntegrationServiceClient,
            channel,
            cancellation
        ),
        AgentType::Deployment => cancel!(
            deployment,
            deployment_service_client::DeploymentServiceClient,
            channel,
            cancellation
        ),
        AgentType::Unspecified => Err(Status::new(Code::InvalidArgument, "no agent type")),
    }
}

fn messages<M: Send + 'static>(
    stream: Streaming<M>,
    read: impl Fn(M) -> Option<AgentMessage> + Send + 'static,
) -> BoxStream<'static, Result<AgentMessage, Status>> {
    stream
        .filter_map(move |message| {
            let message = message.map(&read).transpose();
            async move { message }
        })
        .boxed()
}

/// Name of an agent type as people write it.
pub fn type_name(agent_type: AgentType) -> &'static str {
    match agent_type {
        AgentType::Unspecified => "unspecified",
        AgentType::Scaffold => "scaffold",
        AgentType::Validation => "validation",
        AgentType::E2e => "e2e",
        AgentType::Integration => "integration",
        AgentType::Deployment => "deployment",
    }
}

/// Full name of the service of an agent type, as health checks ask for it.
pub fn service_name(agent_type: AgentType) -> &'static str {
    match agent_type {
        AgentType::Unspecified => "",
        AgentType::Scaffold => "agentic.scaffold.v1.ScaffoldService",
        AgentType::Validation => "agentic.validation.v1.ValidationService",
        AgentType::E2e => "agentic.e2e.v1.E2eService",
        AgentType::Integration => "agentic.integration.v1.IntegrationService",
        AgentType::Deployment => "agentic.deployment.v1.DeploymentService",
    }
}

/// All five agent types, in the order that work passes them.
pub const AGENT_TYPES: [AgentType; 5] = [
    AgentType::Scaffold,
    AgentType::Validation,
    AgentType::E2e,
    AgentType::Integration,
    AgentType::Deployment,
];

impl StageTask {
    /// Which agent type runs the task. UNSPECIFIED: it is empty.
    pub fn agent_type(&self) -> AgentType {
        use stage_task::Task;
        match &self.task {
            Some(Task::Scaffold(_)) => AgentType::Scaffold,
            Some(Task::Validation(_)) => AgentType::Validation,
            Some(Task::E2e(_)) => AgentType::E2e,
            Some(Task::Integration(_)) => AgentType::Integration,
            Some(Task::Deployment(_)) => AgentType::Deployment,
            None => AgentType::Unspecified,
        }
    }

    /// Puts the set fields of `over` in place of this task's; both must be of one type.
    /// False, and nothing changed: they are not.
    pub fn overlay(&mut self, over: &Self) -> bool {
        if over.agent_type() != self.agent_type() {
            return false;
        }
        // Protobuf's own merge: set fields win, messages merge, lists are appended.
        self.merge(over.encode_to_vec().as_slice()).is_ok()
    }
}

impl StageInput {
    /// The whole result of an integration stage. `None`: it is another agent's.
    pub fn integration(&self) -> Option<IntegrationResult> {
        self.result.as_ref()?.to_msg().ok()
    }

    /// The whole result of a deployment stage. `None`: it is another agent's.
    pub fn deployment(&self) -> Option<DeploymentResult> {
        self.result.as_ref()?.to_msg().ok()
    }
}

impl StageResult {
    /// What every result has. `None`: the result is empty.
    pub fn outcome(&self) -> Option<&Outcome> {
        use stage_result::Result;
        match self.result.as_ref()? {
            Result::Scaffold(result) => result.outcome.as_ref(),
            Result::Validation(result) => result.outcome.as_ref(),
            Result::E2e(result) => result.outcome.as_ref(),
            Result::Integration(result) => result.outcome.as_ref(),
            Result::Deployment(result) => result.outcome.as_ref(),
        }
    }

    /// The result packed for a task's inputs.
    pub fn to_any(&self) -> Option<prost_types::Any> {
        use stage_result::Result;
        match self.result.as_ref()? {
            Result::Scaffold(result) => prost_types::Any::from_msg(result).ok(),
            Result::Validation(result) => prost_types::Any::from_msg(result).ok(),
            Result::E2e(result) => prost_types::Any::from_msg(result).ok(),
            Result::Integration(result) => prost_types::Any::from_msg(result).ok(),
            Result::Deployment(result) => prost_types::Any::from_msg(result).ok(),
        }
    }
}
