//! Concurrency keys: of the tasks with one key, one is leased at a time. The lease itself holds the
//! key, in the database; here the next in turn is woken, and people are told what a task waits for.

use contracts::agent::type_name;
use contracts::orchestrator as wire;
use contracts::task::AgentType;

use super::workflow::Workflow;
use super::{Engine, EngineError};
use crate::plan::state::TaskState;
use crate::store::tasks;

impl Engine {
    /// A key was given up, and somebody waits for it.
    pub(super) fn freed(&self, namespace: &str, concurrency_key: String) {
        let (engine, namespace) = (self.clone(), namespace.to_owned());
        self.shared.tracker.spawn(async move {
            if let Err(error) = engine.wake_next(&namespace, &concurrency_key).await {
                // The sweep finds it.
                tracing::warn!(error = ?error, concurrency_key, "the next task was not woken");
            }
        });
    }

    /// Lets the next task with a key be claimed, wherever there is room.
    pub(super) async fn wake_next(
        &self,
        namespace: &str,
        concurrency_key: &str,
    ) -> Result<(), EngineError> {
        let client = self.store().client().await?;
        let woken = tasks::unpark(&client, namespace, concurrency_key).await?;
        drop(client);
        for agent_type in woken {
            let agent_type = AgentType::try_from(i32::from(agent_type));
            self.waits(agent_type.unwrap_or_default());
        }
        Ok(())
    }

    /// Says of every stage whose task waits what it waits for.
    pub async fn tell_waits(
        &self,
        workflow: &Workflow,
        wire: &mut wire::Workflow,
    ) -> Result<(), EngineError> {
        for (number, planned) in workflow.live.plan.stages.iter().enumerate() {
            let facts = &workflow.live.stages[number];
            let (TaskState::Waiting, Some(task_id)) = (planned.task, facts.task_id) else {
                continue;
            };
            let key = &facts.concurrency_key;
            let holder = if key.is_empty() {
                None
            } else {
                let client = self.store().client().await?;
                let namespace = &workflow.submission.namespace;
                tasks::holder(&client, namespace, key, task_id).await?
            };
            wire.stages[number].waits_for = match holder {
                Some((id, stage, true)) => {
                    format!("{stage} of workflow {id}, which runs under the key {key}")
                }
                Some((id, stage, false)) => {
                    format!("{stage} of workflow {id}, which is before it under the key {key}")
                }
                None => {
                    let agent_type = workflow.submission.pipeline.stages[number].agent_type;
                    format!("a free {} agent", type_name(agent_type))
                }
            };
        }
        Ok(())
    }
}
