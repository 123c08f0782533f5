//! What happens because time passes: leases are renewed and taken over, deadlines pass, decisions
//! and clarifications expire, old requests are forgotten. Every replica sweeps; the guard of each
//! step makes that harmless.

use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use contracts::id::InstanceId;
use contracts::orchestrator::WorkflowState;
use contracts::task::DecisionRequest;

use super::drive::{self, Begin};
use super::live::{AnswerFacts, DecisionFacts};
use super::mesh::about_a_second;
use super::step::{self, Input, LEASE};
use super::{Engine, EngineError, Outcome, shown_logs};
use crate::agents::REMEMBERED;
use crate::plan::event::{Event, Resolution};
use crate::plan::state::TaskState;
use crate::store::tasks::OrphanedTask;
use crate::store::{
    agents, clarifications, decisions, malformed, replicas, requests, tasks, workflows,
};

const RENEW_EVERY: Duration = Duration::from_secs(5);
const FORGET_EVERY: Duration = Duration::from_mins(10);
const REQUESTS_KEPT: Duration = Duration::from_hours(24);
const BATCH: i64 = 100;
/// How long an agent may take to connect here after its replica is gone.
const COMEBACK: Duration = Duration::from_secs(15);

/// Keeps leases and sweeps until the shutdown. A long sweep does not keep leases waiting.
pub(super) async fn run(engine: Engine) {
    tokio::join!(keep_leases(&engine), sweep_always(&engine));
}

async fn keep_leases(engine: &Engine) {
    let touch = &engine.shared.touch;
    loop {
        let pause = match tokio::time::timeout(RENEW_EVERY, renew(engine)).await {
            Ok(Ok(())) => {
                touch.heard();
                RENEW_EVERY
            }
            failed => {
                touch.missed();
                let error = failed.ok().and_then(Result::err);
                tracing::warn!(error = ?error, within = ?RENEW_EVERY, "leases were not renewed");
                about_a_second()
            }
        };
        if touch.is_lost() {
            engine.agents().reconnect_all(RENEW_EVERY);
        }
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep_always(engine: &Engine) {
    let touch = &engine.shared.touch;
    let mut resumed: Option<Instant> = None;
    let mut forgotten: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = touch.steady() => {}
            () = tokio::time::sleep(about_a_second()) => {}
        }
        if touch.is_steady() {
            if resumed.is_none_or(|at| at.elapsed() >= RENEW_EVERY) {
                resumed = Some(Instant::now());
                logged(resume(engine).await);
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                forgotten = Some(Instant::now());
                if let Err(error) = forget(engine).await {
                    tracing::warn!(error = ?error, "old requests were not forgotten");
                }
            }
            engine.agents().sweep();
            if let Err(error) = sweep(engine).await {
                tracing::warn!(error = ?error, "the sweep broke off");
            }
        } else {
            engine.agents().excuse();
        }
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = engine.shared.look_now.notified() => {}
            () = tokio::time::sleep(about_a_second()) => {}
        }
    }
}

async fn renew(engine: &Engine) -> Result<(), EngineError> {
    let shared = &engine.shared;
    let client = shared.store.client().await?;
    tasks::renew(&client, &shared.replica_id, LEASE).await?;
    let asked = Instant::now();
    let (now, others) = replicas::renew(&client, &shared.replica_id, LEASE).await?;
    shared.clock.set(now, asked.elapsed());
    shared.hints.others(others);
    Ok(())
}

// Leases of ours that nobody drives: a commit whose answer was lost.
async fn resume(engine: &Engine) -> Result<(), EngineError> {
    let client = engine.store().client().await?;
    let owned = tasks::owned(&client, Some(&engine.shared.replica_id)).await?;
    drop(client);
    for task in owned {
        let key = (task.workflow_id, task.stage.clone());
        let driven = engine.drives().contains_key(&key);
        if !driven {
            logged(adopt(engine, &task, true).await);
        }
    }
    Ok(())
}

