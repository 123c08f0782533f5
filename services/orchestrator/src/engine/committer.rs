//! Group commit: whatever is asked while one commit is under way rides the next one together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::store::commit::{self, Transition};
use crate::store::{Store, StoreError};

// More than ever wait at once: who asks holds a workflow's lock, or an RPC.
const QUEUE: usize = 1024;
// Larger batches only make everybody wait for the slowest row.
const BATCH: usize = 128;
// A commit costs the database much the same for one as for many: while many come, each waits for others.
const TOGETHER: Duration = Duration::from_millis(1);
// How often a commit is tried when the database is away for a moment.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
// One that took longer to fail would fail as slowly again, and others wait behind it.
const TRIED_WITHIN: Duration = Duration::from_secs(2);
// Longest time for a new workflow that is counted, with its wait for those before it: however many wait for a database
// that is away, each is refused in bounded time.
const COUNTED_WITHIN: Duration = Duration::from_secs(8);

/// How a transition ended.
#[derive(Debug)]
pub enum Committed {
    /// It is durable.
    Done {
        /// Tasks wait for a concurrency key that it gave up.
        freed: bool,
    },
    /// A task that it leases has to wait for its concurrency key.
    Blocked,
    /// As many workflows of its namespace live as may.
    Full,
    /// Somebody changed the workflow first, or made the request before: read again.
    Lost,
    /// The database did not answer: it may or may not be durable.
    Failed(StoreError),
}

struct Asked {
    transition: Transition,
    answer: oneshot::Sender<Committed>,
}

/// A handle on the committer.
#[derive(Debug, Clone)]
pub struct Committer {
    queue: mpsc::Sender<Asked>,
    store: Store,
    // Whoever is counted waits for others who are: here, and not on one connection each.
    counted: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Committer {
    /// The handle, and the loop behind it.
    pub fn new(
        store: Store,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, asked) = mpsc::channel(QUEUE);
        let committer = Self {
            queue,
            store: store.clone(),
            counted: Arc::default(),
        };
        (committer, run(store, asked, shutdown))
    }

    /// Commits, and answers when it is durable.
    pub async fn commit(&self, transition: Transition) -> Committed {
        if transition.quota.is_some() {
            // New, so that no other transition can be of the same workflow.
            let counted = async {
                let _turn = self.counted.lock().await;
                commit_rare(&self.store, &transition).await
            };
            return tokio::time::timeout(COUNTED_WITHIN, counted)
                .await
                .unwrap_or(Committed::Failed(StoreError::Silent(COUNTED_WITHIN)));
        }
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Asked { transition, answer }).await.is_err() {
            return Committed::Failed(StoreError::Stopping);
        }
        answered
            .await
            .unwrap_or(Committed::Failed(StoreError::Stopping))
    }
}

async fn run(store: Store, mut asked: mpsc::Receiver<Asked>, shutdown: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    // As many as last time are expected; one alone never waits.
    let mut expected = 1;
    loop {
        let count = tokio::select! {
            biased;
            count = asked.recv_many(&mut batch, BATCH) => count,
            // What was asked before is still done: the branch above comes first.
            () = shutdown.cancelled() => 0,
        };
        if count == 0 {
            return;
        }
        gather(&mut asked, &mut batch, expected).await;
        expected = batch.len();
        let (rare, common): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .partition(|asked| asked.transition.is_rare());
        if !common.is_empty() {
            let (count, started) = (common.len(), Instant::now());
            commit_common(&store, common).await;
            metrics::commit(count, started.elapsed());
        }
        for asked in rare {
            let committed = commit_rare(&store, &asked.transition).await;
            // Whoever asked may be gone; the commit stands.
            let _ = asked.answer.send(committed);
        }
    }
}

