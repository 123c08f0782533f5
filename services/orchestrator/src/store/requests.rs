//! Calls with a request id, so that a repeated one gets the first answer.

use std::time::SystemTime;

use super::StoreError;
use super::connection::GenericClient;

/// A call that was made.
#[derive(Debug, Clone)]
pub struct RequestRow {
    /// Its id.
    pub request_id: String,
    /// RPC.
    pub method: &'static str,
    /// Digest of its content.
    pub content: Vec<u8>,
    /// What it made or changed.
    pub subject: String,
    /// When.
    pub create_time: SystemTime,
}

/// What an earlier call with the id was.
#[derive(Debug, Clone)]
pub struct EarlierRequest {
    /// RPC.
    pub method: String,
    /// Digest of its content.
    pub content: Vec<u8>,
    /// What it made or changed.
    pub subject: String,
}

/// An earlier call with that id.
pub async fn find(
    client: &impl GenericClient,
    namespace: &str,
    request_id: &str,
) -> Result<Option<EarlierRequest>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT method, content, subject FROM requests
             WHERE namespace = $1 AND request_id = $2",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&namespace, &request_id])
        .await?;
    row.map(|row| {
        Ok(EarlierRequest {
            method: row.try_get(0)?,
            content: row.try_get(1)?,
            subject: row.try_get(2)?,
        })
    })
    .transpose()
}

/// Records a call that changes no workflow. False: it was made before.
pub async fn record(
    client: &impl GenericClient,
    namespace: &str,
    request: &RequestRow,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO requests (namespace, request_id, method, content, subject, create_time)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .await?;
    let count = client
        .execute(
            &statement,
            &[
                &namespace,
                &request.request_id,
                &request.method,
                &request.content,
                &request.subject,
                &request.create_time,
            ],
        )
        .await?;
    Ok(count == 1)
}

/// Forgets calls from before a time, some with each statement: all at once could be too many for its
/// time.
pub async fn forget(client: &impl GenericClient, before: SystemTime) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "DELETE FROM requests WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM requests WHERE create_time < $1
                 ORDER BY create_time LIMIT 5000 FOR UPDATE SKIP LOCKED))",
        )
        .await?;
    while client.execute(&statement, &[&before]).await? > 0 {}
    Ok(())
}
