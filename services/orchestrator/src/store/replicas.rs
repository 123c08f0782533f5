//! Which orchestrator processes are alive.

use std::time::{Duration, SystemTime};

use super::StoreError;
use super::connection::GenericClient;

/// Says that a replica is alive; answers the database's clock and how many others are.
pub async fn renew(
    client: &impl GenericClient,
    replica_id: &str,
    alive: Duration,
) -> Result<(SystemTime, i64), StoreError> {
    let statement = client
        .prepare_cached(
            "WITH renewed AS (
                 INSERT INTO replicas (replica_id, start_time, renew_time) VALUES ($1, now(), now())
                 ON CONFLICT (replica_id) DO UPDATE SET renew_time = now()
             )
             SELECT clock_timestamp(),
                    (SELECT count(*) FROM replicas
                     WHERE replica_id <> $1 AND renew_time > now() - $2::float8 * interval '1 second')",
        )
        .await?;
    let row = client
        .query_one(&statement, &[&replica_id, &alive.as_secs_f64()])
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// A replica is gone.
pub async fn remove(client: &impl GenericClient, replica_id: &str) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached("DELETE FROM replicas WHERE replica_id = $1")
        .await?;
    client.execute(&statement, &[&replica_id]).await?;
    Ok(())
}
