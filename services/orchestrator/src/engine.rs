//! Carries the plan out: one guarded commit per step, then its effects. Owns the workflows that are
//! driven here; the database owns the truth.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use contracts::agent::AGENT_TYPES;
use contracts::id::WorkflowId;
use contracts::lease::Signer;
use contracts::task::AgentType;

use crate::agents::Agents;
use crate::clock::Clock;
use crate::events::Events;
use crate::hints::{Bus, Hints};
use crate::logs::Logs;
use crate::metrics;
use crate::store::{Store, StoreError, workflows};

mod arbiter;
pub mod claim;
mod committer;
mod context;
mod drive;
mod error;
mod keys;
pub mod live;
mod mesh;
mod quota;
mod record;
pub mod shown_logs;
pub mod step;
pub mod submit;
pub mod sweep;
mod touch;
pub mod workflow;

use committer::{Committed, Committer};
pub use error::{EngineError, store};
use quota::Quota;
use shown_logs::ShownLogs;
use step::{Effect, Input, Setting, Stepped};
use touch::Touch;
use workflow::Workflow;

// A workflow changes hands seldom; losing this often in a row means something is wrong.
const RACES: u32 = 16;

// What became of a step.
enum Outcome {
    Committed(Arc<Workflow>),
    // The race was lost, and what was held is gone.
    Lost,
    // A task that it leases has to wait for its concurrency key.
    Blocked,
    // As many workflows of its namespace live as may: only at creation.
    Full,
}
// A workflow, when it is at hand.
type Cell = Arc<tokio::sync::Mutex<Option<Arc<Workflow>>>>;

/// A cheap handle on the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    committer: Committer,
    agents: Agents,
    signer: Arc<Signer>,
    events: Events,
    hints: Hints,
    bus: Bus,
    logs: Logs,
    shown_logs: ShownLogs,
    clock: Arc<Clock>,
    touch: Touch,
    quota: Quota,
    replica_id: String,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    // Workflows that are at hand; the lock serialises their steps.
    workflows: Mutex<HashMap<WorkflowId, Cell>>,
    // Attempts that are driven here.
    drives: Mutex<HashMap<(WorkflowId, String), drive::Handle>>,
    // One per agent type: something waits.
    waiting: [tokio::sync::Notify; AGENT_TYPES.len() + 1],
    // The sweep is not to wait for its time.
    look_now: tokio::sync::Notify,
}

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// Database.
    pub store: Store,
    /// What carries hints between replicas.
    pub bus: Bus,
    /// Agents that are connected here.
    pub agents: Agents,
    /// What leases are signed with.
    pub signer: Arc<Signer>,
    /// Live events.
    pub events: Events,
    /// Live logs.
    pub logs: Logs,
    /// The database's clock.
    pub clock: Arc<Clock>,
    /// How many workflows of a namespace may live at once.
    pub live_workflows: u32,
    /// Who we are.
    pub replica_id: String,
    /// Where tasks live.
    pub tracker: TaskTracker,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

impl Engine {
    /// An engine whose committer runs already; loops are started by [`Engine::start`].
    pub fn new(parts: Parts) -> Self {
        let (committer, run) = Committer::new(parts.store.clone(), parts.shutdown.clone());
        parts.tracker.spawn(run);
        Self {
            shared: Arc::new(Shared {
                store: parts.store,
                committer,
                agents: parts.agents,
                signer: parts.signer,
                events: parts.events,
                hints: Hints::default(),
                bus: parts.bus,
                logs: parts.logs,
                shown_logs: ShownLogs::default(),
                clock: parts.clock,
                touch: Touch::default(),
                quota: Quota::new(parts.live_workflows),
                replica_id: parts.replica_id,
                tracker: parts.tracker,
                shutdown: parts.shutdown,
                workflows: Mutex::default(),
                drives: Mutex::default(),
                waiting: Default::default(),
                look_now: tokio::sync::Notify::new(),
            }),
        }
    }

    /// Gives up what agents of an earlier life of this very process ran: they died with it.
    pub async fn lose_all(&self) -> Result<(), EngineError> {
        sweep::lose_all(self).await
    }

