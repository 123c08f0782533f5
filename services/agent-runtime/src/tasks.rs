//! The tasks of one agent: starts them, lets callers attach to their streams, takes them over,
//! cancels them, keeps their results. Makes the promises of contract.md ("What the stream
//! promises") true. Knows nothing of what the work is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::RunningTask;
use contracts::task::{Accepted, TaskContext, task_event};
use contracts::{attributes, wire_time};

use crate::agent::{Agent, Assignment};
use crate::artifacts::ArtifactSink;
use crate::journal::Journal;
use crate::log_artifact;
use crate::reporter::Reporter;

mod entry;
#[cfg(test)]
mod promises;
mod request;
pub(crate) mod stream;
mod table;

use entry::{Ending, Entry};
use request::{check, is_new, stale, unknown};
use table::Table;

/// Limit of work whose caller names none.
pub const DEFAULT_DEADLINE: Duration = Duration::from_hours(1);
/// How long a leased task runs on after its stream broke.
pub const ORPHAN_GRACE: Duration = Duration::from_mins(1);
/// How long a result is kept when nobody releases it.
pub const RESULT_KEPT: Duration = Duration::from_mins(10);
/// A message at least this often.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long cancelled work may take to stop by itself before it is dropped.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
// When a full agent is worth asking again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Settings of a task table. The defaults are the contract's.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// Tasks at once.
    pub slot_count: usize,
    /// Folder for the attempts' own folders.
    pub folder: PathBuf,
    /// How long a leased task runs on without a reader.
    pub orphan_grace: Duration,
    /// How long results are kept.
    pub result_kept: Duration,
}

/// All tasks of one agent.
pub struct Tasks<A: Agent> {
    agent: Arc<A>,
    instance_id: String,
    settings: TaskSettings,
    sink: ArtifactSink,
    table: Arc<Mutex<Table<A::Result>>>,
    tracker: TaskTracker,
    draining: AtomicBool,
    // Why no work can be done here. Empty: it can.
    unfit: Mutex<String>,
    // The orchestrator should hear of something before the next beat is due.
    news: Notify,
    // Fires at shutdown: every task is cancelled.
    shutdown: CancellationToken,
}

