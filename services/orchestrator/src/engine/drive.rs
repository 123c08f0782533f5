//! Drives one leased attempt: calls the agent, follows its stream, re-attaches when the stream
//! breaks, and hands the outcome to the plan.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use contracts::agent::{AgentMessage, Cancellation};
use contracts::client::Retry;
use contracts::id::WorkflowId;
use contracts::orchestrator::{StageTask, WatchWorkflowLogsResponse};
use contracts::task::{TaskContext, TaskEvent, Usage, task_event};
use contracts::{attributes, trace, wire_time};

use super::step::{Input, LEASE};
use super::workflow::Workflow;
use super::{Engine, EngineError, context};
use crate::agents::Reservation;
use crate::plan::event::Rejected;

mod ending;

use ending::{End, given_up, timed_out};

/// An agent that does not acknowledge within this time has not taken the task.
const ACCEPT_WITHIN: Duration = Duration::from_secs(5);
/// A stream without a message for so long is dead, whatever TCP says: three beats.
const SILENT_AFTER: Duration = Duration::from_secs(15);
const SILENT: &str = "the stream went silent";
const UNANSWERED: &str =
    "the agent did not take the task on within 5 s, though its connection is open";
/// A broken stream is given up after this: then the attempt is lost.
const REATTACH_FOR: Duration = Duration::from_secs(30);
/// Without a session and without an answer, an agent that was killed is not waited for longer.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// Progress is written at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long a stopped task may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
// The agent ends work at its deadline itself; this is for one that does not.
const OVERTIME: Duration = Duration::from_secs(30);
const REATTACH: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    longest: Duration::from_secs(2),
};
const DELIVER: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    longest: Duration::from_secs(2),
};

/// An attempt that is driven here.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) namespace: String,
    pub(super) epoch: i64,
    pub(super) stop: CancellationToken,
}

/// How a drive begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// A new attempt.
    New {
        /// Its lease does not begin earlier.
        leased: Instant,
    },
    /// An attempt that runs already, under a newer epoch.
    Reattach,
}

/// Starts a drive.
pub(super) fn start(
    engine: &Engine,
    workflow: &Workflow,
    stage: &str,
    epoch: i64,
    reservation: Reservation,
    begin: Begin,
) {
    let Some(number) = workflow.stage_number(stage) else {
        return;
    };
    let now = engine.clock().now();
    let definition = &workflow.submission.pipeline.stages[number];
    let mut told = context::context(workflow, number, epoch, reservation.instance_id(), now);
    told.reattach_only = begin == Begin::Reattach;
    let stop = CancellationToken::new();
    let span = tracing::info_span!(
        "stage",
        otel.name = format!("stage {stage}"),
        otel.kind = "client",
        { attributes::WORKFLOW_ID } = told.workflow_id,
        { attributes::STAGE } = stage,
        { attributes::TASK_ID } = told.task_id,
        { attributes::ATTEMPT } = told.attempt,
        { attributes::INSTANCE_ID } = %reservation.instance_id(),
        epoch,
        verdict = tracing::field::Empty,
    );
    // Stored with the workflow, so that a crash or an hour's wait does not break the trace.
    let _ = span.set_parent(trace::from_traceparent(&workflow.submission.traceparent));
    let drive = Drive {
        engine: engine.clone(),
        namespace: workflow.submission.namespace.clone(),
        workflow_id: workflow.id(),
        stage: stage.to_owned(),
        epoch,
        task: context::task(workflow, number),
        deadline: Instant::now() + definition.timeout + OVERTIME,
        progress_timeout: definition.progress_timeout,
        seen: told.resume_after_sequence,
        context: told,
        stop: stop.clone(),
        progress_at: None,
        spent: None,
        accepted: begin == Begin::Reattach,
        met: false,
        start_before: match begin {
            Begin::New { leased } => Some(leased + LEASE),
            Begin::Reattach => None,
        },
        active: Instant::now(),
    };
    // An order to stop an earlier attempt must not reach this one.
    engine
        .agents()
        .keep_task(reservation.instance_id(), &drive.context.task_id);
    let key = (workflow.id(), stage.to_owned());
    let namespace = drive.namespace.clone();
    let handle = Handle {
        namespace,
        epoch,
        stop,
    };
    engine.drives().insert(key, handle);
    // In one place from the start: it is large, and is moved several times until it runs.
    let driven = Box::pin(drive.run(reservation));
    engine.shared.tracker.spawn(driven.instrument(span));
}

