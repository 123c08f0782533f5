//! Which of the tasks that an agent runs it should go on with: the database has the last word.

use std::collections::HashMap;

use uuid::Uuid;

use contracts::id::InstanceId;
use contracts::orchestrator::RunningTask;

use super::Engine;
use super::step::LEASE;
use crate::agents::session::Arbiter;
use crate::store::{agents, tasks};

impl Arbiter for Engine {
    async fn to_stop(&self, instance_id: InstanceId, running: Vec<RunningTask>) -> Vec<String> {
        let ids: Vec<Uuid> = running
            .iter()
            .filter_map(|task| Uuid::parse_str(&task.task_id).ok())
            .collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let leased: Result<HashMap<_, _>, _> = async {
            let client = self.store().client().await?;
            tasks::leased_to(&client, &ids, instance_id.0).await
        }
        .await;
        match leased {
            Ok(leased) => running
                .into_iter()
                // A task that its own caller owns is none of ours.
                .filter(|task| task.lease_epoch > 0)
                .filter(|task| {
                    let id = Uuid::parse_str(&task.task_id).unwrap_or_default();
                    // A lease that is newer than the agent knows is on its way to it.
                    !leased.contains_key(&id)
                })
                .map(|task| task.task_id)
                .collect(),
            // Not knowing is no reason to stop anything.
            Err(error) => {
                tracing::warn!(error = ?error, "running tasks were not compared");
                Vec::new()
            }
        }
    }

    fn has_leases(&self) -> bool {
        !self.shared.touch.is_lost()
    }

    async fn is_drained(&self, instance_id: InstanceId) -> bool {
        let known = async {
            let client = self.store().client().await?;
            agents::list(&client, Some(instance_id), LEASE).await
        };
        match known.await {
            Ok(known) => known.iter().any(|agent| agent.draining),
            // It is told again when its row is written.
            Err(error) => {
                tracing::warn!(error = ?error, "nobody knows whether the agent is drained");
                false
            }
        }
    }
}
