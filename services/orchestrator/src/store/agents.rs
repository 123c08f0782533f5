//! Questions about agents: what each replica knows of those that are connected to it.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use contracts::id::InstanceId;

use super::StoreError;
use super::connection::GenericClient;

/// What a replica knows of an agent.
#[derive(Debug)]
pub struct AgentRow {
    /// Agent.
    pub instance_id: InstanceId,
    /// Its session is open.
    pub connected: bool,
    /// It gets no new work.
    pub draining: bool,
    /// When its session began.
    pub connect_time: SystemTime,
    /// As clients see it.
    pub agent: Vec<u8>,
}

/// What any replica knows of an agent.
#[derive(Debug)]
pub struct KnownAgent {
    /// Agent.
    pub instance_id: InstanceId,
    /// Its replica.
    pub replica_id: String,
    /// Its replica lives.
    pub replica_lives: bool,
    /// Somebody asked for it to get no new work.
    pub draining: bool,
    /// As clients see it.
    pub agent: Vec<u8>,
}

/// Writes down what a replica knows of its agents; an agent that is connected to another one by now
/// is left alone. Answers which of them are to be drained.
pub async fn write(
    client: &impl GenericClient,
    replica_id: &str,
    rows: &[AgentRow],
) -> Result<Vec<InstanceId>, StoreError> {
    let ids: Vec<_> = rows.iter().map(|row| row.instance_id.0).collect();
    let connected: Vec<_> = rows.iter().map(|row| row.connected).collect();
    let draining: Vec<_> = rows.iter().map(|row| row.draining).collect();
    let times: Vec<_> = rows.iter().map(|row| row.connect_time).collect();
    let agents: Vec<_> = rows.iter().map(|row| row.agent.as_slice()).collect();
    let statement = client
        .prepare_cached(
            "INSERT INTO agents
             SELECT n.instance_id, $1, n.connected, n.draining, n.connect_time, now(), n.agent
             FROM unnest($2::uuid[], $3::bool[], $4::bool[], $5::timestamptz[], $6::bytea[])
                 AS n(instance_id, connected, draining, connect_time, agent)
             ORDER BY n.instance_id
             ON CONFLICT (instance_id) DO UPDATE SET replica_id = excluded.replica_id,
                 connected = excluded.connected, draining = agents.draining OR excluded.draining,
                 connect_time = excluded.connect_time, update_time = excluded.update_time,
                 agent = excluded.agent
             WHERE agents.replica_id = excluded.replica_id
                OR (excluded.connected AND excluded.connect_time >= agents.connect_time)
             RETURNING instance_id, draining",
        )
        .await?;
    let rows = client
        .query(
            &statement,
            &[&replica_id, &ids, &connected, &draining, &times, &agents],
        )
        .await?;
    let mut drained = Vec::new();
    for row in rows {
        if row.try_get(1)? {
            drained.push(InstanceId(row.try_get(0)?));
        }
    }
    Ok(drained)
}

/// All agents, or one. A replica that was not heard of for `alive` is dead.
pub async fn list(
    client: &impl GenericClient,
    instance_id: Option<InstanceId>,
    alive: Duration,
) -> Result<Vec<KnownAgent>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT a.instance_id, a.replica_id, a.draining, a.agent,
                    coalesce(r.renew_time > now() - $2::float8 * interval '1 second', false)
             FROM agents a LEFT JOIN replicas r USING (replica_id)
             WHERE $1::uuid IS NULL OR a.instance_id = $1",
        )
        .await?;
    let id: Option<Uuid> = instance_id.map(|id| id.0);
    let rows = client
        .query(&statement, &[&id, &alive.as_secs_f64()])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(KnownAgent {
                instance_id: InstanceId(row.try_get(0)?),
                replica_id: row.try_get(1)?,
                draining: row.try_get(2)?,
                agent: row.try_get(3)?,
                replica_lives: row.try_get(4)?,
            })
        })
        .collect()
}

/// Asks for an agent to be drained by whichever replica it is connected to. False: nobody knows it.
pub async fn drain(
    client: &impl GenericClient,
    instance_id: InstanceId,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached("UPDATE agents SET draining = true WHERE instance_id = $1")
        .await?;
    Ok(client.execute(&statement, &[&instance_id.0]).await? > 0)
}

/// Forgets agents that nobody heard of for so long.
pub async fn forget(client: &impl GenericClient, kept: Duration) -> Result<u64, StoreError> {
    let statement = client
        .prepare_cached(
            "DELETE FROM agents WHERE update_time < now() - $1::float8 * interval '1 second'",
        )
        .await?;
    client.execute(&statement, &[&kept.as_secs_f64()]).await
}