struct Drive {
    engine: Engine,
    namespace: String,
    workflow_id: WorkflowId,
    stage: String,
    epoch: i64,
    task: StageTask,
    context: TaskContext,
    // When an agent that does not keep its own deadline is given up.
    deadline: Instant,
    progress_timeout: Duration,
    // Newest event that was taken in.
    seen: i64,
    stop: CancellationToken,
    progress_at: Option<Instant>,
    // What the attempt said last that it has spent.
    spent: Option<Usage>,
    accepted: bool,
    // The agent said something of it to us: it did have it.
    met: bool,
    // After that somebody else may have run it to its end, and the agent may have forgotten it.
    start_before: Option<Instant>,
    // When the work last did something, over all streams of the attempt.
    active: Instant,
}

impl Drive {
    async fn run(mut self, reservation: Reservation) {
        let mut end = tokio::select! {
            biased;
            // The lease runs out, and whoever takes it re-attaches.
            () = self.engine.shared.shutdown.clone().cancelled_owned() => End::HandedOver,
            end = self.follow(&reservation) => end,
        };
        let given_up = matches!(end, End::Lost(_) | End::HandedBack(_));
        if given_up && self.hand_over(&reservation).await {
            end = End::HandedOver;
        }
        self.judge_agent(&reservation, &end);
        let instance_id = reservation.instance_id();
        let kept = end.is_kept();
        // The slot is free before the next stage is leased, so that it can have it.
        drop(reservation);
        if let Some(input) = self.input(end) {
            // Not before: whoever takes over what was not taken in here asks the agent for it.
            if self.deliver(input).await && kept {
                self.engine
                    .agents()
                    .release_result(instance_id, self.context.task_id.clone());
            }
        }
        let key = (self.workflow_id, self.stage.clone());
        let mut drives = self.engine.drives();
        if drives
            .get(&key)
            .is_some_and(|handle| handle.epoch == self.epoch)
        {
            drives.remove(&key);
        }
    }

    async fn follow(&mut self, reservation: &Reservation) -> End {
        let mut broken_since: Option<Instant> = None;
        let mut attempt = 0;
        loop {
            let too_late = self.start_before.is_some_and(|at| Instant::now() >= at);
            if too_late && !self.accepted {
                return End::HandedOver;
            }
            let attached = tokio::select! {
                biased;
                () = reservation.lost(), if self.accepted => {
                    return End::Lost("the agent is lost".to_owned());
                }
                attached = self.attach(reservation) => attached,
            };
            let error = match attached {
                Ok(stream) => match self.read(stream, reservation, &mut broken_since).await {
                    Ok(end) => return end,
                    Err(status) => status,
                },
                Err(status) => status,
            };
            if self.stop.is_cancelled() {
                return End::Cancelled;
            }
            if let Some(end) = self.judge(&error) {
                return end;
            }
            // The stream broke, and the work may go on behind it.
            if self.hand_over(reservation).await {
                return End::HandedOver;
            }
            let since = *broken_since.get_or_insert_with(Instant::now);
            self.context.reattach_only = true;
            if self.is_given_up(reservation, since) {
                return given_up(reservation, &error);
            }
            attempt += 1;
            tracing::warn!(code = ?error.code(), message = error.message(), attempt, "stream broke, attaching again");
            tokio::select! {
                biased;
                () = reservation.lost() => return End::Lost("the agent is lost".to_owned()),
                () = tokio::time::sleep(REATTACH.delay(attempt)) => {}
            }
        }
    }