    /// Starts the loops: claiming for each agent type, sweeping, and keeping in touch with the other
    /// replicas.
    pub fn start(&self) {
        for agent_type in AGENT_TYPES {
            self.shared
                .tracker
                .spawn(claim::run(self.clone(), agent_type));
        }
        let tracker = &self.shared.tracker;
        tracker.spawn(sweep::run(self.clone()));
        tracker.spawn(mesh::hear(self.clone()));
        tracker.spawn(mesh::follow(self.clone()));
        tracker.spawn(mesh::write_agents(self.clone()));
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Agents that are connected here.
    pub fn agents(&self) -> &Agents {
        &self.shared.agents
    }

    /// Live events.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// Cancelled when the process stops.
    pub fn stopping(&self) -> CancellationToken {
        self.shared.shutdown.clone()
    }

    /// Resolves when the database has been away for so long that others do the work, if anybody
    /// does: who watches should watch there.
    pub async fn out_of_touch(&self) {
        self.shared.touch.lost().await;
    }

    /// Whether no other replica is known.
    pub fn is_alone(&self) -> bool {
        self.shared.hints.is_alone()
    }

    /// Live logs.
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }

    /// The database's clock.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.shared.clock
    }

    /// A workflow as it is now, whoever changed it last.
    pub async fn get(&self, namespace: &str, id: WorkflowId) -> Result<Arc<Workflow>, EngineError> {
        if let Some(cell) = self.known_cell(id) {
            let mut held = cell.lock().await;
            if let Some(workflow) = &*held {
                let client = self.shared.store.client().await?;
                let version = workflows::version(&client, namespace, id).await?;
                if version == Some(workflow.version) {
                    return Ok(workflow.clone());
                }
                *held = None;
            }
        }
        let client = self.shared.store.client().await?;
        let row = workflows::load(&client, namespace, id).await?;
        let row = row.ok_or(EngineError::NotFound(id))?;
        Ok(Arc::new(Workflow::read(id, row)?))
    }

    /// Makes a step, however often somebody else is faster.
    ///
    /// `decide` looks at the workflow and says what happens to it.
    pub async fn apply<E: From<EngineError>>(
        &self,
        namespace: &str,
        id: WorkflowId,
        decide: impl Fn(&Workflow) -> Result<Input, E>,
    ) -> Result<Arc<Workflow>, E> {
        self.advance(namespace, id, |engine, workflow, keyed_at_once| {
            let input = decide(workflow)?;
            let stepped = engine.with_setting(keyed_at_once, |setting| {
                step::step(workflow, input, setting)
            });
            stepped.map_err(|source| {
                EngineError::Rejected {
                    workflow_id: id,
                    source,
                }
                .into()
            })
        })
        .await
    }

    async fn advance<E: From<EngineError>>(
        &self,
        namespace: &str,
        id: WorkflowId,
        make: impl Fn(&Self, &Workflow, bool) -> Result<Stepped, E>,
    ) -> Result<Arc<Workflow>, E> {
        let cell = self.cell(id);
        let mut held = cell.lock().await;
        let mut keyed_at_once = true;
        for _ in 0..RACES {
            let at_hand = held.is_some();
            let workflow = self.load(namespace, id, &mut held).await?;
            let stepped = match make(self, workflow, keyed_at_once) {
                Ok(stepped) => stepped,
                // What is at hand may be older than what others wrote: nothing is refused by it.
                Err(_) if at_hand => {
                    *held = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let requested = stepped.transition.request.is_some();
            match self
                .commit(stepped, &mut held)
                .await
                .map_err(EngineError::from)?
            {
                Outcome::Committed(workflow) => return Ok(workflow),
                Outcome::Blocked => keyed_at_once = false,
                Outcome::Lost if requested => {
                    // Either the workflow moved on, or the request was made before.
                    return Err(EngineError::Repeated.into());
                }
                Outcome::Lost | Outcome::Full => {}
            }
        }
        Err(EngineError::Races(id).into())
    }

    async fn commit(
        &self,
        stepped: Stepped,
        held: &mut Option<Arc<Workflow>>,
    ) -> Result<Outcome, StoreError> {
        let Stepped {
            workflow,
            transition,
            events,
            effects,
        } = stepped;
        let asked = Instant::now();
        let freed = match self.shared.committer.commit(transition).await {
            Committed::Done { freed } => freed,
            // Nothing happened: what is held is still so.
            Committed::Blocked => return Ok(Outcome::Blocked),
            Committed::Full => return Ok(Outcome::Full),
            Committed::Lost => {
                *held = None;
                return Ok(Outcome::Lost);
            }
            Committed::Failed(error) => {
                *held = None;
                return Err(error);
            }
        };
        let id = workflow.id();
        let workflow = Arc::new(workflow);
        *held = Some(workflow.clone());
        metrics::committed(events.iter().map(AsRef::as_ref));
        let namespace = &workflow.submission.namespace;
        self.shared.events.publish(namespace, id, &events);
        self.shared.hints.changed(id, workflow.last_sequence);
        for effect in effects {
            if freed || !matches!(effect, Effect::Freed { .. }) {
                self.carry_out(&workflow, effect, asked);
            }
        }
        Ok(Outcome::Committed(workflow))
    }

    fn carry_out(&self, workflow: &Workflow, effect: Effect, asked: Instant) {
        match effect {
            Effect::Drive {
                stage,
                epoch,
                reservation,
            } => {
                drive::start(
                    self,
                    workflow,
                    &stage,
                    epoch,
                    reservation,
                    drive::Begin::New { leased: asked },
                );
            }
            Effect::Stop { stage, epoch } => match self.drives().get(&(workflow.id(), stage)) {
                Some(drive) if drive.epoch == epoch => drive.stop.cancel(),
                Some(_) | None => self.shared.hints.stop(workflow.id()),
            },
            Effect::Freed { concurrency_key } => {
                self.freed(&workflow.submission.namespace, concurrency_key);
            }
            Effect::Waits { agent_type, at } => self.wake_at(agent_type, at),
            Effect::Ended => {
                self.forget(workflow.id());
                self.shared.logs.end(workflow.id());
            }
        }
    }

    fn wake_at(&self, agent_type: AgentType, at: std::time::SystemTime) {
        let delay = at
            .duration_since(self.shared.clock.now())
            .unwrap_or(Duration::ZERO);
        if delay.is_zero() {
            self.waits(agent_type);
            return;
        }
        let engine = self.clone();
        self.shared.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = engine.shared.shutdown.cancelled() => {}
                () = tokio::time::sleep(delay) => engine.waits(agent_type),
            }
        });
    }

    // A task waits: for a slot here, or, when there is none, for one elsewhere.
    fn waits(&self, agent_type: AgentType) {
        let (_, free) = self.agents().slot_counts(agent_type);
        if free == 0 {
            self.shared.hints.waiting(agent_type);
        }
        self.waiting(agent_type).notify_one();
    }

    fn waiting(&self, agent_type: AgentType) -> &tokio::sync::Notify {
        let index = usize::try_from(agent_type as i32)
            .unwrap_or(0)
            .min(AGENT_TYPES.len());
        &self.shared.waiting[index]
    }

    fn with_setting<T>(&self, keyed_at_once: bool, make: impl FnOnce(&Setting<'_>) -> T) -> T {
        let draining = self.shared.shutdown.is_cancelled();
        let agents = &self.shared.agents;
        let slots = |agent_type| {
            if draining {
                None
            } else {
                agents.reserve(agent_type)
            }
        };
        make(&Setting {
            now: self.shared.clock.now(),
            replica_id: &self.shared.replica_id,
            slots: &slots,
            keyed_at_once,
        })
    }

    async fn load<'a>(
        &self,
        namespace: &str,
        id: WorkflowId,
        held: &'a mut Option<Arc<Workflow>>,
    ) -> Result<&'a Workflow, EngineError> {
        if held
            .as_ref()
            .is_some_and(|workflow| workflow.submission.namespace != namespace)
        {
            return Err(EngineError::NotFound(id));
        }
        match held {
            Some(workflow) => Ok(workflow),
            none => {
                let client = self.shared.store.client().await?;
                let row = workflows::load(&client, namespace, id).await?;
                let Some(row) = row else {
                    self.forget(id);
                    return Err(EngineError::NotFound(id));
                };
                Ok(none.insert(Arc::new(Workflow::read(id, row)?)))
            }
        }
    }

    fn cell(&self, id: WorkflowId) -> Cell {
        self.workflows().entry(id).or_default().clone()
    }

    fn at_hand(&self) -> Vec<WorkflowId> {
        self.workflows().keys().copied().collect()
    }

    fn known_cell(&self, id: WorkflowId) -> Option<Cell> {
        self.workflows().get(&id).cloned()
    }

    fn forget(&self, id: WorkflowId) {
        self.workflows().remove(&id);
    }

    fn workflows(&self) -> MutexGuard<'_, HashMap<WorkflowId, Cell>> {
        self.shared
            .workflows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn drives(&self) -> MutexGuard<'_, HashMap<(WorkflowId, String), drive::Handle>> {
        self.shared
            .drives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