/// Gives up every attempt of an earlier life whose agents died with it: they were parts of the same
/// process.
pub(super) async fn lose_all(engine: &Engine) -> Result<(), EngineError> {
    let client = engine.store().client().await?;
    let leased = tasks::owned(&client, None).await?;
    drop(client);
    for task in leased {
        tracing::info!(agentic.workflow.id = %task.workflow_id, stage = task.stage, "attempt died with its process");
        engine
            .lose(&task, "it died with the process that ran it")
            .await?;
    }
    Ok(())
}

async fn sweep(engine: &Engine) -> Result<(), EngineError> {
    let shared = &engine.shared;
    let now = shared.clock.now();
    let client = shared.store.client().await?;
    let orphaned = tasks::orphaned(&client, BATCH).await?;
    let late = tasks::overdue(&client, now, BATCH).await?;
    // What is being undone has ended in all but name, however long that takes.
    let undone = WorkflowState::Compensating as i16;
    let overdue = workflows::overdue(&client, now, undone, BATCH).await?;
    let undecided = decisions::expired(&client, now, BATCH).await?;
    let unanswered = clarifications::expired(&client, now, BATCH).await?;
    let free_keys = tasks::forgotten_keys(&client, BATCH).await?;
    let mut followed = shared.events.watched();
    if !shared.hints.is_alone() {
        followed.extend(engine.drives().keys().map(|(workflow_id, _)| *workflow_id));
        engine.look_for_readers(&client).await?;
    }
    if !followed.is_empty() {
        for (workflow_id, sequence) in workflows::last_sequences(&client, &followed).await? {
            engine.moved(workflow_id, sequence);
        }
    }
    if shared.quota.is_sampled() {
        let living = workflows::count_by_namespace(&client).await?;
        shared.quota.sampled(living);
    }
    drop(client);
    for (namespace, concurrency_key) in free_keys {
        engine.wake_next(&namespace, &concurrency_key).await?;
    }
    for task in orphaned {
        take_over(engine, task).await;
    }
    for task in late {
        logged(
            engine
                .schedule_timed_out(&task.namespace, task.workflow_id, task.stage)
                .await,
        );
    }
    for (namespace, workflow_id) in overdue {
        let event = Event::WorkflowTimedOut;
        let told = engine
            .apply(&namespace, workflow_id, |_| {
                Ok::<_, EngineError>(by_time(event.clone()))
            })
            .await;
        logged(told.map(|_| ()));
    }
    for decision in undecided {
        logged(reject(engine, &decision).await);
    }
    for clarification in unanswered {
        let id = clarification.clarification_id;
        let input = Input {
            answered: Some(AnswerFacts {
                clarification_id: id,
                stage: clarification.stage.clone(),
                question: clarification.question.clone(),
                answer: String::new(),
                actor: String::new(),
            }),
            ..by_time(Event::ClarificationExpired {
                clarification_id: id,
            })
        };
        let (namespace, workflow_id) = (&clarification.namespace, clarification.workflow_id);
        let told = engine
            .apply(namespace, workflow_id, |_| {
                Ok::<_, EngineError>(input.clone())
            })
            .await;
        logged(told.map(|_| ()));
    }
    Ok(())
}

async fn reject(engine: &Engine, decision: &decisions::StoredDecision) -> Result<(), EngineError> {
    let reason = "nobody decided in time".to_owned();
    let asked = DecisionRequest::decode(decision.request.as_slice())
        .map_err(|error| malformed("decisions", &error))?;
    let input = Input {
        decided: Some(DecisionFacts {
            decision_id: decision.decision_id,
            category: asked.category,
            subject_digest: asked.subject_digest,
            resolution: contracts::task::Resolution::Reject.into(),
            choice: String::new(),
            rationale: reason,
            actor: "timeout".to_owned(),
        }),
        ..by_time(Event::DecisionResolved {
            stage: decision.stage.clone(),
            decision_id: decision.decision_id,
            resolution: Resolution::Reject,
            actor: "timeout".to_owned(),
        })
    };
    let (namespace, workflow_id) = (&decision.namespace, decision.workflow_id);
    engine
        .apply(namespace, workflow_id, |_| {
            Ok::<_, EngineError>(input.clone())
        })
        .await
        .map(|_| ())
}

fn by_time(event: Event) -> Input {
    Input {
        event: Some(event),
        actor: "orchestrator".to_owned(),
        ..Input::default()
    }
}