    async fn attach(
        &mut self,
        reservation: &Reservation,
    ) -> Result<BoxStream<'static, Result<AgentMessage, Status>>, Status> {
        self.context.resume_after_sequence = self.seen;
        let call = contracts::agent::execute_signed(
            reservation.channel(),
            self.context.clone(),
            self.task.clone(),
            Some(&self.engine.shared.signer),
        );
        tokio::time::timeout(ACCEPT_WITHIN, call)
            .await
            .map_err(|_| Status::deadline_exceeded(UNANSWERED))?
    }

    // `Err`: the stream broke.
    async fn read(
        &mut self,
        mut stream: BoxStream<'static, Result<AgentMessage, Status>>,
        reservation: &Reservation,
        broken_since: &mut Option<Instant>,
    ) -> Result<End, Status> {
        let mut stopping: Option<Instant> = None;
        loop {
            let patience = if self.accepted {
                SILENT_AFTER
            } else {
                ACCEPT_WITHIN
            };
            // One timer for all three: a message comes every few milliseconds, and hardly ever the time.
            let silent = Instant::now() + patience;
            let idle = self.active + self.progress_timeout;
            let stop = self.stop.clone();
            let message = tokio::select! {
                biased;
                message = stream.next() => message,
                () = reservation.lost() => return Ok(End::Lost("the agent is lost".to_owned())),
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now());
                    self.cancel(reservation).await;
                    continue;
                }
                () = tokio::time::sleep_until(self.deadline.min(idle).min(silent)) => {
                    let now = Instant::now();
                    if now < self.deadline && now < idle {
                        let silence = if self.accepted { SILENT } else { UNANSWERED };
                        return Err(Status::deadline_exceeded(silence));
                    }
                    self.cancel(reservation).await;
                    if now >= self.deadline {
                        return Ok(timed_out("the attempt took too long"));
                    }
                    let seconds = self.progress_timeout.as_secs_f64();
                    return Ok(timed_out(&format!("the work did nothing for {seconds} s")));
                }
            };
            if stopping.is_some_and(|since| since.elapsed() > 2 * STOP_GRACE) {
                return Ok(End::Cancelled);
            }
            match message {
                None => return Err(Status::unavailable("the stream ended without a result")),
                Some(Err(status)) if stopping.is_some() && status.code() == Code::Cancelled => {
                    return Ok(End::Cancelled);
                }
                Some(Err(status)) => return Err(status),
                Some(Ok(AgentMessage::Result(result))) => return Ok(End::Result(result)),
                Some(Ok(AgentMessage::Event(event))) => {
                    self.met = true;
                    // One that only says again what it said before is as good as silent.
                    if event.sequence > self.seen {
                        *broken_since = None;
                    }
                    if let Some(last) = self.take(event).await {
                        self.active = self.active.max(last);
                    }
                }
            }
        }
    }

    // Takes an event in; answers when the work was last active.
    async fn take(&mut self, event: TaskEvent) -> Option<Instant> {
        if event.sequence <= self.seen {
            return None;
        }
        self.seen = event.sequence;
        match event.payload? {
            task_event::Payload::Accepted(_) => {
                self.accepted = true;
                Some(Instant::now())
            }
            task_event::Payload::Progress(progress) => {
                let due = self
                    .progress_at
                    .is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
                if due {
                    self.progress_at = Some(Instant::now());
                    let sequence = self.seen;
                    self.note(Input {
                        progress: Some((self.stage.clone(), progress, sequence)),
                        ..Input::default()
                    })
                    .await;
                }
                Some(Instant::now())
            }
            task_event::Payload::Log(log) => {
                self.engine.logs().push(
                    self.workflow_id,
                    WatchWorkflowLogsResponse {
                        stage: self.stage.clone(),
                        attempt: self.context.attempt,
                        time: event.time,
                        log: Some(log),
                    },
                );
                Some(Instant::now())
            }
            task_event::Payload::ArtifactProduced(produced) => {
                if let Some(artifact) = produced.artifact {
                    let sequence = self.seen;
                    self.note(Input {
                        artifact: Some((self.stage.clone(), artifact, sequence)),
                        ..Input::default()
                    })
                    .await;
                }
                Some(Instant::now())
            }
            task_event::Payload::Beat(beat) => {
                if beat.usage.is_some() && beat.usage != self.spent {
                    self.spent = beat.usage;
                    self.note(Input {
                        spent: self.spent.map(|usage| (self.stage.clone(), usage)),
                        ..Input::default()
                    })
                    .await;
                }
                let last = wire_time::system_time(beat.last_activity_time?)?;
                let now = wire_time::system_time(event.time?)?;
                // Both are the agent's clock: their difference is right even when it is not.
                let idle = now.duration_since(last).unwrap_or_default();
                Instant::now().checked_sub(idle)
            }
        }
    }

    // Writes down what is nice to know; the attempt does not hang on it.
    async fn note(&self, input: Input) {
        let (stage, epoch) = (self.stage.clone(), self.epoch);
        let noted = self
            .engine
            .apply::<EngineError>(&self.namespace, self.workflow_id, |workflow| {
                let held = workflow
                    .live
                    .plan
                    .stage(&stage)
                    .map_or(0, |stage| stage.lease_epoch);
                if held != epoch {
                    return Err(EngineError::Rejected {
                        workflow_id: workflow.id(),
                        source: Rejected::StaleLease {
                            stage: stage.clone(),
                            epoch,
                            held,
                        },
                    });
                }
                Ok(Input {
                    actor: self.actor(),
                    ..input.clone()
                })
            })
            .await;
        if let Err(error) = noted {
            tracing::debug!(error = ?error, "not noted");
        }
    }

    async fn cancel(&self, reservation: &Reservation) {
        let agent_type = self.task.agent_type();
        let cancellation = Cancellation {
            task_id: self.context.task_id.clone(),
            lease_epoch: self.epoch,
            grace: STOP_GRACE,
        };
        match contracts::agent::cancel(reservation.channel(), agent_type, cancellation).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the task did not stop within the grace"),
            Err(status) => {
                tracing::warn!(code = ?status.code(), message = status.message(), "not cancelled");
            }
        }
    }

    // Tells the plan, for as long as it takes: the agent keeps the result meanwhile. True: nobody
    // needs what the agent keeps any more.
    async fn deliver(&self, input: Input) -> bool {
        let mut attempt = 0;
        loop {
            let told = self
                .engine
                .apply::<EngineError>(&self.namespace, self.workflow_id, |_| Ok(input.clone()))
                .await;
            match told {
                Err(EngineError::Store(error)) if error.is_transient() => {
                    attempt += 1;
                    tokio::select! {
                        biased;
                        () = self.engine.shared.shutdown.cancelled() => return false,
                        () = tokio::time::sleep(DELIVER.delay(attempt)) => {}
                    }
                }
                // Told before, by a commit whose answer was lost; or nobody waits for it any more.
                Ok(_)
                | Err(EngineError::Rejected {
                    source: Rejected::AlreadyFinished(_),
                    ..
                }) => return true,
                Err(EngineError::Rejected {
                    source: Rejected::StaleLease { held, .. },
                    ..
                }) => {
                    let is_ours = held == self.epoch;
                    if !is_ours {
                        tracing::info!(held, "the outcome came from a stale lease and is refused");
                    }
                    return is_ours;
                }
                Err(error) => {
                    tracing::error!(error = ?error, "the outcome of an attempt was not taken in");
                    return false;
                }
            }
        }
    }

    fn actor(&self) -> String {
        format!("agent:{}", self.context.agent_instance_id)
    }
}
