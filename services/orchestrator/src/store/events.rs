//! Questions about the event log.

use std::time::SystemTime;

use deadpool_postgres::GenericClient;

use contracts::id::WorkflowId;

use super::StoreError;

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
