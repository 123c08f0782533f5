//! Tokens with which agents get their first certificate: each works for one key, and for a while.

use std::time::{Duration, SystemTime};

use super::connection::GenericClient;

use super::StoreError;

// Long enough to find out who used one, or that nobody did.
const REMEMBERED: Duration = Duration::from_hours(24 * 30);

/// A token, as far as it is known.
#[derive(Debug, Clone)]
pub struct Token {
    /// What certificates will name.
    pub identity: String,
    /// It can no longer be used.
    pub expired: bool,
    /// The key that it was used for.
    pub key_digest: Option<Vec<u8>>,
}

/// Remembers a new token; answers when it expires. Forgets those that expired long ago.
pub async fn create(
    client: &impl GenericClient,
    token_digest: &[u8],
    identity: &str,
    lifetime: Duration,
) -> Result<SystemTime, StoreError> {
    let statement = client
        .prepare_cached(
            "WITH forgotten AS (
                 DELETE FROM enrolment_tokens WHERE expire_time < now() - $4::float8 * interval '1 second'
             )
             INSERT INTO enrolment_tokens (token_digest, identity, expire_time)
             VALUES ($1, $2, now() + $3::float8 * interval '1 second')
             RETURNING expire_time",
        )
        .await?;
    let row = client
        .query_one(
            &statement,
            &[
                &token_digest,
                &identity,
                &lifetime.as_secs_f64(),
                &REMEMBERED.as_secs_f64(),
            ],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Looks a token up. `None`: there is none.
pub async fn find(
    client: &impl GenericClient,
    token_digest: &[u8],
) -> Result<Option<Token>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT identity, expire_time <= now(), key_digest
             FROM enrolment_tokens WHERE token_digest = $1",
        )
        .await?;
    let Some(row) = client.query_opt(&statement, &[&token_digest]).await? else {
        return Ok(None);
    };
    Ok(Some(Token {
        identity: row.try_get(0)?,
        expired: row.try_get(1)?,
        key_digest: row.try_get(2)?,
    }))
}

/// Uses a token for a key. False: another key was first, or the time is over.
pub async fn claim(
    client: &impl GenericClient,
    token_digest: &[u8],
    key_digest: &[u8],
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "UPDATE enrolment_tokens
             SET key_digest = $2, use_time = coalesce(use_time, now())
             WHERE token_digest = $1 AND expire_time > now()
               AND (key_digest IS NULL OR key_digest = $2)",
        )
        .await?;
    Ok(client
        .execute(&statement, &[&token_digest, &key_digest])
        .await?
        == 1)
}
