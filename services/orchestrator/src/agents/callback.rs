//! Calls agents back at their advertised address: heartbeats may be fine while the path for work is
//! dead.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use contracts::agent::service_name;
use contracts::client::{self, ClientChannel};
use contracts::id::InstanceId;
use contracts::task::AgentType;

use super::Agents;
use crate::clock::Clock;

const DEADLINE: Duration = Duration::from_secs(3);
const WHEN_WELL: Duration = Duration::from_secs(10);
const WHEN_NOT: Duration = Duration::from_secs(2);

/// Calls back until the session is over.
pub(super) async fn watch(
    agents: Agents,
    instance_id: InstanceId,
    agent_type: AgentType,
    channel: ClientChannel,
    clock: std::sync::Arc<Clock>,
    over: CancellationToken,
) {
    loop {
        let answer = tokio::select! {
            biased;
            () = over.cancelled() => return,
            answer = call(channel.clone(), agent_type) => answer,
        };
        let pause = if answer.is_ok() { WHEN_WELL } else { WHEN_NOT };
        if let Err(error) = &answer {
            tracing::warn!(agentic.agent.instance_id = %instance_id, error, "agent cannot be called back");
        }
        agents.called_back(instance_id, answer.map(|()| clock.now()));
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

// The agent says NOT_SERVING until it knows that it is reachable: that it answers is what counts.
async fn call(channel: ClientChannel, agent_type: AgentType) -> Result<(), String> {
    let request = HealthCheckRequest {
        service: service_name(agent_type).to_owned(),
    };
    let call = async {
        HealthClient::new(channel)
            .check(client::request(request, DEADLINE))
            .await
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    };
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}
