//! What this replica does about the others: acts on their hints, passes their events on, and keeps
//! the list of all agents of the mesh. Everything here is also found out without a hint, a second
//! later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use rand::Rng;

use contracts::agent::AGENT_TYPES;
use contracts::id::{InstanceId, WorkflowId};
use contracts::orchestrator::{Agent, AgentState, WorkflowEvent};
use contracts::wire_time;

use super::step::LEASE;
use super::{Engine, EngineError};
use crate::agents::LOST_AFTER;
use crate::events::all::Seen;
use crate::hints::Hint;
use crate::plan::state::TaskState;
use crate::store::agents::KnownAgent;
use crate::store::{agents, events, malformed, workflows};

/// How often the agents that are connected here are written down.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Changes of agents in this time are written down together.
const TOGETHER: Duration = Duration::from_millis(50);
/// An ended workflow's last events are looked for this long; clocks of replicas may differ by as much.
const ENDED_SINCE: Duration = Duration::from_secs(5);
// Logs read in one statement, and events of each.
const LOGS: usize = 256;
const EVENTS: i64 = 200;
// Workflows at hand that are looked at in one statement.
const HELD: usize = 1000;

/// About a second, so that replicas do not look all at once.
pub(super) fn about_a_second() -> Duration {
    rand::rng().random_range(Duration::from_millis(750)..Duration::from_millis(1250))
}

/// Hears the others until the shutdown.
pub(super) async fn hear(engine: Engine) {
    let (bus, stopping) = (engine.shared.bus.clone(), engine.stopping());
    let hints = engine.shared.hints.clone();
    hints.run(bus, stopping, |hint| engine.heard(hint)).await;
}

/// Passes on events of all workflows, as long as anybody watches, until the shutdown.
pub(super) async fn follow(engine: Engine) {
    let all = engine.events().all();
    let mut looked: Option<SystemTime> = None;
    let mut next = tokio::time::Instant::now();
    loop {
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = all.wanted() => {}
            () = tokio::time::sleep_until(next), if looked.is_some() => {}
        }
        if !all.is_watched() {
            looked = None;
            continue;
        }
        if looked.is_none() || next <= tokio::time::Instant::now() {
            match engine.look(looked).await {
                Ok(at) => looked = Some(at),
                Err(error) => tracing::warn!(error = ?error, "workflows were not looked at"),
            }
            next = tokio::time::Instant::now() + about_a_second();
        }
        if let Err(error) = engine.catch_up().await {
            tracing::warn!(error = ?error, "events of other replicas were not read");
            tokio::time::sleep(TOGETHER).await;
        }
    }
}

/// Writes the agents that are connected here down until the shutdown.
pub(super) async fn write_agents(engine: Engine) {
    let mut all_at = tokio::time::Instant::now();
    loop {
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = engine.agents().changed() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep_until(all_at) => {}
        }
        let all = all_at <= tokio::time::Instant::now();
        if all {
            all_at = tokio::time::Instant::now() + WRITE_EVERY;
        }
        if let Err(error) = engine.write_down(all).await {
            tracing::warn!(error = ?error, "agents were not written down");
        }
    }
}

impl Engine {
    fn heard(&self, hint: Hint) {
        match hint {
            Hint::Changed {
                workflow_id,
                sequence,
                stop,
            } => {
                self.outdated(workflow_id, sequence);
                self.events().hint(workflow_id, sequence);
                if stop {
                    self.check_drives_of(workflow_id);
                }
            }
            Hint::Waiting(agent_type) => self.waiting(agent_type).notify_one(),
            Hint::Drain(instance_id) => {
                self.agents().drain(instance_id);
            }
            Hint::LogsWanted {
                workflow_id,
                from_start,
            } => self.show_logs(workflow_id, from_start),
            Hint::LogsWritten(workflow_id) => self.logs().written_elsewhere(workflow_id),
            Hint::Hello => self.agents().tell_all(),
            Hint::Missed => {
                self.shared.look_now.notify_one();
                for agent_type in AGENT_TYPES {
                    self.waiting(agent_type).notify_one();
                }
            }
        }
    }

