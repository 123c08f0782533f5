//! `AgentRegistryService`.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::InstanceId;
use contracts::orchestrator::agent_registry_service_server::AgentRegistryService as Service;
use contracts::orchestrator::{
    Agent, ConnectRequest, ConnectResponse, DrainAgentRequest, DrainAgentResponse, GetAgentRequest,
    GetAgentResponse, ListAgentsRequest, ListAgentsResponse,
};
use contracts::parse::Fields;
use contracts::task::AgentType;
use service_runtime::tls::Peer;

use super::{page_token, read_page_token};
use crate::agents::session::Sessions;
use crate::engine::Engine;

/// `agentic.orchestrator.v1.AgentRegistryService`.
#[derive(Debug, Clone)]
pub struct AgentRegistryService {
    sessions: Sessions<Engine>,
}

impl AgentRegistryService {
    /// Serves the sessions of this replica.
    pub fn new(sessions: Sessions<Engine>) -> Self {
        Self { sessions }
    }

    async fn one(&self, instance_id: &str) -> Result<(InstanceId, Agent), Error> {
        let mut fields = Fields::new();
        let id: Option<InstanceId> = fields.id("instance_id", instance_id);
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        let agent = self.sessions.arbiter.list_agents(Some(id)).await?.pop();
        let agent = agent.ok_or_else(|| {
            Error::new(
                ErrorReason::AgentNotFound,
                format!("there is no agent {id}"),
            )
        })?;
        Ok((id, agent))
    }

    async fn list(&self, request: &ListAgentsRequest) -> Result<ListAgentsResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let kind = fields.known_enum::<AgentType>("agent_type", request.agent_type);
        let size = usize::try_from(fields.finish(size)?).unwrap_or(usize::MAX);
        let after = read_page_token(&request.page_token)?;
        let mut agents = self.sessions.arbiter.list_agents(None).await?;
        agents.retain(|agent| kind == AgentType::Unspecified || agent.agent_type() == kind);
        let total_count = i64::try_from(agents.len()).unwrap_or(i64::MAX);
        let mut rest = agents
            .into_iter()
            .skip_while(|agent| !after.is_empty() && key(agent) <= after);
        let agents: Vec<_> = rest.by_ref().take(size).collect();
        let more = rest.next().is_some();
        let next_page_token = agents
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&key(last)));
        Ok(ListAgentsResponse {
            agents,
            next_page_token,
            total_count,
        })
    }
}

// Agents are listed in this order.
fn key(agent: &Agent) -> String {
    format!("{}/{}", agent.agent_type, agent.instance_id)
}

#[async_trait]
impl Service for AgentRegistryService {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.sessions.shutdown.is_cancelled() {
            return Err(Error::new(ErrorReason::Draining, "this replica is stopping").into());
        }
        let peer = Peer::of(request.extensions());
        let answers = self.sessions.open(&peer, request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        Ok(Response::new(self.list(request.get_ref()).await?))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        let (_, agent) = self.one(&request.get_ref().instance_id).await?;
        Ok(Response::new(GetAgentResponse { agent: Some(agent) }))
    }

    async fn drain_agent(
        &self,
        request: Request<DrainAgentRequest>,
    ) -> Result<Response<DrainAgentResponse>, Status> {
        let (id, _) = self.one(&request.get_ref().instance_id).await?;
        let engine = &self.sessions.arbiter;
        // Draining twice is draining once: a repeated request needs no record.
        engine.drain_agent(id).await.map_err(Error::from)?;
        let (_, agent) = self.one(&request.get_ref().instance_id).await?;
        Ok(Response::new(DrainAgentResponse { agent: Some(agent) }))
    }
}