impl<A: Agent> Tasks<A> {
    /// An empty table.
    pub fn new(
        agent: Arc<A>,
        instance_id: String,
        settings: TaskSettings,
        sink: ArtifactSink,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            agent,
            instance_id,
            settings,
            sink,
            table: Arc::default(),
            tracker,
            draining: AtomicBool::new(false),
            unfit: Mutex::default(),
            news: Notify::new(),
            shutdown,
        }
    }

    /// Takes no new work from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Says why no work can be done here; empty: it can.
    pub(crate) fn set_unfit(&self, reason: String) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if *unfit != reason {
            *unfit = reason;
            self.news.notify_one();
        }
    }

    /// Why no work can be done here; empty: it can.
    pub(crate) fn unfit(&self) -> String {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        unfit.clone()
    }

    /// Resolves when the next beat should not wait for its time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether it takes no new work.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Slots that are free.
    pub fn free_slot_count(&self) -> usize {
        self.settings
            .slot_count
            .saturating_sub(self.lock().running_count())
    }

    /// What runs, or whose result is kept.
    pub fn running(&self) -> Vec<RunningTask> {
        self.lock()
            .entries()
            .map(|entry| RunningTask {
                task_id: entry.task_id.clone(),
                lease_epoch: entry.epoch(),
                last_sequence: entry.reporter.last_sequence(),
                finished: entry.is_finished(),
            })
            .collect()
    }

    /// Resolves when nothing runs.
    pub async fn idle(&self) {
        loop {
            let next = self
                .lock()
                .entries()
                .find(|entry| !entry.is_finished())
                .cloned();
            let Some(entry) = next else { return };
            entry.finished().await;
        }
    }

    /// Lets go of kept results.
    pub fn release(&self, task_ids: &[String]) {
        let mut table = self.lock();
        for task_id in task_ids {
            if table.get(task_id).is_some_and(|entry| entry.is_finished()) {
                table.forget(task_id);
            }
        }
    }

    /// Stops tasks that nobody wants any more. Their results are of no use: none is kept.
    pub fn stop(&self, task_ids: &[String]) {
        for task_id in task_ids {
            if let Some(entry) = self.lock().get(task_id) {
                entry.cancel.cancel();
            }
        }
        self.release(task_ids);
    }

    /// Starts a task, or attaches to it. The returned stream begins with `Accepted`.
    pub(crate) async fn execute(
        &self,
        mut context: TaskContext,
        task: A::Task,
    ) -> Result<stream::Attachment<A::Result>, Error> {
        let deadline = check(&context, &self.instance_id)?;
        if context.task_id.is_empty() {
            context.task_id = Uuid::now_v7().to_string();
        }
        loop {
            let superseded = {
                let mut table = self.lock();
                match table.get(&context.task_id).cloned() {
                    Some(entry) => {
                        if context.lease_epoch < entry.epoch() {
                            return Err(stale(&entry.task_id, context.lease_epoch, entry.epoch()));
                        }
                        if context.attempt <= entry.attempt || context.reattach_only {
                            return Ok(
                                entry.attach(context.lease_epoch, context.resume_after_sequence)
                            );
                        }
                        // A new attempt replaces the old one, which must be over first.
                        if entry.is_finished() {
                            return self.begin(&mut table, context, task, deadline);
                        }
                        entry
                    }
                    None => {
                        is_new(&mut table, &context)?;
                        return self.begin(&mut table, context, task, deadline);
                    }
                }
            };
            superseded.cancel.cancel();
            superseded.finished().await;
        }
    }

    fn begin(
        &self,
        table: &mut Table<A::Result>,
        context: TaskContext,
        task: A::Task,
        deadline: Instant,
    ) -> Result<stream::Attachment<A::Result>, Error> {
        let entry = self.admit(table, context, deadline)?;
        self.spawn(&entry, task, deadline);
        Ok(entry.attach(entry.epoch(), 0))
    }

    fn admit(
        &self,
        table: &mut Table<A::Result>,
        mut context: TaskContext,
        deadline: Instant,
    ) -> Result<Arc<Entry<A::Result>>, Error> {
        if self.is_draining() || self.shutdown.is_cancelled() {
            return Err(Error::new(
                ErrorReason::Draining,
                "this agent takes no new work",
            ));
        }
        let unfit = self.unfit();
        if !unfit.is_empty() {
            return Err(Error::new(ErrorReason::Infrastructure, unfit));
        }
        if table.running_count() >= self.settings.slot_count {
            return Err(Error::new(
                ErrorReason::NoFreeSlot,
                format!("all {} slots are taken", self.settings.slot_count),
            )
            .retry_after(FULL_RETRY));
        }
        let folder = self.settings.folder.join(Uuid::now_v7().to_string());
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::new(
                ErrorReason::Infrastructure,
                format!(
                    "cannot make the task's folder {}: {error}",
                    folder.display()
                ),
            )
        })?;
        if context.deadline.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            context.deadline = Some(wire_time::timestamp(SystemTime::now() + left));
        }
        let journal = Journal::new(folder.join("events"));
        let reporter = Reporter::new(journal, self.sink.clone(), context.clone());
        if let Some(repository) = &context.repository {
            repository_secrets(&reporter, &repository.url);
        }
        reporter.push(task_event::Payload::Accepted(Accepted {
            agent_instance_id: self.instance_id.clone(),
            deadline: context.deadline,
        }));
        let entry = Arc::new(Entry::new(
            context,
            reporter,
            folder,
            self.shutdown.child_token(),
        ));
        table.insert(entry.clone());
        Ok(entry)
    }

    fn spawn(&self, entry: &Arc<Entry<A::Result>>, task: A::Task, deadline: Instant) {
        let span = tracing::info_span!(
            "task",
            otel.name = format!("task {}", contracts::agent::type_name(A::TYPE)),
            otel.status_code = tracing::field::Empty,
            { attributes::TASK_ID } = entry.task_id,
            { attributes::WORKFLOW_ID } = entry.context.workflow_id,
            { attributes::STAGE } = entry.context.stage,
            { attributes::ATTEMPT } = entry.attempt,
        );
        let assignment = Assignment {
            context: entry.context.clone(),
            task,
            reporter: entry.reporter.clone(),
            folder: entry.folder.join("work"),
            cancel: entry.cancel.clone(),
            deadline,
        };
        let agent = self.agent.clone();
        let held = entry.clone();
        // The work runs in a task of its own, so that beats go on however busy it is.
        let work = self.tracker.spawn(
            async move {
                if let Err(error) = tokio::fs::create_dir_all(&assignment.folder).await {
                    return Err(Error::new(
                        ErrorReason::Infrastructure,
                        format!("cannot make the work folder: {error}"),
                    ));
                }
                Box::pin(agent.run(assignment)).await
            }
            .instrument(span.clone()),
        );
        let table = self.table.clone();
        let result_kept = self.settings.result_kept;
        let orphan_grace = self.settings.orphan_grace;
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            let over = async {
                let ending = supervise(&held, work, deadline, orphan_grace, &shutdown).await;
                let ending = held.reporter.clean_ending(ending);
                if let Err(error) = &ending {
                    tracing::Span::current().record("otel.status_code", "ERROR");
                    tracing::warn!(%error, reason = ?error.reason, "task ended without a result");
                }
                // Kept where people look for it after the fact; a result does not wait on it for ever.
                log_artifact::keep(&held.reporter, &held.folder).await;
                ending
            };
            // Of the span, this is the end: who keeps the result for others must not hold it open.
            let ending = over.instrument(span).await;
            let folder = held.folder.clone();
            held.finish(ending);
            remove(&folder.join("work")).await;
            tokio::select! {
                biased;
                () = held.gone() => {}
                // Streams have the result already; nobody can ask for it any more.
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(result_kept) => {}
            }
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            if table
                .get(&held.task_id)
                .is_some_and(|current| Arc::ptr_eq(current, &held))
            {
                table.forget(&held.task_id);
            }
        });
    }

    /// Stops a task. True: it has stopped.
    pub(crate) async fn cancel(
        &self,
        task_id: &str,
        lease_epoch: i64,
        grace: Duration,
    ) -> Result<bool, Error> {
        let entry = self
            .lock()
            .get(task_id)
            .cloned()
            .ok_or_else(|| unknown(task_id))?;
        if lease_epoch > 0 && lease_epoch < entry.epoch() {
            return Err(stale(task_id, lease_epoch, entry.epoch()));
        }
        entry.cancel.cancel();
        Ok(tokio::time::timeout(grace, entry.finished()).await.is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Table<A::Result>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Forges take a token in the place of the user's name, and passwords are refused only later.
fn repository_secrets(reporter: &Reporter, url: &str) {
    let Ok(parsed) = url::Url::parse(url) else {
        return;
    };
    let user = parsed
        .scheme()
        .starts_with("http")
        .then(|| parsed.username());
    for encoded in user.into_iter().chain(parsed.password()) {
        let secrets = reporter.secrets();
        secrets.register("repository credentials", encoded);
        let plain = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy();
        secrets.register("repository credentials", &plain);
    }
}

// Waits for the work, the deadline, cancellation, a broken journal, or the end of the orphan grace.
async fn supervise<R: Clone>(
    entry: &Arc<Entry<R>>,
    mut work: tokio::task::JoinHandle<Result<R, Error>>,
    deadline: Instant,
    orphan_grace: Duration,
    shutdown: &CancellationToken,
) -> Ending<R> {
    let broken = entry.reporter.broken();
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT_INTERVAL, BEAT_INTERVAL);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut beaten = entry.reporter.last_sequence();
    let why = loop {
        tokio::select! {
            biased;
            ended = &mut work => return told(joined(ended), entry, shutdown),
            () = entry.cancel.cancelled() => break stopped(shutdown),
            () = broken.cancelled() => {
                let by = entry.reporter.broken_by();
                break Error::new(ErrorReason::Infrastructure, format!("events cannot be kept: {by}"));
            }
            () = tokio::time::sleep_until(deadline) => {
                break Error::new(ErrorReason::DeadlineExceeded, "the task's deadline has passed");
            }
            () = entry.orphaned(orphan_grace) => {
                break Error::new(ErrorReason::Cancelled, "nobody read the task's stream any more");
            }
            _ = beat.tick() => {
                let newest = entry.reporter.last_sequence();
                if newest == beaten {
                    entry.reporter.beat();
                }
                beaten = entry.reporter.last_sequence();
            }
        }
    };
    entry.cancel.cancel();
    // Work that notices may still tidy up; its result came too late to count.
    if tokio::time::timeout(STOP_GRACE, &mut work).await.is_err() {
        work.abort();
        let _ = work.await;
    }
    Err(why)
}

fn stopped(shutdown: &CancellationToken) -> Error {
    if shutdown.is_cancelled() {
        Error::new(ErrorReason::Draining, "the agent is stopping")
    } else {
        Error::new(ErrorReason::Cancelled, "the task was cancelled")
    }
}

// Work that was told to stop and did so fails in its own words, which say nothing about the work.
fn told<R>(ending: Ending<R>, entry: &Entry<R>, shutdown: &CancellationToken) -> Ending<R> {
    if ending.is_err() && entry.cancel.is_cancelled() {
        return Err(stopped(shutdown));
    }
    ending
}

fn joined<R>(ended: Result<Result<R, Error>, tokio::task::JoinError>) -> Ending<R> {
    match ended {
        Ok(ending) => ending,
        Err(error) => {
            tracing::error!(%error, "the work broke off");
            Err(Error::new(
                ErrorReason::Infrastructure,
                "the agent's work broke off; see its log",
            ))
        }
    }
}

async fn remove(folder: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(folder).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, folder = %folder.display(), "not removed");
    }
}
