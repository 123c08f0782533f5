//! The agents that are connected to this replica: who they are, whether they can be called, which
//! slots are taken. Knows nothing of workflows but the keys of what runs.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use contracts::agent::AGENT_TYPES;
use contracts::client::ClientChannel;
use contracts::id::InstanceId;
use contracts::orchestrator::{self as wire, AgentBeat, AgentState, ConnectResponse, Hello};
use contracts::task::AgentType;
use contracts::wire_time;

use crate::store::agents::AgentRow;

pub mod callback;
mod condition;
mod reservation;
pub mod session;

use condition::Trouble;
pub use reservation::Reservation;

/// Without a beat for so long an agent gets no new work.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(15);
/// Without a beat for so long its tasks are given to others.
pub const LOST_AFTER: Duration = Duration::from_secs(30);
/// Lost agents stay in lists for so long.
pub const REMEMBERED: Duration = Duration::from_hours(1);
// One refused call must not hammer an agent that says that it is full.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// All agents of this replica.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    connected: Mutex<HashMap<InstanceId, Connected>>,
    // One per agent type: a slot may have become free.
    freed: [Notify; AGENT_TYPES.len() + 1],
    // What others should know of an agent is different now.
    changed: Notify,
}

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each found out by itself"
)]
struct Connected {
    hello: Hello,
    agent_type: AgentType,
    channel: ClientChannel,
    session: Option<Session>,
    session_epoch: i64,
    // It heard the welcome of its session: it has beaten since.
    heard: bool,
    reachable: bool,
    callback_error: String,
    last_callback: Option<SystemTime>,
    since: SystemTime,
    beat: AgentBeat,
    // How far its clock is ahead, in seconds, when it said what time it has.
    clock_offset: Option<f64>,
    last_beat: Instant,
    last_beat_time: SystemTime,
    draining: bool,
    goodbye: bool,
    paused_until: Option<Instant>,
    // When it was given work last.
    last_given: Option<Instant>,
    trouble: Option<Trouble>,
    // Others are preferred until then.
    avoided_until: Option<Instant>,
    leased: HashSet<String>,
    release: HashSet<String>,
    stop: HashSet<String>,
    // Fires when the agent is lost: whoever waits for it need wait no longer.
    lost: CancellationToken,
    // Others do not know yet how it is.
    untold: bool,
}

#[derive(Debug, Clone)]
struct Session {
    answers: mpsc::Sender<Result<ConnectResponse, Status>>,
    end: CancellationToken,
}

impl Agents {
    /// Takes a slot of the least loaded agent of a type; among equals, of the one that has waited
    /// longest. One whose last task ran out of time a moment ago is taken when no other has room: the
    /// task should be tried elsewhere.
    pub fn reserve(&self, agent_type: AgentType) -> Option<Reservation> {
        let now = Instant::now();
        let mut connected = self.lock();
        let (instance_id, agent) = connected
            .iter_mut()
            .filter(|(_, agent)| {
                agent.agent_type == agent_type
                    && agent.free_slot_count() > 0
                    && agent.is_eligible(now)
            })
            .max_by_key(|(_, agent)| {
                let preferred = !agent.is_avoided(now);
                (
                    preferred,
                    agent.free_slot_count(),
                    Reverse(agent.last_given),
                )
            })?;
        agent.last_given = Some(now);
        let key = uuid::Uuid::now_v7().to_string();
        agent.leased.insert(key.clone());
        Some(Reservation {
            agents: self.clone(),
            instance_id: *instance_id,
            agent_type,
            address: agent.hello.address.clone(),
            channel: agent.channel.clone(),
            key,
            lost: agent.lost.clone(),
        })
    }

    /// Takes a slot of one agent, whatever its state: it runs the task already. `None`: it is not
    /// connected here.
    pub fn reserve_on(&self, instance_id: InstanceId) -> Option<Reservation> {
        let mut connected = self.lock();
        let agent = connected
            .get_mut(&instance_id)
            .filter(|agent| agent.session.is_some())?;
        let key = uuid::Uuid::now_v7().to_string();
        agent.leased.insert(key.clone());
        Some(Reservation {
            agents: self.clone(),
            instance_id,
            agent_type: agent.agent_type,
            address: agent.hello.address.clone(),
            channel: agent.channel.clone(),
            key,
            lost: agent.lost.clone(),
        })
    }

    /// Resolves when a slot of a type may have become free.
    pub async fn freed(&self, agent_type: AgentType) {
        self.shared.freed[slot(agent_type)].notified().await;
    }

