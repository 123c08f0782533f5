//! The audit log: appended to, and read.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::audit::Chain;
use contracts::orchestrator::AuditEntry;
use contracts::wire_time;

use super::StoreError;
use super::connection::{Client, GenericClient};

/// Which entries. What is empty matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Caller.
    pub actor: String,
    /// Method.
    pub method: String,
    /// What it was about.
    pub subject: String,
    /// What came of it.
    pub outcome: String,
    /// Not from before this.
    pub start_time: Option<SystemTime>,
    /// From before this.
    pub end_time: Option<SystemTime>,
}

/// Seals entries and appends them, all or none.
pub async fn append(client: &mut Client, entries: &mut [AuditEntry]) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    let statement = transaction
        .prepare_cached("SELECT sequence, hash FROM audit_head FOR UPDATE")
        .await?;
    let row = transaction.query_one(&statement, &[]).await?;
    let mut chain = Chain {
        sequence: row.try_get(0)?,
        hash: row.try_get(1)?,
    };
    for entry in entries.iter_mut() {
        chain.seal(entry);
    }
    let statement = transaction
        .prepare_cached(
            "WITH written AS (
                 INSERT INTO audit (sequence, time, actor, credential, address, method, namespace,
                                    subject, decision_digest, content_digest, outcome, reason,
                                    trace_id, previous_hash, hash)
                 SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[],
                                      $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                                      $10::text[], $11::text[], $12::text[], $13::text[],
                                      $14::text[], $15::text[]))
             UPDATE audit_head SET sequence = $16, hash = $17",
        )
        .await?;
    let entries = &*entries;
    let texts = |field: fn(&AuditEntry) -> &str| entries.iter().map(field).collect::<Vec<_>>();
    let sequences: Vec<_> = entries.iter().map(|entry| entry.sequence).collect();
    let times: Vec<_> = entries
        .iter()
        .map(|entry| entry.time.and_then(wire_time::system_time))
        .collect();
    transaction
        .execute(
            &statement,
            &[
                &sequences,
                &times,
                &texts(|entry| &entry.actor),
                &texts(|entry| &entry.credential),
                &texts(|entry| &entry.address),
                &texts(|entry| &entry.method),
                &texts(|entry| &entry.namespace),
                &texts(|entry| &entry.subject),
                &texts(|entry| &entry.decision_digest),
                &texts(|entry| &entry.content_digest),
                &texts(|entry| &entry.outcome),
                &texts(|entry| &entry.reason),
                &texts(|entry| &entry.trace_id),
                &texts(|entry| &entry.previous_hash),
                &texts(|entry| &entry.hash),
                &chain.sequence,
                &chain.hash,
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Oldest first, after a sequence.
pub async fn list(
    client: &impl GenericClient,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<AuditEntry>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT sequence, time, actor, credential, address, method, namespace, subject,
                    decision_digest, content_digest, outcome, reason, trace_id, previous_hash, hash
             FROM audit
             WHERE sequence > $1
               AND ($2 = '' OR actor = $2)
               AND ($3 = '' OR method = $3)
               AND ($4 = '' OR subject = $4)
               AND ($5 = '' OR outcome = $5)
               AND ($6::timestamptz IS NULL OR time >= $6)
               AND ($7::timestamptz IS NULL OR time < $7)
             ORDER BY sequence LIMIT $8",
        )
        .await?;
    let rows = client
        .query(
            &statement,
            &[
                &after,
                &filter.actor,
                &filter.method,
                &filter.subject,
                &filter.outcome,
                &filter.start_time,
                &filter.end_time,
                &limit,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The newest entry.
pub async fn head(client: &impl GenericClient) -> Result<Chain, StoreError> {
    let statement = client
        .prepare_cached("SELECT sequence, hash FROM audit_head")
        .await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Chain {
        sequence: row.try_get(0)?,
        hash: row.try_get(1)?,
    })
}

fn read(row: &Row) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        sequence: row.try_get(0)?,
        time: Some(wire_time::timestamp(row.try_get(1)?)),
        actor: row.try_get(2)?,
        credential: row.try_get(3)?,
        address: row.try_get(4)?,
        method: row.try_get(5)?,
        namespace: row.try_get(6)?,
        subject: row.try_get(7)?,
        decision_digest: row.try_get(8)?,
        content_digest: row.try_get(9)?,
        outcome: row.try_get(10)?,
        reason: row.try_get(11)?,
        trace_id: row.try_get(12)?,
        previous_hash: row.try_get(13)?,
        hash: row.try_get(14)?,
    })
}
