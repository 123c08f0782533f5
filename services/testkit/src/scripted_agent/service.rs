//! The five agent services over one workbench.

use contracts::{
    agent::AgentMessage,
    deployment, e2e, integration,
    orchestrator::{StageTask, stage_result, stage_task},
    scaffold,
    task::AgentType,
    validation,
};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, async_trait, service::Routes};

use super::work::Workbench;

/// Serves whichever agent type the test asked for.
#[derive(Debug, Clone)]
pub(super) struct Service(Workbench);

impl Service {
    pub(super) fn new(workbench: Workbench) -> Self {
        Self(workbench)
    }

    pub(super) fn add_to(self, agent_type: AgentType, routes: Routes) -> Routes {
        use contracts::{
            deployment::deployment_service_server::DeploymentServiceServer,
            e2e::e2e_service_server::E2eServiceServer,
            integration::integration_service_server::IntegrationServiceServer,
            scaffold::scaffold_service_server::ScaffoldServiceServer,
            validation::validation_service_server::ValidationServiceServer,
        };
        match agent_type {
            AgentType::Unspecified => routes,
            AgentType::Scaffold => routes.add_service(ScaffoldServiceServer::new(self)),
            AgentType::Validation => routes.add_service(ValidationServiceServer::new(self)),
            AgentType::E2e => routes.add_service(E2eServiceServer::new(self)),
            AgentType::Integration => routes.add_service(IntegrationServiceServer::new(self)),
            AgentType::Deployment => routes.add_service(DeploymentServiceServer::new(self)),
        }
    }
}

macro_rules! serve {
    ($module:ident, $server:ident::$service:ident, $variant:ident) => {
        #[async_trait]
        impl $module::$server::$service for Service {
            type ExecuteStream = BoxStream<'static, Result<$module::ExecuteResponse, Status>>;

            async fn execute(
                &self,
                request: Request<$module::ExecuteRequest>,
            ) -> Result<Response<Self::ExecuteStream>, Status> {
                let request = request.into_inner();
                let task = request.task.map(stage_task::Task::$variant);
                let messages = self
                    .0
                    .execute(request.context.unwrap_or_default(), &StageTask { task })?;
                let responses = messages.map(|message| {
                    let payload = match message? {
                        AgentMessage::Event(event) => {
                            Some($module::execute_response::Payload::Event(event))
                        }
                        AgentMessage::Result(result) => match result.result {
                            Some(stage_result::Result::$variant(result)) => {
                                Some($module::execute_response::Payload::Result(result))
                            }
                            // A script may give the result of another agent type, which nobody can send.
                            _ => None,
                        },
                    };
                    Ok($module::ExecuteResponse { payload })
                });
                Ok(Response::new(responses.boxed()))
            }

            async fn cancel(
                &self,
                request: Request<$module::CancelRequest>,
            ) -> Result<Response<$module::CancelResponse>, Status> {
                self.0.cancel(&request.into_inner().task_id);
                Ok(Response::new($module::CancelResponse { stopped: true }))
            }
        }
    };
}

serve!(scaffold, scaffold_service_server::ScaffoldService, Scaffold);
serve!(
    validation,
    validation_service_server::ValidationService,
    Validation
);
serve!(e2e, e2e_service_server::E2eService, E2e);
serve!(
    integration,
    integration_service_server::IntegrationService,
    Integration
);
serve!(
    deployment,
    deployment_service_server::DeploymentService,
    Deployment
);
