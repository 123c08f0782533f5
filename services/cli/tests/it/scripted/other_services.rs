//! The smaller services as the script says.

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::agent_registry_service_server::{
    AgentRegistryService, AgentRegistryServiceServer,
};
use contracts::orchestrator::artifact_service_server::{ArtifactService, ArtifactServiceServer};
use contracts::orchestrator::clarification_service_server::{
    ClarificationService, ClarificationServiceServer,
};
use contracts::orchestrator::decision_service_server::{DecisionService, DecisionServiceServer};
use contracts::orchestrator::pipeline_service_server::{PipelineService, PipelineServiceServer};
use contracts::orchestrator::{
    Agent, AgentState, AnswerClarificationRequest, AnswerClarificationResponse, ConnectRequest,
    ConnectResponse, CreatePipelineRequest, CreatePipelineResponse, DeletePipelineRequest,
    DeletePipelineResponse, DownloadArtifactRequest, DownloadArtifactResponse, DrainAgentRequest,
    DrainAgentResponse, GetAgentRequest, GetAgentResponse, GetDecisionRequest, GetDecisionResponse,
    GetPipelineRequest, GetPipelineResponse, ListAgentsRequest, ListAgentsResponse,
    ListArtifactsRequest, ListArtifactsResponse, ListClarificationsRequest,
    ListClarificationsResponse, ListDecisionsRequest, ListDecisionsResponse, ListPipelinesRequest,
    ListPipelinesResponse, ResolveDecisionRequest, ResolveDecisionResponse, UploadArtifactRequest,
    UploadArtifactResponse,
};
use contracts::task::AgentType;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::Scripted;

/// Pipelines.
pub fn pipelines(scripted: Scripted) -> PipelineServiceServer<Scripted> {
    PipelineServiceServer::new(scripted)
}

/// Decisions.
pub fn decisions(scripted: Scripted) -> DecisionServiceServer<Scripted> {
    DecisionServiceServer::new(scripted)
}

/// Clarifications.
pub fn clarifications(scripted: Scripted) -> ClarificationServiceServer<Scripted> {
    ClarificationServiceServer::new(scripted)
}

/// Artifacts.
pub fn artifacts(scripted: Scripted) -> ArtifactServiceServer<Scripted> {
    ArtifactServiceServer::new(scripted)
}

/// Agents.
pub fn agents(scripted: Scripted) -> AgentRegistryServiceServer<Scripted> {
    AgentRegistryServiceServer::new(scripted)
}

fn absent(reason: ErrorReason) -> Status {
    Error::new(reason, "there is no such thing").into()
}

#[tonic::async_trait]
impl PipelineService for Scripted {
    async fn create_pipeline(
        &self,
        request: Request<CreatePipelineRequest>,
    ) -> Result<Response<CreatePipelineResponse>, Status> {
        self.refused()?;
        let request = request.into_inner();
        let pipeline = request.pipeline.clone().unwrap_or_default();
        if !request.validate_only {
            self.know().pipelines.push(pipeline.clone());
        }
        Ok(Response::new(CreatePipelineResponse {
            pipeline: Some(pipeline),
        }))
    }

    async fn get_pipeline(
        &self,
        request: Request<GetPipelineRequest>,
    ) -> Result<Response<GetPipelineResponse>, Status> {
        self.refused()?;
        let id = request.into_inner().pipeline_id;
        let known = self.know().pipelines.iter().find(|p| p.name == id).cloned();
        match known {
            Some(pipeline) => Ok(Response::new(GetPipelineResponse {
                pipeline: Some(pipeline),
            })),
            None => Err(absent(ErrorReason::PipelineNotFound)),
        }
    }

    async fn list_pipelines(
        &self,
        _: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        Ok(Response::new(ListPipelinesResponse {
            pipelines: self.know().pipelines.clone(),
            ..ListPipelinesResponse::default()
        }))
    }

    async fn delete_pipeline(
        &self,
        request: Request<DeletePipelineRequest>,
    ) -> Result<Response<DeletePipelineResponse>, Status> {
        let id = request.into_inner().pipeline_id;
        let mut knowledge = self.know();
        let before = knowledge.pipelines.len();
        knowledge.pipelines.retain(|pipeline| pipeline.name != id);
        if knowledge.pipelines.len() == before {
            return Err(absent(ErrorReason::PipelineNotFound));
        }
        Ok(Response::new(DeletePipelineResponse {}))
    }
}

#[tonic::async_trait]
impl DecisionService for Scripted {
    async fn list_decisions(
        &self,
        _: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        Ok(Response::new(ListDecisionsResponse {
            decisions: self.know().decisions.clone(),
            ..ListDecisionsResponse::default()
        }))
    }

