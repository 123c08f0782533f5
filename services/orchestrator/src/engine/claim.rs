//! Gives waiting tasks to free slots, one agent type at a time: whenever something waits, whenever
//! a slot becomes free, and once a second in any case.

use contracts::task::AgentType;

use super::mesh::about_a_second;
use super::step::{self, Input};
use super::{Engine, EngineError, Outcome};
use crate::plan::state::TaskState;
use crate::store::tasks;

// Claimed at once; more only wait for each other.
const BATCH: usize = 64;

/// Claims until the shutdown.
pub(super) async fn run(engine: Engine, agent_type: AgentType) {
    let agents = engine.agents().clone();
    // Something was left waiting for want of a slot. While nothing is, a slot that becomes free is no
    // reason to ask the database.
    let mut left = true;
    loop {
        tokio::select! {
            biased;
            () = engine.shared.shutdown.cancelled() => return,
            () = engine.waiting(agent_type).notified() => {}
            () = agents.freed(agent_type), if left => {}
            // The guarantee behind all hints.
            () = tokio::time::sleep(about_a_second()) => {}
        }
        left = loop {
            let (_, free) = agents.slot_counts(agent_type);
            if free == 0 || engine.shared.shutdown.is_cancelled() {
                break true;
            }
            match claim(&engine, agent_type, free.min(BATCH)).await {
                Ok(Claimed { more: false, .. }) => break false,
                // Others are faster, or the slots are gone.
                Ok(Claimed { count: 0, .. }) => break true,
                Ok(Claimed { .. }) => {}
                Err(error) => {
                    tracing::warn!(error = ?error, "tasks were not claimed");
                    break true;
                }
            }
        };
    }
}

struct Claimed {
    // How many were leased, or set aside.
    count: usize,
    // More may wait.
    more: bool,
}

async fn claim(
    engine: &Engine,
    agent_type: AgentType,
    limit: usize,
) -> Result<Claimed, EngineError> {
    let now = engine.shared.clock.now();
    let most = i64::try_from(limit).unwrap_or(1);
    let (waiting, blocked, all) = {
        let client = engine.store().client().await?;
        let waiting = tasks::waiting(&client, agent_type as i16, now, most).await?;
        let all = waiting.len();
        let (blocked, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|task| task.blocked);
        let blocked: Vec<_> = blocked.into_iter().map(|task| task.task_id).collect();
        if !blocked.is_empty() {
            // Whoever gives the key up wakes the next.
            tasks::park(&client, &blocked).await?;
        }
        (waiting, blocked.len(), all)
    };
    let claims = waiting.into_iter().map(|task| async move {
        let Some(reservation) = engine.agents().reserve(agent_type) else { return 0 };
        match engine.lease(&task.namespace, task.workflow_id, &task.stage, reservation).await {
            Ok(leased) => usize::from(leased),
            Err(error) => {
                tracing::warn!(error = ?error, agentic.workflow.id = %task.workflow_id, stage = task.stage, "task not leased");
                0
            }
        }
    });
    let leased: usize = futures::future::join_all(claims).await.into_iter().sum();
    let count = leased + blocked;
    Ok(Claimed {
        count,
        more: all == limit || count < all,
    })
}

impl Engine {
    // False: somebody else has it, or it is gone.
    async fn lease(
        &self,
        namespace: &str,
        id: contracts::id::WorkflowId,
        stage: &str,
        reservation: crate::agents::Reservation,
    ) -> Result<bool, EngineError> {
        let cell = self.cell(id);
        let mut held = cell.lock().await;
        let workflow = self.load(namespace, id, &mut held).await?;
        let waits = workflow
            .live
            .plan
            .stage(stage)
            .is_some_and(|planned| planned.task == TaskState::Waiting);
        if !waits {
            // What is at hand may be old: the next look asks the database.
            *held = None;
            return Ok(false);
        }
        let stepped = self.with_setting(true, |setting| {
            step::lease(workflow, stage, reservation, setting)
        });
        match stepped {
            Ok(stepped) => {
                let outcome = self.commit(stepped, &mut held).await?;
                Ok(matches!(outcome, Outcome::Committed(_)))
            }
            Err(source) => Err(EngineError::Rejected {
                workflow_id: id,
                source,
            }),
        }
    }

    /// Tells the plan that a task waited too long.
    pub(super) async fn schedule_timed_out(
        &self,
        namespace: &str,
        id: contracts::id::WorkflowId,
        stage: String,
    ) -> Result<(), EngineError> {
        self.apply::<EngineError>(namespace, id, |_| {
            Ok(Input {
                event: Some(crate::plan::event::Event::ScheduleTimedOut {
                    stage: stage.clone(),
                }),
                actor: "orchestrator".to_owned(),
                ..Input::default()
            })
        })
        .await
        .map(|_| ())
    }
}