    /// Slots that are free, by agent type: in all, and free.
    pub fn slot_counts(&self, agent_type: AgentType) -> (usize, usize) {
        let now = Instant::now();
        let connected = self.lock();
        connected
            .values()
            .filter(|agent| agent.agent_type == agent_type && agent.session.is_some())
            .fold((0, 0), |(all, free), agent| {
                let own = agent.slot_count();
                let open = if agent.is_eligible(now) {
                    agent.free_slot_count()
                } else {
                    0
                };
                (all + own, free + open)
            })
    }

    /// Agents of a type that have a session.
    pub fn connected_count(&self, agent_type: AgentType) -> usize {
        let connected = self.lock();
        connected
            .values()
            .filter(|agent| agent.agent_type == agent_type && agent.session.is_some())
            .count()
    }

    /// An agent connected. The older session of the same instance ends.
    fn connect(
        &self,
        instance_id: InstanceId,
        hello: Hello,
        agent_type: AgentType,
        channel: ClientChannel,
        session: Session,
        now: SystemTime,
    ) -> i64 {
        let mut connected = self.lock();
        let known = connected.remove(&instance_id);
        let session_epoch = known.as_ref().map_or(1, |agent| agent.session_epoch + 1);
        let mut agent = Connected {
            hello,
            agent_type,
            channel,
            session: Some(session),
            session_epoch,
            heard: false,
            reachable: false,
            callback_error: "not called back yet".to_owned(),
            last_callback: None,
            since: now,
            beat: AgentBeat::default(),
            clock_offset: None,
            last_beat: Instant::now(),
            last_beat_time: now,
            draining: false,
            goodbye: false,
            paused_until: None,
            last_given: None,
            trouble: None,
            avoided_until: None,
            leased: HashSet::new(),
            release: HashSet::new(),
            stop: HashSet::new(),
            lost: CancellationToken::new(),
            untold: true,
        };
        if let Some(known) = known {
            if let Some(session) = known.session {
                session.end.cancel();
            }
            // A reconnect is no new life: what it was trusted with stays.
            agent.leased = known.leased;
            agent.release = known.release;
            agent.draining = known.draining;
            agent.reachable = known.reachable;
            agent.trouble = known.trouble;
            agent.avoided_until = known.avoided_until;
            if !known.lost.is_cancelled() {
                agent.lost = known.lost;
                // Nor is it a sign of life: a greeting may be all that comes through.
                agent.last_beat = known.last_beat;
                agent.last_beat_time = known.last_beat_time;
            }
        }
        connected.insert(instance_id, agent);
        drop(connected);
        self.shared.changed.notify_one();
        session_epoch
    }

    /// The session of an agent is over, unless a newer one has begun.
    fn disconnect(&self, instance_id: InstanceId, session_epoch: i64, goodbye: bool) {
        let mut connected = self.lock();
        let Some(agent) = connected.get_mut(&instance_id) else {
            return;
        };
        if agent.session_epoch != session_epoch {
            return;
        }
        agent.session = None;
        agent.goodbye |= goodbye;
        agent.untold = true;
        if goodbye {
            agent.lost.cancel();
        }
        drop(connected);
        self.shared.changed.notify_one();
    }

    /// Takes in a beat; answers what to tell the agent.
    fn beat(
        &self,
        instance_id: InstanceId,
        beat: AgentBeat,
        now: SystemTime,
    ) -> Option<wire::BeatAck> {
        let mut connected = self.lock();
        let agent = connected.get_mut(&instance_id)?;
        agent.last_beat = Instant::now();
        agent.last_beat_time = now;
        agent.untold |= !agent.heard;
        agent.heard = true;
        agent.draining |= beat.draining;
        agent.clock_offset = beat
            .time
            .and_then(wire_time::system_time)
            .map(|time| condition::ahead(time, now));
        let ack = wire::BeatAck {
            sequence: beat.sequence,
            server_time: Some(wire_time::timestamp(now)),
            reachable: agent.reachable,
            stop_task_ids: agent.stop.drain().collect(),
            release_task_ids: agent.release.drain().collect(),
        };
        agent.beat = beat;
        let agent_type = agent.agent_type;
        let untold = agent.untold;
        drop(connected);
        if untold {
            self.shared.changed.notify_one();
        }
        self.shared.freed[slot(agent_type)].notify_one();
        Some(ack)
    }

    /// Whether the agent can be called, as a call-back just found out.
    fn called_back(&self, instance_id: InstanceId, outcome: Result<SystemTime, String>) {
        let mut connected = self.lock();
        let Some(agent) = connected.get_mut(&instance_id) else {
            return;
        };
        let changed = agent.reachable != outcome.is_ok() || agent.last_callback.is_none();
        agent.untold |= changed;
        agent.reachable = outcome.is_ok();
        match outcome {
            Ok(time) => {
                agent.last_callback = Some(time);
                agent.callback_error.clear();
            }
            Err(error) => agent.callback_error = error,
        }
        let agent_type = agent.agent_type;
        drop(connected);
        self.shared.freed[slot(agent_type)].notify_one();
        if changed {
            self.shared.changed.notify_one();
        }
    }

