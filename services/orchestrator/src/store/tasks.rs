//! Questions about tasks: what waits, what is leased, whose lease ran out.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use contracts::id::WorkflowId;

use super::StoreError;
use super::connection::GenericClient;

/// A task that waits.
#[derive(Debug, Clone)]
pub struct WaitingTask {
    /// Namespace.
    pub namespace: String,
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Stage.
    pub stage: String,
    /// Task.
    pub task_id: Uuid,
    /// Its concurrency key is held, or is the turn of another one.
    pub blocked: bool,
}

/// A task whose lease nobody renews.
#[derive(Debug, Clone)]
pub struct OrphanedTask {
    /// Namespace.
    pub namespace: String,
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Stage.
    pub stage: String,
    /// Task.
    pub task_id: Uuid,
    /// Epoch of the old lease.
    pub lease_epoch: i64,
}

/// Tasks of one type that wait, in their order.
pub async fn waiting(
    client: &impl GenericClient,
    agent_type: i16,
    now: SystemTime,
    limit: i64,
) -> Result<Vec<WaitingTask>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT w.namespace, w.workflow_id, w.stage, w.task_id, w.concurrency_key <> '' AND (
                 EXISTS (SELECT 1 FROM tasks t
                     WHERE t.leased AND t.concurrency_key <> '' AND t.namespace = w.namespace
                       AND t.concurrency_key = w.concurrency_key)
                 OR EXISTS (SELECT 1 FROM tasks t
                     WHERE NOT t.leased AND t.concurrency_key <> '' AND t.namespace = w.namespace
                       AND t.concurrency_key = w.concurrency_key AND t.agent_type = w.agent_type
                       AND t.order_time < w.order_time AND t.ready_time <= $2))
             FROM tasks w
             WHERE NOT w.leased AND NOT w.parked AND w.agent_type = $1 AND w.ready_time <= $2
             ORDER BY w.order_time LIMIT $3",
        )
        .await?;
    let rows = client
        .query(&statement, &[&agent_type, &now, &limit])
        .await?;
    rows.iter().map(waiting_task).collect()
}

fn waiting_task(row: &Row) -> Result<WaitingTask, StoreError> {
    Ok(WaitingTask {
        namespace: row.try_get(0)?,
        workflow_id: WorkflowId(row.try_get(1)?),
        stage: row.try_get(2)?,
        task_id: row.try_get(3)?,
        blocked: row.try_get(4)?,
    })
}

/// Sets tasks aside until their concurrency key is free.
pub async fn park(client: &impl GenericClient, task_ids: &[Uuid]) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET parked = true WHERE task_id IN (
                 SELECT task_id FROM tasks WHERE task_id = ANY($1) AND NOT leased
                 ORDER BY task_id FOR UPDATE)",
        )
        .await?;
    client.execute(&statement, &[&task_ids]).await?;
    Ok(())
}

/// Wakes the next task of each agent type that waits for a concurrency key; answers those types.
pub async fn unpark(
    client: &impl GenericClient,
    namespace: &str,
    concurrency_key: &str,
) -> Result<Vec<i16>, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET parked = false WHERE parked AND task_id IN (
                 SELECT head.task_id FROM generate_series(1, 5) AS type, LATERAL (
                     SELECT t.task_id FROM tasks t
                     WHERE NOT t.leased AND t.concurrency_key <> '' AND t.namespace = $1
                       AND t.concurrency_key = $2 AND t.agent_type = type::int2
                     ORDER BY t.order_time LIMIT 1) AS head)
             RETURNING agent_type",
        )
        .await?;
    let rows = client
        .query(&statement, &[&namespace, &concurrency_key])
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Concurrency keys that tasks are parked for and that nobody holds.
pub async fn forgotten_keys(
    client: &impl GenericClient,
    limit: i64,
) -> Result<Vec<(String, String)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT DISTINCT namespace, concurrency_key FROM tasks p
             WHERE parked AND NOT EXISTS (
                 SELECT 1 FROM tasks t
                 WHERE t.leased AND t.concurrency_key <> '' AND t.namespace = p.namespace
                   AND t.concurrency_key = p.concurrency_key)
             LIMIT $1",
        )
        .await?;
    let rows = client.query(&statement, &[&limit]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Who holds a concurrency key, or is the next to: workflow and stage.
pub async fn holder(
    client: &impl GenericClient,
    namespace: &str,
    concurrency_key: &str,
    not: Uuid,
) -> Result<Option<(WorkflowId, String, bool)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT workflow_id, stage, leased FROM tasks
             WHERE namespace = $1 AND concurrency_key = $2 AND concurrency_key <> ''
               AND (leased OR order_time < (SELECT order_time FROM tasks WHERE task_id = $3))
             ORDER BY leased DESC, order_time LIMIT 1",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&namespace, &concurrency_key, &not])
        .await?;
    row.map(|row| {
        Ok((
            WorkflowId(row.try_get(0)?),
            row.try_get(1)?,
            row.try_get(2)?,
        ))
    })
    .transpose()
}

