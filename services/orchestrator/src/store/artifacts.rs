//! Rows of artifacts: what is kept, and for whom. The bytes are elsewhere.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::id::{ArtifactId, TaskId, WorkflowId};

use super::StoreError;
use super::connection::{Client, GenericClient};
use super::unkept;

/// What is known of an artifact before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArtifact {
    /// Namespace that it is kept in.
    pub namespace: String,
    /// `sha256:…`.
    pub digest: String,
    /// Size.
    pub size_bytes: i64,
    /// Media type.
    pub media_type: String,
    /// Name, unique within its task.
    pub name: String,
    /// Workflow that it belongs to.
    pub workflow_id: Option<WorkflowId>,
    /// Stage that it belongs to.
    pub stage: Option<String>,
    /// Task that it belongs to.
    pub task_id: Option<TaskId>,
    /// Attempt that it belongs to; zero: none.
    pub attempt: i32,
}

/// A stored artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRow {
    /// Grows with every artifact stored.
    pub position: i64,
    /// Its id.
    pub artifact_id: ArtifactId,
    /// When it was stored.
    pub create_time: SystemTime,
    /// Everything else.
    pub artifact: NewArtifact,
}

const COLUMNS: &str = "position, artifact_id, create_time, namespace, digest, size_bytes, \
     media_type, name, workflow_id, stage, task_id, attempt";

/// What became of an artifact.
#[derive(Debug)]
pub enum Inserted {
    /// It is recorded.
    Row(Box<ArtifactRow>),
    /// Its workflow is not there any more.
    NoWorkflow,
    /// Its bytes were removed while they were sent: nobody had them before.
    Removed,
}

/// The database's time.
pub async fn now(client: &impl GenericClient) -> Result<SystemTime, StoreError> {
    let statement = client.prepare_cached("SELECT now()").await?;
    Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
}

/// Records an artifact whose bytes are published; sending them began then. The same one again gives
/// the first row.
pub async fn insert(
    client: &mut Client,
    artifact: &NewArtifact,
    begun: SystemTime,
) -> Result<Inserted, StoreError> {
    let transaction = client.transaction().await?;
    if !unkept::are_kept(&transaction, &artifact.digest, begun).await? {
        return Ok(Inserted::Removed);
    }
    // It cannot pass retention before this transaction has ended.
    if let Some(workflow_id) = artifact.workflow_id
        && !workflow_exists(&transaction, &artifact.namespace, workflow_id).await?
    {
        return Ok(Inserted::NoWorkflow);
    }
    // The no-op update makes a row that is there already be returned.
    let statement = format!(
        "INSERT INTO artifacts (artifact_id, namespace, digest, size_bytes, media_type, name, \
             workflow_id, stage, task_id, attempt) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (namespace, \
             coalesce(workflow_id, '00000000-0000-0000-0000-000000000000'::uuid), \
             coalesce(stage, ''), \
             coalesce(task_id, '00000000-0000-0000-0000-000000000000'::uuid), \
             attempt, name, digest) \
         DO UPDATE SET name = excluded.name \
         RETURNING {COLUMNS}"
    );
    let row = transaction
        .query_one(
            &statement,
            &[
                &ArtifactId::new().0,
                &artifact.namespace,
                &artifact.digest,
                &artifact.size_bytes,
                &artifact.media_type,
                &artifact.name,
                &artifact.workflow_id.map(|id| id.0),
                &artifact.stage,
                &artifact.task_id.map(|id| id.0),
                &artifact.attempt,
            ],
        )
        .await?;
    let row = read(&row)?;
    transaction.commit().await?;
    Ok(Inserted::Row(Box::new(row)))
}

/// Size of the bytes with a digest; `None` when no artifact has it.
pub async fn size_of(
    client: &impl GenericClient,
    namespace: &str,
    digest: &str,
) -> Result<Option<i64>, StoreError> {
    let row = client
        .query_opt(
            "SELECT size_bytes FROM artifacts WHERE namespace = $1 AND digest = $2 LIMIT 1",
            &[&namespace, &digest],
        )
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Whether there is such a workflow.
pub async fn workflow_exists(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
) -> Result<bool, StoreError> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM workflows WHERE namespace = $1 AND workflow_id = $2)",
            &[&namespace, &workflow_id.0],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Artifacts of a workflow after a position, in the order they were stored.
pub async fn list(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
    stage: Option<&str>,
    after_position: i64,
    limit: i64,
) -> Result<Vec<ArtifactRow>, StoreError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM artifacts \
         WHERE namespace = $1 AND workflow_id = $2 AND ($3::text IS NULL OR stage = $3) \
             AND position > $4 \
         ORDER BY position LIMIT $5"
    );
    let rows = client
        .query(
            &statement,
            &[&namespace, &workflow_id.0, &stage, &after_position, &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// How many artifacts a workflow has.
pub async fn count(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: WorkflowId,
    stage: Option<&str>,
) -> Result<i64, StoreError> {
    let row = client
        .query_one(
            "SELECT count(*) FROM artifacts \
             WHERE namespace = $1 AND workflow_id = $2 AND ($3::text IS NULL OR stage = $3)",
            &[&namespace, &workflow_id.0, &stage],
        )
        .await?;
    Ok(row.try_get(0)?)
}

fn read(row: &Row) -> Result<ArtifactRow, StoreError> {
    Ok(ArtifactRow {
        position: row.try_get("position")?,
        artifact_id: ArtifactId(row.try_get("artifact_id")?),
        create_time: row.try_get("create_time")?,
        artifact: NewArtifact {
            namespace: row.try_get("namespace")?,
            digest: row.try_get("digest")?,
            size_bytes: row.try_get("size_bytes")?,
            media_type: row.try_get("media_type")?,
            name: row.try_get("name")?,
            workflow_id: row.try_get::<_, Option<_>>("workflow_id")?.map(WorkflowId),
            stage: row.try_get("stage")?,
            task_id: row.try_get::<_, Option<_>>("task_id")?.map(TaskId),
            attempt: row.try_get("attempt")?,
        },
    })
}
