//! Hints between replicas: what one committed, the others hear at once. A hint may be late, doubled
//! or lost; whoever acts on it looks into the database, and looks by itself once a second. Knows
//! nothing of what is done about a hint.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use contracts::client::Retry;
use contracts::id::{InstanceId, WorkflowId};
use contracts::task::AgentType;

use line::{Line, LineError};

mod line;
mod payload;

pub use line::Bus;

/// What is said in this time goes out together.
const TOGETHER: Duration = Duration::from_millis(3);
/// A connection that is silent for so long is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// A connection that takes longer is dead.
const PATIENCE: Duration = Duration::from_secs(5);
const RECONNECT: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(20),
    longest: Duration::from_secs(2),
};

/// What another replica says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A workflow has events up to a sequence.
    Changed {
        /// Workflow.
        workflow_id: WorkflowId,
        /// Sequence.
        sequence: i64,
        /// An attempt of it that runs somewhere is to stop.
        stop: bool,
    },
    /// A task of this type waits, and the replica that says so has no room for it.
    Waiting(AgentType),
    /// An agent is to be drained.
    Drain(InstanceId),
    /// Somebody reads the logs of a workflow, and does not have what its attempts say elsewhere.
    LogsWanted {
        /// Workflow.
        workflow_id: WorkflowId,
        /// Began just now: what was said before is wanted, too.
        from_start: bool,
    },
    /// Lines of a workflow were written for who reads them elsewhere.
    LogsWritten(WorkflowId),
    /// A replica came: there is somebody to tell.
    Hello,
    /// Hints may have been missed.
    Missed,
}

/// Says hints and hears them.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    something: Notify,
    // Nobody else lives: nobody needs a hint.
    alone: AtomicBool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pending {
    changed: HashMap<Uuid, (i64, bool)>,
    waiting: HashSet<i32>,
    drains: HashSet<Uuid>,
    logs_wanted: HashMap<Uuid, bool>,
    logs_written: HashSet<Uuid>,
    hello: bool,
}

impl Hints {
    /// How many other replicas live, as the database says.
    pub fn others(&self, count: i64) {
        self.shared.alone.store(count == 0, Ordering::Relaxed);
    }

    /// Whether no other replica is known.
    pub fn is_alone(&self) -> bool {
        self.shared.alone.load(Ordering::Relaxed)
    }

    /// Events of a workflow up to a sequence were committed.
    pub fn changed(&self, workflow_id: WorkflowId, sequence: i64) {
        self.say(|pending| {
            let (newest, _) = pending.changed.entry(workflow_id.0).or_default();
            *newest = (*newest).max(sequence);
        });
    }

    /// An attempt of a workflow that another replica drives is to stop.
    pub fn stop(&self, workflow_id: WorkflowId) {
        self.say(|pending| pending.changed.entry(workflow_id.0).or_default().1 = true);
    }

    /// A task of this type waits, and there is no room here.
    pub fn waiting(&self, agent_type: AgentType) {
        self.say(|pending| {
            pending.waiting.insert(agent_type.into());
        });
    }

    /// An agent that is connected elsewhere is to be drained.
    pub fn drain(&self, instance_id: InstanceId) {
        self.say(|pending| {
            pending.drains.insert(instance_id.0);
        });
    }

    /// Somebody reads the logs of a workflow here.
    pub fn logs_wanted(&self, workflow_id: WorkflowId, from_start: bool) {
        self.say(|pending| {
            *pending.logs_wanted.entry(workflow_id.0).or_default() |= from_start;
        });
    }

    /// Lines of a workflow were written for who reads them elsewhere.
    pub fn logs_written(&self, workflow_id: WorkflowId) {
        self.say(|pending| {
            pending.logs_written.insert(workflow_id.0);
        });
    }

    fn say(&self, what: impl FnOnce(&mut Pending)) {
        if self.is_alone() {
            return;
        }
        what(&mut self.pending());
        self.shared.something.notify_one();
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.shared
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says and hears until the shutdown, over one connection that is opened again when it breaks.
    pub async fn run(&self, bus: Bus, shutdown: CancellationToken, heard: impl Fn(Hint)) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                ended = self.session(&bus, &heard) => ended,
            };
            failures = if begun.elapsed() > TRY_EVERY {
                1
            } else {
                failures + 1
            };
            let pause = RECONNECT.delay(failures);
            tracing::warn!(error = ?ended.err(), ?pause, "hints are cut off; the poll goes on without them");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn session(&self, bus: &Bus, heard: &impl Fn(Hint)) -> Result<(), LineError> {
        let mut line = tokio::time::timeout(PATIENCE, Line::open(bus))
            .await
            .map_err(|_| LineError::Late(PATIENCE))??;
        let listen = |text: &str| {
            for hint in payload::read(text) {
                if hint == Hint::Hello {
                    self.others(1);
                }
                heard(hint);
            }
        };
        // What was said while nobody listened.
        heard(Hint::Missed);
        self.pending().hello = true;
        loop {
            let payloads = payload::write(&std::mem::take(&mut *self.pending()));
            tokio::time::timeout(PATIENCE, line.tell(&payloads, listen))
                .await
                .map_err(|_| LineError::Late(PATIENCE))??;
            line.until(tokio::time::sleep(TOGETHER), listen).await?;
            let something = tokio::time::timeout(TRY_EVERY, self.shared.something.notified());
            // Either way there is something to send, or the connection is tried.
            let _ = line.until(something, listen).await?;
        }
    }
}