    /// A workflow has events up to a sequence, as the database says.
    pub(super) fn moved(&self, workflow_id: WorkflowId, sequence: i64) {
        if self.outdated(workflow_id, sequence) {
            self.check_drives_of(workflow_id);
        }
        self.events().hint(workflow_id, sequence);
    }

    /// Lets go of workflows that somebody else ended, or changed since.
    pub(super) async fn forget_ended(&self) -> Result<(), EngineError> {
        let ids = self.at_hand();
        for ids in ids.chunks(HELD) {
            let client = self.store().client().await?;
            let sequences: HashMap<_, _> = workflows::last_sequences(&client, ids)
                .await?
                .into_iter()
                .collect();
            drop(client);
            for id in ids {
                if self.outdated(*id, sequences.get(id).copied().unwrap_or(i64::MAX)) {
                    self.forget(*id);
                }
            }
        }
        Ok(())
    }

    /// Lets go of the log lines of workflows that somebody else ended.
    pub(super) async fn forget_logs(&self) -> Result<(), EngineError> {
        let ids = self.logs().workflows();
        for ids in ids.chunks(HELD) {
            let client = self.store().client().await?;
            let living: HashSet<_> = workflows::living(&client, ids).await?.into_iter().collect();
            drop(client);
            for id in ids.iter().filter(|id| !living.contains(id)) {
                self.logs().end(*id);
            }
        }
        Ok(())
    }

    // Lets go of what is at hand of a workflow if it is older than what somebody else wrote. True:
    // it was.
    fn outdated(&self, workflow_id: WorkflowId, sequence: i64) -> bool {
        let cell = self.known_cell(workflow_id);
        // Whoever holds the lock is making a step, and loses its race by itself.
        if let Some(mut held) = cell.as_ref().and_then(|cell| cell.try_lock().ok())
            && held
                .as_ref()
                .is_some_and(|workflow| workflow.last_sequence < sequence)
        {
            *held = None;
            return true;
        }
        false
    }

    /// Stops the attempts of a workflow that are driven here and that somebody else's step stopped.
    pub(super) fn check_drives_of(&self, workflow_id: WorkflowId) {
        if !self.drives().keys().any(|(id, _)| *id == workflow_id) {
            return;
        }
        let engine = self.clone();
        self.shared.tracker.spawn(async move {
            if let Err(error) = engine.stop_drives_of(workflow_id).await {
                tracing::warn!(error = ?error, agentic.workflow.id = %workflow_id, "attempts were not stopped");
            }
        });
    }

    async fn stop_drives_of(&self, workflow_id: WorkflowId) -> Result<(), EngineError> {
        let namespace = self
            .drives()
            .iter()
            .find(|((id, _), _)| *id == workflow_id)
            .map(|(_, drive)| drive.namespace.clone());
        let Some(namespace) = namespace else {
            return Ok(());
        };
        let workflow = self.get(&namespace, workflow_id).await?;
        for ((id, stage), drive) in self.drives().iter() {
            let stops = *id == workflow_id
                && workflow.live.plan.stage(stage).is_some_and(|planned| {
                    planned.task == TaskState::Leased
                        && planned.stopping
                        && planned.lease_epoch == drive.epoch
                });
            if stops {
                drive.stop.cancel();
            }
        }
        Ok(())
    }

    // How far all workflows are; answers when that was.
    async fn look(&self, before: Option<SystemTime>) -> Result<SystemTime, EngineError> {
        let now = self.clock().now();
        let since = before.unwrap_or(now) - ENDED_SINCE;
        let client = self.store().client().await?;
        let moving = workflows::moving(&client, since).await?;
        let seen: Vec<_> = moving
            .into_iter()
            .map(|(workflow_id, sequence)| Seen {
                workflow_id,
                sequence,
            })
            .collect();
        self.events().all().seen(since, &seen);
        Ok(now)
    }

