//! Certificates of agents: which were issued, and which are refused before their end. What was renewed from a
//! certificate is ended with it: whoever has a stolen one may have renewed it.

use std::collections::HashSet;
use std::time::SystemTime;

use super::StoreError;
use super::connection::{Client, GenericClient};

/// Remembers a new certificate. `shown` is the serial number of the one that it was asked for with. False: that
/// one was revoked, or this one.
pub async fn issue(
    client: &mut Client,
    serial: &str,
    identity: &str,
    shown: Option<&str>,
    expire_time: SystemTime,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    // Of one identity, issuing and revoking take turns: none slips through.
    lock(&transaction, identity).await?;
    let statement = transaction
        .prepare_cached(
            "WITH forgotten AS (
                 DELETE FROM certificates WHERE expire_time < now() - interval '1 day'
             ), origin AS (
                 SELECT coalesce((SELECT origin FROM certificates WHERE serial = $3), $3, $1) AS serial
             )
             INSERT INTO certificates (serial, identity, origin, expire_time)
             SELECT $1, $2, origin.serial, $4 FROM origin
             WHERE NOT EXISTS (
                 SELECT FROM certificates
                 WHERE certificates.origin = origin.serial AND revoke_time IS NOT NULL
             )
             ON CONFLICT (serial) DO UPDATE SET expire_time = excluded.expire_time
             WHERE certificates.revoke_time IS NULL",
        )
        .await?;
    let issued = transaction
        .execute(&statement, &[&serial, &identity, &shown, &expire_time])
        .await?;
    transaction.commit().await?;
    Ok(issued == 1)
}

/// Revokes a certificate, and what was renewed from the one that it began with; answers with all serial numbers.
pub async fn revoke(
    client: &mut Client,
    serial: &str,
    identity: &str,
    expire_time: SystemTime,
) -> Result<Vec<String>, StoreError> {
    let transaction = client.transaction().await?;
    lock(&transaction, identity).await?;
    // One that the authority issued elsewhere is not known here yet.
    let statement = transaction
        .prepare_cached(
            "INSERT INTO certificates (serial, identity, origin, expire_time) VALUES ($1, $2, $1, $3)
             ON CONFLICT (serial) DO NOTHING",
        )
        .await?;
    transaction
        .execute(&statement, &[&serial, &identity, &expire_time])
        .await?;
    let statement = transaction
        .prepare_cached(
            "UPDATE certificates SET revoke_time = coalesce(revoke_time, now())
             WHERE origin = (SELECT origin FROM certificates WHERE serial = $1)
             RETURNING serial",
        )
        .await?;
    let rows = transaction.query(&statement, &[&serial]).await?;
    transaction.commit().await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Revokes all certificates that were issued for an identity so far; answers with their serial numbers.
pub async fn revoke_all(client: &mut Client, identity: &str) -> Result<Vec<String>, StoreError> {
    let transaction = client.transaction().await?;
    lock(&transaction, identity).await?;
    let statement = transaction
        .prepare_cached(
            "UPDATE certificates SET revoke_time = coalesce(revoke_time, now())
             WHERE identity = $1 RETURNING serial",
        )
        .await?;
    let rows = transaction.query(&statement, &[&identity]).await?;
    transaction.commit().await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Serial numbers of all that are refused.
pub async fn revoked(client: &impl GenericClient) -> Result<HashSet<String>, StoreError> {
    let statement = client
        .prepare_cached("SELECT serial FROM certificates WHERE revoke_time IS NOT NULL")
        .await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn lock(client: &impl GenericClient, identity: &str) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT pg_advisory_xact_lock(hashtextextended('certificates of ' || $1::text, 0))",
        )
        .await?;
    client.query(&statement, &[&identity]).await?;
    Ok(())
}