/// Types of which something waits.
pub async fn waiting_types(
    client: &impl GenericClient,
    now: SystemTime,
) -> Result<Vec<i16>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT type FROM generate_series(1, 5) AS type
             WHERE EXISTS (SELECT 1 FROM tasks WHERE NOT leased AND agent_type = type::int2
                           AND ready_time <= $1)",
        )
        .await?;
    let rows = client.query(&statement, &[&now]).await?;
    rows.iter()
        .map(|row| Ok(i16::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0)))
        .collect()
}

/// Whether another replica drives an attempt of a workflow.
pub async fn is_driven_elsewhere(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    replica_id: &str,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM tasks WHERE workflow_id = $1 AND leased AND owner <> $2)",
        )
        .await?;
    let row = client
        .query_one(&statement, &[&workflow_id.0, &replica_id])
        .await?;
    Ok(row.try_get(0)?)
}

/// Renews all leases of a replica at once.
pub async fn renew(
    client: &impl GenericClient,
    owner: &str,
    lease: Duration,
) -> Result<u64, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET lease_expires = now() + $2::float8 * interval '1 second'
             WHERE leased AND owner = $1",
        )
        .await?;
    client
        .execute(&statement, &[&owner, &lease.as_secs_f64()])
        .await
}

/// Gives all leases of a replica back at once, for others to take over.
pub async fn give_back(client: &impl GenericClient, owner: &str) -> Result<u64, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET lease_expires = now() - interval '1 second'
             WHERE leased AND owner = $1",
        )
        .await?;
    client.execute(&statement, &[&owner]).await
}

/// Gives a lease up, for whoever has its agent.
pub async fn give_up(
    client: &impl GenericClient,
    task_id: Uuid,
    owner: &str,
    lease_epoch: i64,
) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET owner = '', lease_expires = now() - interval '1 second'
             WHERE leased AND task_id = $1 AND owner = $2 AND lease_epoch = $3",
        )
        .await?;
    client
        .execute(&statement, &[&task_id, &owner, &lease_epoch])
        .await?;
    Ok(())
}

/// Gives a lease up for the replica that its agent is connected to by now. False: there is no such
/// replica, or the lease is not ours.
pub async fn hand_over(
    client: &impl GenericClient,
    task_id: Uuid,
    owner: &str,
    lease_epoch: i64,
    instance_id: Uuid,
    alive: Duration,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE tasks SET owner = '', lease_expires = now() - interval '1 second'
             WHERE leased AND task_id = $1 AND owner = $2 AND lease_epoch = $3 AND EXISTS (
                 SELECT 1 FROM agents a JOIN replicas r USING (replica_id)
                 WHERE a.instance_id = $4 AND a.connected AND a.replica_id <> $2
                   AND r.renew_time > now() - $5::float8 * interval '1 second')",
        )
        .await?;
    let parameters: [&(dyn ToSql + Sync); 5] = [
        &task_id,
        &owner,
        &lease_epoch,
        &instance_id,
        &alive.as_secs_f64(),
    ];
    Ok(client.execute(&statement, &parameters).await? > 0)
}

