//! Questions about workflows.

use std::collections::HashMap;
use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use contracts::id::WorkflowId;

use super::StoreError;
use super::connection::GenericClient;

/// A workflow with everything that the engine needs.
#[derive(Debug, Clone)]
pub struct LoadedWorkflow {
    /// Row version.
    pub version: i64,
    /// Namespace.
    pub namespace: String,
    /// When it was taken in.
    pub create_time: SystemTime,
    /// When it ended.
    pub end_time: Option<SystemTime>,
    /// When it is given up.
    pub deadline: SystemTime,
    /// Sequence of its newest event.
    pub last_sequence: i64,
    /// Everything that changes.
    pub live: Vec<u8>,
    /// The request.
    pub request: Vec<u8>,
    /// The pipeline.
    pub pipeline: Vec<u8>,
    /// Trace of the call that created it.
    pub traceparent: String,
    /// Last results by stage.
    pub results: HashMap<String, Vec<u8>>,
}

/// One workflow, whole.
pub async fn load(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
) -> Result<Option<LoadedWorkflow>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT w.version, w.namespace, w.create_time, w.end_time, w.deadline, w.last_sequence,
                    w.live, s.request, s.pipeline, s.traceparent,
                    (SELECT coalesce(array_agg(r.stage ORDER BY r.stage), '{}') FROM results r
                     WHERE r.workflow_id = w.workflow_id),
                    (SELECT coalesce(array_agg(r.result ORDER BY r.stage), '{}') FROM results r
                     WHERE r.workflow_id = w.workflow_id)
             FROM workflows w JOIN submissions s USING (workflow_id)
             WHERE w.workflow_id = $1 AND w.namespace = $2",
        )
        .await?;
    let Some(row) = client
        .query_opt(&statement, &[&workflow_id.0, &namespace])
        .await?
    else {
        return Ok(None);
    };
    let stages: Vec<String> = row.try_get(10)?;
    let results: Vec<Vec<u8>> = row.try_get(11)?;
    Ok(Some(LoadedWorkflow {
        version: row.try_get(0)?,
        namespace: row.try_get(1)?,
        create_time: row.try_get(2)?,
        end_time: row.try_get(3)?,
        deadline: row.try_get(4)?,
        last_sequence: row.try_get(5)?,
        live: row.try_get(6)?,
        request: row.try_get(7)?,
        pipeline: row.try_get(8)?,
        traceparent: row.try_get(9)?,
        results: stages.into_iter().zip(results).collect(),
    }))
}

/// Which workflows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Namespace.
    pub namespace: String,
    /// Any of these states; empty: all.
    pub states: Vec<i16>,
    /// Any of these kinds; empty: all.
    pub types: Vec<i16>,
    /// Exactly this name; empty: all.
    pub name: String,
    /// All of these labels.
    pub labels: serde_json::Value,
    /// Created at or after.
    pub from: Option<SystemTime>,
    /// Created before.
    pub to: Option<SystemTime>,
}

/// A workflow in a list.
#[derive(Debug, Clone)]
pub struct ListedWorkflow {
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Namespace.
    pub namespace: String,
    /// When it was taken in.
    pub create_time: SystemTime,
    /// When it ended.
    pub end_time: Option<SystemTime>,
    /// Sequence of its newest event.
    pub last_sequence: i64,
    /// Everything that changes.
    pub live: Vec<u8>,
    /// The request.
    pub request: Vec<u8>,
    /// The pipeline.
    pub pipeline: Vec<u8>,
    /// Trace of the call that created it.
    pub traceparent: String,
}

const WHERE: &str = "w.namespace = $1
    AND (cardinality($2::int2[]) = 0 OR w.state = ANY($2))
    AND (cardinality($3::int2[]) = 0 OR w.type = ANY($3))
    AND ($4::text = '' OR w.name = $4)
    AND w.labels @> $5::jsonb
    AND ($6::timestamptz IS NULL OR w.create_time >= $6)
    AND ($7::timestamptz IS NULL OR w.create_time < $7)";

fn parameters(filter: &Filter) -> [&(dyn ToSql + Sync); 7] {
    [
        &filter.namespace,
        &filter.states,
        &filter.types,
        &filter.name,
        &filter.labels,
        &filter.from,
        &filter.to,
    ]
}

/// A page of workflows, newest first.
pub async fn list(
    client: &impl GenericClient,
    filter: &Filter,
    before: Option<WorkflowId>,
    limit: i64,
) -> Result<Vec<ListedWorkflow>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT w.workflow_id, w.namespace, w.create_time, w.end_time, w.last_sequence, w.live,
                    s.request, s.pipeline, s.traceparent
             FROM workflows w JOIN submissions s USING (workflow_id)
             WHERE {WHERE} AND ($8::uuid IS NULL OR w.workflow_id < $8)
             ORDER BY w.workflow_id DESC LIMIT $9"
        ))
        .await?;
    let before = before.map(|id| id.0);
    let mut all = parameters(filter).to_vec();
    all.extend([&before as &(dyn ToSql + Sync), &limit]);
    let rows = client.query(&statement, &all).await?;
    rows.iter()
        .map(|row| {
            Ok(ListedWorkflow {
                workflow_id: WorkflowId(row.try_get(0)?),
                namespace: row.try_get(1)?,
                create_time: row.try_get(2)?,
                end_time: row.try_get(3)?,
                last_sequence: row.try_get(4)?,
                live: row.try_get(5)?,
                request: row.try_get(6)?,
                pipeline: row.try_get(7)?,
                traceparent: row.try_get(8)?,
            })
        })
        .collect()
}