    /// A call to the agent failed: no new work until a call-back succeeds.
    pub fn unreachable(&self, instance_id: InstanceId, error: &str) {
        self.called_back(instance_id, Err(error.to_owned()));
    }

    /// The agent refused work: none for a moment, or none at all when it drains.
    pub fn refused(&self, instance_id: InstanceId, drains: bool) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            agent.paused_until = Some(Instant::now() + REFUSED_PAUSE);
            agent.draining |= drains;
        }
    }

    /// The result of a task is safe: the agent need not keep it.
    pub fn release_result(&self, instance_id: InstanceId, task_id: String) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            agent.release.insert(task_id);
        }
    }

    /// The agent runs tasks that it should not.
    pub fn stop_tasks(&self, instance_id: InstanceId, task_ids: Vec<String>) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            agent.stop.extend(task_ids);
        }
    }

    /// The agent has the right to a task again: what was to stop it, or to let its result go, does
    /// so no more.
    pub fn keep_task(&self, instance_id: InstanceId, task_id: &str) {
        if let Some(agent) = self.lock().get_mut(&instance_id) {
            agent.stop.remove(task_id);
            agent.release.remove(task_id);
        }
    }

    /// Gives the agent no new work. False: it is not known.
    pub fn drain(&self, instance_id: InstanceId) -> bool {
        let mut connected = self.lock();
        let Some(agent) = connected.get_mut(&instance_id) else {
            return false;
        };
        agent.untold |= !agent.draining;
        agent.draining = true;
        drop(connected);
        self.shared.changed.notify_one();
        true
    }

    /// Nobody is blamed for not having beaten until now: this replica was of no use to anybody.
    pub fn excuse(&self) {
        let now = Instant::now();
        for agent in self.lock().values_mut() {
            agent.last_beat = now;
        }
    }

    /// Declares agents lost that were not heard of for too long, and forgets old ones.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|instance_id, agent| {
            let silent = now.duration_since(agent.last_beat);
            if silent > LOST_AFTER && !agent.lost.is_cancelled() {
                tracing::warn!(agentic.agent.instance_id = %instance_id, ?silent, "agent lost");
                agent.lost.cancel();
                if let Some(session) = agent.session.take() {
                    session.end.cancel();
                }
            }
            silent < REMEMBERED
        });
    }

    /// Tells all agents to connect elsewhere.
    pub fn reconnect_all(&self, within: Duration) {
        for agent in self.lock().values() {
            let Some(session) = &agent.session else {
                continue;
            };
            let payload = wire::connect_response::Payload::Reconnect(wire::Reconnect {
                within: Some(wire_time::wire_duration(within)),
            });
            // A full queue belongs to a dead connection: it will find out by itself.
            let _ = session.answers.try_send(Ok(ConnectResponse {
                payload: Some(payload),
            }));
        }
    }

    /// All agents of this replica, as clients see them, and whether their session is open.
    pub fn list(&self, replica_id: &str) -> Vec<(InstanceId, bool, wire::Agent)> {
        let now = Instant::now();
        self.lock()
            .iter()
            .map(|(id, agent)| {
                (
                    *id,
                    agent.session.is_some(),
                    agent.to_wire(*id, replica_id, now),
                )
            })
            .collect()
    }

    /// Resolves when others should know more than they do.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Somebody came who knows nothing yet.
    pub fn tell_all(&self) {
        for agent in self.lock().values_mut() {
            agent.untold = true;
        }
        self.shared.changed.notify_one();
    }

    /// What others should know: of all agents, or of those that changed.
    pub fn rows(&self, all: bool, replica_id: &str) -> Vec<AgentRow> {
        let now = Instant::now();
        let mut connected = self.lock();
        let told = connected
            .iter_mut()
            .filter(|(_, agent)| all || agent.untold);
        told.map(|(id, agent)| {
            agent.untold = false;
            AgentRow {
                instance_id: *id,
                connected: agent.session.is_some(),
                draining: agent.draining,
                connect_time: agent.since,
                agent: agent.to_wire(*id, replica_id, now).encode_to_vec(),
            }
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Connected>> {
        self.shared
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn is_eligible(&self, now: Instant) -> bool {
        self.state(now) == AgentState::Ready && self.paused_until.is_none_or(|until| until <= now)
    }

    fn slot_count(&self) -> usize {
        usize::try_from(self.hello.slot_count).unwrap_or(0)
    }

    fn free_slot_count(&self) -> usize {
        self.slot_count().saturating_sub(self.leased.len())
    }
}

fn slot(agent_type: AgentType) -> usize {
    usize::try_from(agent_type as i32)
        .unwrap_or(0)
        .min(AGENT_TYPES.len())
}