    async fn catch_up(&self) -> Result<(), EngineError> {
        let all = self.events().all();
        loop {
            let (behind, since) = all.behind(LOGS);
            if behind.is_empty() {
                return Ok(());
            }
            let wanted: Vec<_> = behind
                .iter()
                .map(|behind| (behind.workflow_id, behind.after))
                .collect();
            let read = async {
                let client = self.store().client().await?;
                events::of_many_after(&client, &wanted, since, EVENTS).await
            };
            let read = match read.await {
                Ok(read) => read,
                Err(error) => {
                    for behind in behind {
                        all.not_read(behind.workflow_id);
                    }
                    return Err(error.into());
                }
            };
            for followed in read {
                let more = followed.events.len() >= usize::try_from(EVENTS).unwrap_or(usize::MAX);
                let decoded = followed
                    .events
                    .iter()
                    .map(|bytes| WorkflowEvent::decode(bytes.as_slice()).map(Arc::new))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| malformed("events", &error))?;
                let namespace = followed.namespace.as_str().into();
                all.read(&namespace, followed.workflow_id, decoded);
                if more {
                    all.not_read(followed.workflow_id);
                }
            }
        }
    }

    async fn write_down(&self, all: bool) -> Result<(), EngineError> {
        let rows = self.agents().rows(all, &self.shared.replica_id);
        if rows.is_empty() {
            return Ok(());
        }
        let client = self.store().client().await?;
        for drained in agents::write(&client, &self.shared.replica_id, &rows).await? {
            self.agents().drain(drained);
        }
        Ok(())
    }

    /// All agents of the mesh, or one, by type and instance.
    pub async fn list_agents(&self, only: Option<InstanceId>) -> Result<Vec<Agent>, EngineError> {
        let client = self.store().client().await?;
        let known = agents::list(&client, only, LEASE).await?;
        drop(client);
        let replica_id = &self.shared.replica_id;
        let mut listed: HashMap<InstanceId, Agent> = HashMap::new();
        for known in known {
            if known.replica_id != *replica_id {
                let agent = elsewhere(&known, self.clock().now())?;
                listed.insert(known.instance_id, agent);
            }
        }
        for (id, connected, agent) in self.agents().list(replica_id) {
            let wanted = only.is_none_or(|only| only == id);
            // One that left this replica for another is the other's to tell of.
            if wanted && (connected || !listed.contains_key(&id)) {
                listed.insert(id, agent);
            }
        }
        let mut listed: Vec<_> = listed.into_values().collect();
        listed.sort_by(|a, b| (a.agent_type, &a.instance_id).cmp(&(b.agent_type, &b.instance_id)));
        Ok(listed)
    }

    /// Gives an agent no new work, wherever it is connected.
    pub async fn drain_agent(&self, instance_id: InstanceId) -> Result<(), EngineError> {
        let here = self.agents().drain(instance_id);
        let client = self.store().client().await?;
        agents::drain(&client, instance_id).await?;
        if !here {
            self.shared.hints.drain(instance_id);
        }
        Ok(())
    }
}

// An agent of another replica, as the two of them are now.
fn elsewhere(known: &KnownAgent, now: SystemTime) -> Result<Agent, EngineError> {
    let mut agent = Agent::decode(known.agent.as_slice())
        .map_err(|error| EngineError::Store(malformed("agents", &error)))?;
    agent.replica_id.clone_from(&known.replica_id);
    if known.draining && agent.state() == AgentState::Ready {
        agent.set_state(AgentState::Draining);
    }
    let over = matches!(agent.state(), AgentState::Lost | AgentState::Gone);
    if !known.replica_lives && !over {
        let silent = agent
            .last_beat_time
            .and_then(wire_time::system_time)
            .and_then(|time| now.duration_since(time).ok())
            .unwrap_or_default();
        agent.set_state(if silent > LOST_AFTER {
            AgentState::Lost
        } else {
            AgentState::Suspect
        });
        "the replica that it was connected to is gone".clone_into(&mut agent.reason);
    }
    Ok(agent)
}