async fn forget(engine: &Engine) -> Result<(), EngineError> {
    let client = engine.store().client().await?;
    requests::forget(&client, engine.clock().now() - REQUESTS_KEPT).await?;
    agents::forget(&client, REMEMBERED).await?;
    drop(client);
    shown_logs::forget(engine).await?;
    engine.forget_logs().await?;
    engine.forget_ended().await
}

async fn take_over(engine: &Engine, task: OrphanedTask) {
    logged(adopt(engine, &task, false).await);
}

// Goes on with the running attempt under a newer epoch, or says that it is lost.
async fn adopt(engine: &Engine, task: &OrphanedTask, is_ours: bool) -> Result<(), EngineError> {
    let cell = engine.cell(task.workflow_id);
    let mut held = cell.lock().await;
    if engine
        .drives()
        .contains_key(&(task.workflow_id, task.stage.clone()))
    {
        return Ok(());
    }
    // Somebody else wrote last.
    *held = None;
    let workflow = engine
        .load(&task.namespace, task.workflow_id, &mut held)
        .await?;
    let Some(number) = workflow.stage_number(&task.stage) else {
        return Ok(());
    };
    let planned = &workflow.live.plan.stages[number];
    if planned.task != TaskState::Leased || planned.lease_epoch != task.lease_epoch {
        return Ok(());
    }
    let instance_id = workflow.live.stages[number].instance_id.map(InstanceId);
    let reservation = instance_id.and_then(|id| engine.agents().reserve_on(id));
    let Some(reservation) = reservation else {
        drop(held);
        return if is_ours {
            engine.give_up(task).await
        } else {
            engine.wait_or_lose(task).await
        };
    };
    let (stepped, epoch) = engine
        .with_setting(true, |setting| step::adopt(workflow, &task.stage, setting))
        .map_err(|source| EngineError::Rejected {
            workflow_id: task.workflow_id,
            source,
        })?;
    if let Outcome::Committed(workflow) = engine.commit(stepped, &mut held).await? {
        tracing::info!(agentic.workflow.id = %task.workflow_id, stage = task.stage, epoch, "attempt adopted");
        drive::start(
            engine,
            &workflow,
            &task.stage,
            epoch,
            reservation,
            Begin::Reattach,
        );
    }
    Ok(())
}

fn logged(outcome: Result<(), EngineError>) {
    match outcome {
        // Somebody was faster: it is done.
        Ok(()) | Err(EngineError::Rejected { .. } | EngineError::NotFound(_)) => {}
        Err(error) => tracing::warn!(error = ?error, "not done in this sweep"),
    }
}

impl Engine {
    // The agent is not connected here, and nobody else looks for it while we renew its lease.
    async fn give_up(&self, task: &OrphanedTask) -> Result<(), EngineError> {
        let client = self.store().client().await?;
        let replica_id = &self.shared.replica_id;
        tasks::give_up(&client, task.task_id, replica_id, task.lease_epoch).await?;
        Ok(())
    }

    // The agent is not connected here. It may be about to come back; in the end it is lost.
    async fn wait_or_lose(&self, task: &OrphanedTask) -> Result<(), EngineError> {
        let client = self.store().client().await?;
        let expired = tasks::expired_since(&client, task.task_id).await?;
        drop(client);
        // Neither its replica nor its agent could come while nobody was here.
        let waited = expired.map(|expired| expired.min(self.shared.touch.steady_for()));
        if waited.is_some_and(|waited| waited >= COMEBACK) {
            self.lose(task, "its agent is gone").await?;
        }
        Ok(())
    }

    async fn lose(&self, task: &OrphanedTask, reason: &str) -> Result<(), EngineError> {
        let (stage, epoch) = (task.stage.clone(), task.lease_epoch);
        let reason = reason.to_owned();
        let input = Input {
            ended: Some((stage.clone(), "lost", reason.clone())),
            ..by_time(Event::AttemptLost {
                stage,
                epoch,
                reason,
            })
        };
        self.apply(&task.namespace, task.workflow_id, |_| {
            Ok::<_, EngineError>(input.clone())
        })
        .await
        .map(|_| ())
    }
}
