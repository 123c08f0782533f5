//! Questions about the event log.

use std::time::SystemTime;

use contracts::id::WorkflowId;

use super::StoreError;
use super::connection::GenericClient;

/// An event as it is stored: sequence, time, bytes.
pub type StoredEvent = (i64, SystemTime, Vec<u8>);

/// Events after a sequence, in order.
pub async fn after(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT sequence, time, event FROM events
             WHERE workflow_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        )
        .await?;
    let rows = client
        .query(&statement, &[&workflow_id.0, &after, &limit])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect()
}

/// Events of one stage after a sequence, in order.
pub async fn of_stage_after(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    stage: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT sequence, time, event FROM events
             WHERE workflow_id = $1 AND stage = $2 AND sequence > $3 ORDER BY sequence LIMIT $4",
        )
        .await?;
    let rows = client
        .query(&statement, &[&workflow_id.0, &stage, &after, &limit])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect()
}

/// How many events a workflow, or one of its stages, has.
pub async fn count(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    stage: &str,
) -> Result<i64, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) FROM events WHERE workflow_id = $1 AND ($2 = '' OR stage = $2)",
        )
        .await?;
    Ok(client
        .query_one(&statement, &[&workflow_id.0, &stage])
        .await?
        .try_get(0)?)
}

/// Events of one workflow among many: whose, and its namespace.
#[derive(Debug)]
pub struct FollowedEvents {
    /// Namespace.
    pub namespace: String,
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Events, in order.
    pub events: Vec<Vec<u8>>,
}

/// Events of many workflows: of each those after a sequence, at most so many; for those without a
/// sequence, the ones since a time.
pub async fn of_many_after(
    client: &impl GenericClient,
    workflows: &[(WorkflowId, Option<i64>)],
    since: SystemTime,
    limit: i64,
) -> Result<Vec<FollowedEvents>, StoreError> {
    let ids: Vec<_> = workflows.iter().map(|(id, _)| id.0).collect();
    let after: Vec<_> = workflows.iter().map(|(_, after)| *after).collect();
    let statement = client
        .prepare_cached(
            "SELECT w.namespace, w.workflow_id, ARRAY(
                 SELECT e.event FROM events e
                 WHERE e.workflow_id = wanted.id AND e.sequence > coalesce(wanted.after, 0)
                   AND (wanted.after IS NOT NULL OR e.time >= $3)
                 ORDER BY e.sequence LIMIT $4)
             FROM unnest($1::uuid[], $2::int8[]) AS wanted(id, after)
             JOIN workflows w ON w.workflow_id = wanted.id",
        )
        .await?;
    let rows = client
        .query(&statement, &[&ids, &after, &since, &limit])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FollowedEvents {
                namespace: row.try_get(0)?,
                workflow_id: WorkflowId(row.try_get(1)?),
                events: row.try_get(2)?,
            })
        })
        .collect()
}
