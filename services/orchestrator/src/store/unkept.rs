//! Bytes that lost an artifact, and may be removed when no other has them. An upload of the same bytes and
//! their removal take turns: one lock per digest, for one short transaction.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::StoreError;
use super::connection::{Client, GenericClient, Transaction};

// Artifacts that are forgotten in one statement.
const BATCH: i64 = 1000;
// The class of the locks, apart from other locks of two numbers: "unkp".
const CLASS: i32 = 0x756e_6b70;

/// Forgets artifacts of the workflows with ids in a range, and notes their bytes. False: all are forgotten.
pub async fn forget_artifacts(
    client: &impl GenericClient,
    first_id: Uuid,
    end_id: Uuid,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "WITH gone AS (
                 DELETE FROM artifacts WHERE position IN (
                     SELECT position FROM artifacts
                     WHERE workflow_id >= $1 AND workflow_id < $2
                     -- Everybody takes them in one order.
                     ORDER BY workflow_id, namespace, position LIMIT $3 FOR UPDATE)
                 RETURNING digest
             ), noted AS (
                 INSERT INTO unkept_digests (digest) SELECT DISTINCT digest FROM gone ORDER BY digest
                 ON CONFLICT (digest) DO UPDATE SET removing = false, remove_time = NULL
             )
             SELECT count(*) FROM gone",
        )
        .await?;
    let gone: i64 = client
        .query_one(&statement, &[&first_id, &end_id, &BATCH])
        .await?
        .try_get(0)?;
    Ok(gone > 0)
}

/// Digests whose bytes may have to be removed.
pub async fn some(client: &impl GenericClient, limit: i64) -> Result<Vec<String>, StoreError> {
    let statement = client
        .prepare_cached("SELECT digest FROM unkept_digests WHERE remove_time IS NULL LIMIT $1")
        .await?;
    let rows = client.query(&statement, &[&limit]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Claims bytes for removal. False: an artifact has them, and they stay.
pub async fn claim(client: &mut Client, digest: &str) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock($1, hashtext($2))",
            &[&CLASS, &digest],
        )
        .await?;
    let has_artifact: bool = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM artifacts WHERE digest = $1)",
            &[&digest],
        )
        .await?
        .try_get(0)?;
    let noted = if has_artifact {
        "DELETE FROM unkept_digests WHERE digest = $1"
    } else {
        "UPDATE unkept_digests SET removing = true WHERE digest = $1"
    };
    transaction.execute(noted, &[&digest]).await?;
    transaction.commit().await?;
    Ok(!has_artifact)
}

/// Notes that bytes are removed.
pub async fn removed(client: &impl GenericClient, digest: &str) -> Result<(), StoreError> {
    client
        .execute(
            "UPDATE unkept_digests SET remove_time = clock_timestamp()
             WHERE digest = $1 AND removing",
            &[&digest],
        )
        .await?;
    Ok(())
}

/// Forgets bytes that were removed so long ago that no upload can still have seen them.
pub async fn forget(client: &impl GenericClient, after: Duration) -> Result<(), StoreError> {
    client
        .execute(
            "DELETE FROM unkept_digests WHERE remove_time < now() - $1 * interval '1 s'",
            &[&after.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// Whether bytes whose sending began then are kept: nobody removed them since, or will before the
/// transaction has ended.
pub(super) async fn are_kept(
    transaction: &Transaction<'_>,
    digest: &str,
    begun: SystemTime,
) -> Result<bool, StoreError> {
    let statement = transaction
        .prepare_cached("SELECT pg_advisory_xact_lock_shared($1, hashtext($2))")
        .await?;
    transaction.execute(&statement, &[&CLASS, &digest]).await?;
    let statement = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT FROM unkept_digests
                            WHERE digest = $1 AND removing AND coalesce(remove_time >= $2, true))",
        )
        .await?;
    let row = transaction
        .query_one(&statement, &[&digest, &begun])
        .await?;
    let removed: bool = row.try_get(0)?;
    Ok(!removed)
}