async fn gather(asked: &mut mpsc::Receiver<Asked>, batch: &mut Vec<Asked>, expected: usize) {
    let more = async {
        while batch.len() < expected {
            let room = BATCH - batch.len();
            if asked.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    // Whoever did not come in time rides the next one.
    let _ = tokio::time::timeout(TOGETHER, more).await;
}

async fn commit_common(store: &Store, mut asked: Vec<Asked>) {
    // Locks are taken in one order by everybody.
    asked.sort_by_key(|asked| asked.transition.workflow.workflow_id);
    let transitions: Vec<_> = asked.iter().map(|asked| &asked.transition).collect();
    match together(store, &transitions).await {
        Ok(done) => {
            for asked in asked {
                let _ = asked.answer.send(of(&done, &asked.transition));
            }
        }
        Err(error) if asked.len() == 1 && error.is_held_key() => {
            for asked in asked {
                let _ = asked.answer.send(Committed::Blocked);
            }
        }
        Err(error) if asked.len() == 1 || error.is_transient() => {
            tracing::warn!(error = ?error, count = asked.len(), "transitions were not committed");
            let reason = error.to_string();
            for asked in asked {
                let failed = StoreError::Commit(reason.clone());
                let _ = asked.answer.send(Committed::Failed(failed));
            }
        }
        Err(error) => {
            // One bad member must not fail the others: each goes alone.
            tracing::warn!(error = ?error, "a batch was refused; its members go alone");
            for asked in asked {
                let alone = together(store, &[&asked.transition]).await;
                let _ = asked.answer.send(match alone {
                    Ok(done) => of(&done, &asked.transition),
                    Err(error) if error.is_held_key() => Committed::Blocked,
                    Err(error) => Committed::Failed(error),
                });
            }
        }
    }
}

fn of(committed: &commit::Committed, transition: &Transition) -> Committed {
    let id = &transition.workflow.workflow_id;
    if committed.done.contains(id) {
        let freed = committed.freed.contains(id);
        Committed::Done { freed }
    } else if committed.blocked.contains(id) {
        Committed::Blocked
    } else if committed.full.contains(id) {
        Committed::Full
    } else {
        Committed::Lost
    }
}

async fn together(
    store: &Store,
    transitions: &[&Transition],
) -> Result<commit::Committed, StoreError> {
    let (begun, mut attempt) = (Instant::now(), 1);
    loop {
        match try_together(store, transitions, attempt > 1).await {
            Err(error) if is_tried_again(&error, begun, &mut attempt).await => {}
            done => return done,
        }
    }
}

async fn try_together(
    store: &Store,
    transitions: &[&Transition],
    again: bool,
) -> Result<commit::Committed, StoreError> {
    let client = store.committer().await?;
    let mut committed = commit::commit(&client, transitions).await?;
    if again {
        commit::recognise(&client, transitions, &mut committed).await?;
    }
    Ok(committed)
}

async fn commit_rare(store: &Store, transition: &Transition) -> Committed {
    let (begun, mut attempt) = (Instant::now(), 1);
    loop {
        match try_rare(store, transition, attempt > 1).await {
            Ok(done) => return of(&done, transition),
            Err(error) if error.is_held_key() => return Committed::Blocked,
            Err(error) if is_tried_again(&error, begun, &mut attempt).await => {}
            Err(error) => return Committed::Failed(error),
        }
    }
}

async fn try_rare(
    store: &Store,
    transition: &Transition,
    again: bool,
) -> Result<commit::Committed, StoreError> {
    let mut client = store.client().await?;
    let mut committed = commit::commit_rare(&mut client, transition).await?;
    if again {
        commit::recognise(&client, &[transition], &mut committed).await?;
    }
    Ok(committed)
}

// Safe to repeat: a commit that did happen makes the next try lose its race, and is recognised.
async fn is_tried_again(error: &StoreError, begun: Instant, attempt: &mut u32) -> bool {
    if !error.is_transient() || *attempt >= ATTEMPTS || begun.elapsed() > TRIED_WITHIN {
        return false;
    }
    tokio::time::sleep(PAUSE * *attempt).await;
    *attempt += 1;
    true
}