    async fn get_decision(
        &self,
        request: Request<GetDecisionRequest>,
    ) -> Result<Response<GetDecisionResponse>, Status> {
        let id = request.into_inner().decision_id;
        let known = self
            .know()
            .decisions
            .iter()
            .find(|d| d.decision_id == id)
            .cloned();
        match known {
            Some(decision) => Ok(Response::new(GetDecisionResponse {
                decision: Some(decision),
            })),
            None => Err(absent(ErrorReason::DecisionNotFound)),
        }
    }

    async fn resolve_decision(
        &self,
        request: Request<ResolveDecisionRequest>,
    ) -> Result<Response<ResolveDecisionResponse>, Status> {
        self.refused()?;
        let request = request.into_inner();
        let mut knowledge = self.know();
        let decision = knowledge
            .decisions
            .iter_mut()
            .find(|d| d.decision_id == request.decision_id)
            .ok_or_else(|| absent(ErrorReason::DecisionNotFound))?;
        decision.resolution = request.resolution;
        let decision = decision.clone();
        knowledge.resolutions.push(request);
        Ok(Response::new(ResolveDecisionResponse {
            decision: Some(decision),
        }))
    }
}

#[tonic::async_trait]
impl ClarificationService for Scripted {
    async fn list_clarifications(
        &self,
        _: Request<ListClarificationsRequest>,
    ) -> Result<Response<ListClarificationsResponse>, Status> {
        Ok(Response::new(ListClarificationsResponse {
            clarifications: self.know().clarifications.clone(),
            ..ListClarificationsResponse::default()
        }))
    }

    async fn answer_clarification(
        &self,
        request: Request<AnswerClarificationRequest>,
    ) -> Result<Response<AnswerClarificationResponse>, Status> {
        let request = request.into_inner();
        let mut knowledge = self.know();
        let asked = knowledge
            .clarifications
            .iter_mut()
            .find(|c| c.clarification_id == request.clarification_id)
            .ok_or_else(|| absent(ErrorReason::ClarificationNotFound))?;
        asked.answer = request.answer;
        asked.actor = request.actor;
        Ok(Response::new(AnswerClarificationResponse {
            clarification: Some(asked.clone()),
        }))
    }
}

#[tonic::async_trait]
impl ArtifactService for Scripted {
    async fn upload_artifact(
        &self,
        _: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type DownloadArtifactStream = BoxStream<'static, Result<DownloadArtifactResponse, Status>>;

    async fn download_artifact(
        &self,
        request: Request<DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let digest = request.into_inner().digest;
        let bytes = self
            .know()
            .artifacts
            .iter()
            .find(|(stored, _)| stored.artifact.as_ref().is_some_and(|a| a.digest == digest))
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| absent(ErrorReason::ArtifactNotFound))?;
        let chunks: Vec<_> = bytes
            .chunks(contracts::CHUNK_BYTES)
            .map(|chunk| {
                Ok(DownloadArtifactResponse {
                    chunk: chunk.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn list_artifacts(
        &self,
        _: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        let artifacts = self
            .know()
            .artifacts
            .iter()
            .map(|(a, _)| a.clone())
            .collect();
        Ok(Response::new(ListArtifactsResponse {
            artifacts,
            ..ListArtifactsResponse::default()
        }))
    }
}

fn agent(instance_id: &str) -> Agent {
    let mut agent = Agent {
        instance_id: instance_id.into(),
        address: "http://127.0.0.1:50062".into(),
        slot_count: 4,
        free_slot_count: 3,
        reason: "refused\u{1b}[2J".into(),
        ..Agent::default()
    };
    agent.set_agent_type(AgentType::Validation);
    agent.set_state(AgentState::Unreachable);
    agent
}

#[tonic::async_trait]
impl AgentRegistryService for Scripted {
    type ConnectStream = BoxStream<'static, Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        _: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_agents(
        &self,
        _: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        Ok(Response::new(ListAgentsResponse {
            agents: vec![agent("instance-1")],
            ..ListAgentsResponse::default()
        }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        Ok(Response::new(GetAgentResponse {
            agent: Some(agent(&request.into_inner().instance_id)),
        }))
    }

    async fn drain_agent(
        &self,
        request: Request<DrainAgentRequest>,
    ) -> Result<Response<DrainAgentResponse>, Status> {
        let id = request.into_inner().instance_id;
        self.know().changes.push(format!("drain {id}"));
        Ok(Response::new(DrainAgentResponse {
            agent: Some(agent(&id)),
        }))
    }
}