/// Leases that ran out.
pub async fn orphaned(
    client: &impl GenericClient,
    limit: i64,
) -> Result<Vec<OrphanedTask>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT namespace, workflow_id, stage, task_id, lease_epoch FROM tasks
             WHERE leased AND lease_expires < now() LIMIT $1",
        )
        .await?;
    let rows = client.query(&statement, &[&limit]).await?;
    rows.iter().map(orphan).collect()
}

fn orphan(row: &Row) -> Result<OrphanedTask, StoreError> {
    Ok(OrphanedTask {
        namespace: row.try_get(0)?,
        workflow_id: WorkflowId(row.try_get(1)?),
        stage: row.try_get(2)?,
        task_id: row.try_get(3)?,
        lease_epoch: row.try_get(4)?,
    })
}

/// Tasks that waited too long for a slot.
pub async fn overdue(
    client: &impl GenericClient,
    now: SystemTime,
    limit: i64,
) -> Result<Vec<WaitingTask>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT namespace, workflow_id, stage, task_id, parked FROM tasks
             WHERE NOT leased AND start_deadline < $1 LIMIT $2",
        )
        .await?;
    let rows = client.query(&statement, &[&now, &limit]).await?;
    rows.iter().map(waiting_task).collect()
}

/// What waits and runs, by agent type.
#[derive(Debug, Clone)]
pub struct TypeCount {
    /// Agent type, as in the contract.
    pub agent_type: i16,
    /// Tasks that wait.
    pub waiting: i64,
    /// Tasks that are leased.
    pub leased: i64,
    /// Since when the oldest one waits.
    pub oldest: Option<SystemTime>,
}

/// What waits and runs in a namespace; `None`: in all.
pub async fn count_by_type(
    client: &impl GenericClient,
    namespace: Option<&str>,
) -> Result<Vec<TypeCount>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT agent_type, count(*) FILTER (WHERE NOT leased), count(*) FILTER (WHERE leased),
                    min(ready_time) FILTER (WHERE NOT leased)
             FROM tasks WHERE $1::text IS NULL OR namespace = $1 GROUP BY agent_type",
        )
        .await?;
    let rows = client.query(&statement, &[&namespace]).await?;
    rows.iter()
        .map(|row| {
            Ok(TypeCount {
                agent_type: row.try_get(0)?,
                waiting: row.try_get(1)?,
                leased: row.try_get(2)?,
                oldest: row.try_get(3)?,
            })
        })
        .collect()
}

/// Which of some tasks are leased to an instance, with their epochs.
pub async fn leased_to(
    client: &impl GenericClient,
    task_ids: &[Uuid],
    instance_id: Uuid,
) -> Result<std::collections::HashMap<Uuid, i64>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT task_id, lease_epoch FROM tasks
             WHERE leased AND task_id = ANY($1) AND instance_id = $2",
        )
        .await?;
    let rows = client.query(&statement, &[&task_ids, &instance_id]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// How long ago the lease of a task ran out; zero: it has not. `None`: it is not leased.
pub async fn expired_since(
    client: &impl GenericClient,
    task_id: Uuid,
) -> Result<Option<Duration>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT greatest(extract(epoch FROM now() - lease_expires)::float8, 0) FROM tasks
             WHERE leased AND task_id = $1",
        )
        .await?;
    let row = client.query_opt(&statement, &[&task_id]).await?;
    row.map(|row| Ok(Duration::from_secs_f64(row.try_get(0)?)))
        .transpose()
}

/// Tasks that a replica has leased; `None`: that any has.
pub async fn owned(
    client: &impl GenericClient,
    owner: Option<&str>,
) -> Result<Vec<OrphanedTask>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT namespace, workflow_id, stage, task_id, lease_epoch FROM tasks
             WHERE leased AND ($1::text IS NULL OR owner = $1)",
        )
        .await?;
    client
        .query(&statement, &[&owner])
        .await?
        .iter()
        .map(orphan)
        .collect()
}
