//! Log lines on their way from the replica that drives an attempt to readers on others.

use std::collections::BTreeMap;
use std::time::Duration;

use contracts::id::WorkflowId;

use super::StoreError;
use super::connection::GenericClient;

/// Who is behind reads the rest with the next statement.
const MOST: i64 = 500;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineRow {
    /// Who has it.
    pub replica_id: String,
    /// Among all lines of the workflow there.
    pub sequence: i64,
    /// The line.
    pub line: Vec<u8>,
}

/// Shows lines, by sequence; those that are shown already stay for longer.
pub async fn write(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    replica_id: &str,
    lines: &[(i64, Vec<u8>)],
) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO log_lines (workflow_id, replica_id, sequence, line)
             SELECT $1, $2, sequence, line FROM unnest($3::int8[], $4::bytea[]) AS n(sequence, line)
             ON CONFLICT (workflow_id, replica_id, sequence) DO UPDATE SET write_time = now()",
        )
        .await?;
    let sequences: Vec<_> = lines.iter().map(|(sequence, _)| *sequence).collect();
    let texts: Vec<_> = lines.iter().map(|(_, line)| line.as_slice()).collect();
    client
        .execute(
            &statement,
            &[&workflow_id.0, &replica_id, &sequences, &texts],
        )
        .await?;
    Ok(())
}

/// Lines that others show and that were not seen yet, in the order of each replica. True: there are more.
pub async fn unseen(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    replica_id: &str,
    seen: &BTreeMap<String, i64>,
) -> Result<(Vec<LineRow>, bool), StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT l.replica_id, l.sequence, l.line
             FROM log_lines l LEFT JOIN unnest($3::text[], $4::int8[]) AS s(replica_id, sequence)
                  USING (replica_id)
             WHERE l.workflow_id = $1 AND l.replica_id <> $2 AND l.sequence > coalesce(s.sequence, -1)
             ORDER BY l.replica_id, l.sequence LIMIT $5",
        )
        .await?;
    let replicas: Vec<_> = seen.keys().collect();
    let sequences: Vec<_> = seen.values().collect();
    let rows = client
        .query(
            &statement,
            &[&workflow_id.0, &replica_id, &replicas, &sequences, &MOST],
        )
        .await?;
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            Ok(LineRow {
                replica_id: row.try_get(0)?,
                sequence: row.try_get(1)?,
                line: row.try_get(2)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    let more = i64::try_from(lines.len()).is_ok_and(|count| count == MOST);
    Ok((lines, more))
}

/// Somebody reads the logs of a workflow on a replica.
pub async fn want(
    client: &impl GenericClient,
    workflow_id: WorkflowId,
    replica_id: &str,
) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO log_readers (workflow_id, replica_id, read_time) VALUES ($1, $2, now())
             ON CONFLICT (workflow_id, replica_id) DO UPDATE SET read_time = now()",
        )
        .await?;
    client
        .execute(&statement, &[&workflow_id.0, &replica_id])
        .await?;
    Ok(())
}

/// Workflows whose logs somebody read lately on another replica, and of which this one drives an attempt.
pub async fn wanted(
    client: &impl GenericClient,
    replica_id: &str,
    lately: Duration,
) -> Result<Vec<WorkflowId>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT DISTINCT workflow_id FROM log_readers r JOIN tasks t USING (workflow_id)
             WHERE r.replica_id <> $1 AND r.read_time > now() - $2::float8 * interval '1 second'
               AND t.leased AND t.owner = $1",
        )
        .await?;
    let rows = client
        .query(&statement, &[&replica_id, &lately.as_secs_f64()])
        .await?;
    rows.iter()
        .map(|row| Ok(WorkflowId(row.try_get(0)?)))
        .collect()
}

/// Takes lines and readers away that were written longer ago.
pub async fn forget(client: &impl GenericClient, after: Duration) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "WITH readers AS (
                 DELETE FROM log_readers WHERE read_time < now() - $1::float8 * interval '1 second'
             )
             DELETE FROM log_lines WHERE write_time < now() - $1::float8 * interval '1 second'",
        )
        .await?;
    client.execute(&statement, &[&after.as_secs_f64()]).await?;
    Ok(())
}
