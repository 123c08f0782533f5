//! Questions about stored pipelines.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::id::PipelineId;

use super::StoreError;
use super::connection::GenericClient;

/// A version of a pipeline as it is stored.
#[derive(Debug, Clone)]
pub struct StoredPipeline {
    /// Pipeline.
    pub pipeline_id: PipelineId,
    /// Name.
    pub name: String,
    /// Version.
    pub version: i32,
    /// The pipeline, encoded.
    pub pipeline: Vec<u8>,
    /// When.
    pub create_time: SystemTime,
}

/// Stores a version. False: somebody stored that version first.
pub async fn insert(
    client: &impl GenericClient,
    namespace: &str,
    row: &StoredPipeline,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO pipelines (pipeline_id, namespace, name, version, pipeline, create_time)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .await?;
    let count = client
        .execute(
            &statement,
            &[
                &row.pipeline_id.0,
                &namespace,
                &row.name,
                &row.version,
                &row.pipeline,
                &row.create_time,
            ],
        )
        .await?;
    Ok(count == 1)
}

const COLUMNS: &str = "pipeline_id, name, version, pipeline, create_time";

/// One version; zero: the newest. By id or name.
pub async fn get(
    client: &impl GenericClient,
    namespace: &str,
    id_or_name: &str,
    version: i32,
) -> Result<Option<StoredPipeline>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM pipelines
             WHERE namespace = $1 AND (name = $2 OR pipeline_id::text = $2)
               AND delete_time IS NULL AND ($3 = 0 OR version = $3)
             ORDER BY version DESC LIMIT 1"
        ))
        .await?;
    let row = client
        .query_opt(&statement, &[&namespace, &id_or_name, &version])
        .await?;
    row.as_ref().map(read).transpose()
}

/// The newest version of each, by name, after a name, and how many there are.
pub async fn list(
    client: &impl GenericClient,
    namespace: &str,
    after: &str,
    limit: i64,
) -> Result<(Vec<StoredPipeline>, i64), StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT DISTINCT ON (name) {COLUMNS} FROM pipelines
             WHERE namespace = $1 AND delete_time IS NULL AND name > $2
             ORDER BY name, version DESC LIMIT $3"
        ))
        .await?;
    let rows = client
        .query(&statement, &[&namespace, &after, &limit])
        .await?;
    let statement = client
        .prepare_cached(
            "SELECT count(DISTINCT name) FROM pipelines
             WHERE namespace = $1 AND delete_time IS NULL",
        )
        .await?;
    let count = client
        .query_one(&statement, &[&namespace])
        .await?
        .try_get(0)?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, count))
}

/// Takes all versions away. False: there was none.
pub async fn delete(
    client: &impl GenericClient,
    namespace: &str,
    pipeline_id: PipelineId,
    time: SystemTime,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE pipelines SET delete_time = $3
             WHERE namespace = $1 AND pipeline_id = $2 AND delete_time IS NULL",
        )
        .await?;
    Ok(client
        .execute(&statement, &[&namespace, &pipeline_id.0, &time])
        .await?
        > 0)
}

fn read(row: &Row) -> Result<StoredPipeline, StoreError> {
    Ok(StoredPipeline {
        pipeline_id: PipelineId(row.try_get(0)?),
        name: row.try_get(1)?,
        version: row.try_get(2)?,
        pipeline: row.try_get(3)?,
        create_time: row.try_get(4)?,
    })
}
