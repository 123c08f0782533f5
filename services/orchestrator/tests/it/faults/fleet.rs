//! Scripted agents that roam: each holds a session with one replica at a time, and goes to the next
//! when that one is of no more use. Their work takes a moment, or waits for the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use contracts::agent::AGENT_TYPES;
use contracts::task::{AgentType, TaskContext, Verdict};
use testkit::fault_proxy::FaultProxy;
use testkit::scripted_agent::{Call, Gate, ScriptedAgent, Step};

use super::invariants::Run;
use super::worker::HELD;

const WORK: Duration = Duration::from_millis(150);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
// As the agent runtime has it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// How agents and one replica find each other.
#[derive(Debug, Clone)]
pub struct Road {
    /// Where agents call the replica.
    pub orchestrator: String,
    /// Where the replica calls agents, when not at their own addresses: by the index of the agent.
    pub calls: Option<Arc<Vec<FaultProxy>>>,
}

/// All agents of a test.
#[derive(Debug)]
pub struct Fleet {
    agents: Vec<Arc<ScriptedAgent>>,
    gate: Gate,
    _roaming: JoinSet<()>,
}

impl Fleet {
    /// So many agents of each type, spread over the replicas.
    pub async fn start(count: usize, slots: i32, roads: &watch::Receiver<Vec<Road>>) -> Self {
        let gate = Gate::new();
        let mut agents = Vec::new();
        let mut roaming = JoinSet::new();
        for (kind, agent_type) in AGENT_TYPES.into_iter().enumerate() {
            for number in 0..count {
                let script = script(agent_type, gate.clone());
                let agent = ScriptedAgent::start(agent_type, script).await.unwrap();
                let agent = Arc::new(agent);
                let index = agents.len();
                agents.push(Arc::clone(&agent));
                roaming.spawn(roam(agent, index, kind + number, slots, roads.clone()));
            }
        }
        Self {
            agents,
            gate,
            _roaming: roaming,
        }
    }

    /// What the held stages wait for.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Where the agents listen, in the order in which roads count them.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.agents.iter().map(|agent| agent.address())
    }

    /// Every call that any agent got.
    pub fn runs(&self) -> Vec<Run> {
        let calls = self.agents.iter().flat_map(|agent| agent.calls());
        calls.map(run).collect()
    }
}

/// A call in words.
pub fn run(call: Call) -> Run {
    let context = call.context;
    Run {
        told: format!(
            "epoch {} of {} on {}, only attaching: {}",
            context.lease_epoch, context.stage, context.agent_instance_id, context.reattach_only
        ),
        task_id: context.task_id,
        began: call.began,
    }
}

fn script(
    agent_type: AgentType,
    gate: Gate,
) -> impl Fn(&TaskContext, &contracts::orchestrator::StageTask) -> Vec<Step> {
    move |context, _| {
        let held = context.labels.get(HELD) == Some(&context.stage);
        let work = if held {
            Step::Wait(gate.clone())
        } else {
            Step::Work(WORK)
        };
        vec![
            Step::Accept,
            work,
            Step::finish(agent_type, Verdict::Passed),
        ]
    }
}

async fn roam(
    agent: Arc<ScriptedAgent>,
    index: usize,
    first: usize,
    slots: i32,
    mut roads: watch::Receiver<Vec<Road>>,
) {
    let mut previous = None;
    for turn in first.. {
        let road = match roads.wait_for(|roads| !roads.is_empty()).await {
            Ok(roads) => roads[turn % roads.len()].clone(),
            Err(_) => return,
        };
        let opened = async {
            let address = match &road.calls {
                Some(proxies) => proxies[index].url(),
                None => agent.url(),
            };
            let connecting = agent.connect_as(&road.orchestrator, slots, &address);
            timeout(CONNECT_WITHIN, connecting).await.ok()?.ok()
        };
        if let Some(session) = opened.await {
            // Make before break.
            drop(previous.take());
            session.over(UNACKNOWLEDGED).await;
            previous = Some(session);
        } else {
            sleep(PAUSE).await;
        }
    }
}
