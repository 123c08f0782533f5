//! The right to give an agent one more task.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use contracts::client::ClientChannel;
use contracts::id::InstanceId;
use contracts::orchestrator::AgentState;
use contracts::task::AgentType;

use super::{Agents, slot};

// Between the farewell of an agent and the end of its streams.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A slot of an agent, taken until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    pub(super) agents: Agents,
    pub(super) instance_id: InstanceId,
    pub(super) agent_type: AgentType,
    pub(super) address: String,
    pub(super) channel: ClientChannel,
    pub(super) key: String,
    pub(super) lost: CancellationToken,
}

impl Reservation {
    /// Instance.
    pub fn instance_id(&self) -> InstanceId {
        self.instance_id
    }

    /// Where it is called.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connection to it.
    pub fn channel(&self) -> ClientChannel {
        self.channel.clone()
    }

    /// Resolves when the agent is lost, or has left and said its last words.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
        // How its tasks ended comes on other connections than its farewell, perhaps later.
        if self.has_left() {
            tokio::time::sleep(LAST_WORDS).await;
        }
    }

    fn has_left(&self) -> bool {
        let connected = self.agents.lock();
        connected
            .get(&self.instance_id)
            .is_some_and(|agent| agent.goodbye)
    }

    /// Whether the agent is alive by its beats, and cannot be called.
    pub fn is_unreachable(&self) -> bool {
        self.agents
            .lock()
            .get(&self.instance_id)
            .is_some_and(|agent| agent.state(Instant::now()) == AgentState::Unreachable)
    }

    /// Whether the agent's session is open.
    pub fn is_connected(&self) -> bool {
        self.agents
            .lock()
            .get(&self.instance_id)
            .is_some_and(|agent| agent.session.is_some() && !agent.lost.is_cancelled())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(agent) = self.agents.lock().get_mut(&self.instance_id) {
            agent.leased.remove(&self.key);
        }
        self.agents.shared.freed[slot(self.agent_type)].notify_one();
    }
}