/// How many match; counting stops at the bound.
pub async fn count(
    client: &impl GenericClient,
    filter: &Filter,
    bound: i64,
) -> Result<i64, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT count(*) FROM (SELECT 1 FROM workflows w WHERE {WHERE} LIMIT $8) AS bounded"
        ))
        .await?;
    let mut all = parameters(filter).to_vec();
    all.push(&bound);
    Ok(client.query_one(&statement, &all).await?.try_get(0)?)
}

/// Whether it is there at all, and the sequence of its newest event.
pub async fn last_sequence(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
) -> Result<Option<(i64, bool)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT last_sequence, end_time IS NOT NULL FROM workflows
             WHERE workflow_id = $1 AND namespace = $2",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&workflow_id.0, &namespace])
        .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .transpose()
}

/// Those of many workflows that have not ended.
pub async fn living(
    client: &impl GenericClient,
    workflow_ids: &[WorkflowId],
) -> Result<Vec<WorkflowId>, StoreError> {
    let ids: Vec<_> = workflow_ids.iter().map(|id| id.0).collect();
    let statement = client
        .prepare_cached(
            "SELECT workflow_id FROM workflows WHERE workflow_id = ANY($1) AND end_time IS NULL",
        )
        .await?;
    let rows = client.query(&statement, &[&ids]).await?;
    rows.iter()
        .map(|row| Ok(WorkflowId(row.try_get(0)?)))
        .collect()
}

/// Newest sequences of many workflows.
pub async fn last_sequences(
    client: &impl GenericClient,
    workflow_ids: &[WorkflowId],
) -> Result<Vec<(WorkflowId, i64)>, StoreError> {
    let ids: Vec<_> = workflow_ids.iter().map(|id| id.0).collect();
    let statement = client
        .prepare_cached(
            "SELECT workflow_id, last_sequence FROM workflows WHERE workflow_id = ANY($1)",
        )
        .await?;
    let rows = client.query(&statement, &[&ids]).await?;
    rows.iter()
        .map(|row| Ok((WorkflowId(row.try_get(0)?), row.try_get(1)?)))
        .collect()
}

/// Newest sequences of all workflows that have not ended, or ended since a time.
pub async fn moving(
    client: &impl GenericClient,
    since: SystemTime,
) -> Result<Vec<(WorkflowId, i64)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT workflow_id, last_sequence FROM workflows WHERE end_time IS NULL
             UNION ALL
             SELECT workflow_id, last_sequence FROM workflows WHERE end_time >= $1",
        )
        .await?;
    let rows = client.query(&statement, &[&since]).await?;
    rows.iter()
        .map(|row| Ok((WorkflowId(row.try_get(0)?), row.try_get(1)?)))
        .collect()
}

/// Version of a workflow's row, if it is there.
pub async fn version(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
) -> Result<Option<i64>, StoreError> {
    let statement = client
        .prepare_cached("SELECT version FROM workflows WHERE workflow_id = $1 AND namespace = $2")
        .await?;
    let row = client
        .query_opt(&statement, &[&workflow_id.0, &namespace])
        .await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Workflows whose time ran out, but for those in one state.
pub async fn overdue(
    client: &impl GenericClient,
    now: SystemTime,
    except_state: i16,
    limit: i64,
) -> Result<Vec<(String, WorkflowId)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT namespace, workflow_id FROM workflows
             WHERE end_time IS NULL AND deadline < $1 AND state <> $2
             ORDER BY deadline LIMIT $3",
        )
        .await?;
    let rows = client
        .query(&statement, &[&now, &except_state, &limit])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, WorkflowId(row.try_get(1)?))))
        .collect()
}

/// How many are in each state; ended ones of the time since only.
pub async fn count_by_state(
    client: &impl GenericClient,
    namespace: &str,
    since: SystemTime,
) -> Result<Vec<(i16, i64)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT state, count(*) FROM workflows
             WHERE namespace = $1 AND (end_time IS NULL OR end_time >= $2) GROUP BY state",
        )
        .await?;
    let rows = client.query(&statement, &[&namespace, &since]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// How many are in each state, of those that have not ended: few, and found by an index, however long the history is.
pub async fn count_live(client: &impl GenericClient) -> Result<Vec<(i16, i64)>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT state, count(*) FROM workflows WHERE end_time IS NULL GROUP BY state",
        )
        .await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// How many of a namespace have not ended; counting stops at the bound.
pub async fn count_living(
    client: &impl GenericClient,
    namespace: &str,
    bound: i64,
) -> Result<i64, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) FROM (
                 SELECT FROM workflows WHERE namespace = $1 AND end_time IS NULL LIMIT $2) AS living",
        )
        .await?;
    let row = client.query_one(&statement, &[&namespace, &bound]).await?;
    Ok(row.try_get(0)?)
}

/// How many have not ended, by namespace.
pub async fn count_by_namespace(
    client: &impl GenericClient,
) -> Result<HashMap<String, i64>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT namespace, count(*) FROM workflows WHERE end_time IS NULL GROUP BY namespace",
        )
        .await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
