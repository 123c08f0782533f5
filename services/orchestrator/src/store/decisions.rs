//! Questions about decisions.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::id::{DecisionId, WorkflowId};

use super::StoreError;
use super::connection::GenericClient;

/// A decision as it is stored.
#[derive(Debug, Clone)]
pub struct StoredDecision {
    /// Decision.
    pub decision_id: DecisionId,
    /// Namespace.
    pub namespace: String,
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Stage.
    pub stage: String,
    /// The request, encoded.
    pub request: Vec<u8>,
    /// When it was asked.
    pub create_time: SystemTime,
    /// When it is rejected by itself.
    pub expire_time: SystemTime,
    /// When it was resolved.
    pub resolve_time: Option<SystemTime>,
    /// How, as in the contract.
    pub resolution: i16,
    /// Choice.
    pub choice: String,
    /// Rationale.
    pub rationale: String,
    /// Who.
    pub actor: String,
}

/// What becomes of a decision.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is asked.
    Ask(StoredDecision),
    /// It is resolved.
    Resolve {
        /// Decision.
        decision_id: DecisionId,
        /// When.
        time: SystemTime,
        /// How, as in the contract.
        resolution: i16,
        /// Choice.
        choice: String,
        /// Rationale.
        rationale: String,
        /// Who.
        actor: String,
    },
}

/// Writes a change.
pub async fn write(client: &impl GenericClient, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Ask(decision) => {
            let statement = client
                .prepare_cached(
                    "INSERT INTO decisions (decision_id, namespace, workflow_id, stage, request,
                         create_time, expire_time, resolve_time, resolution, choice, rationale, actor)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                )
                .await?;
            client
                .execute(
                    &statement,
                    &[
                        &decision.decision_id.0,
                        &decision.namespace,
                        &decision.workflow_id.0,
                        &decision.stage,
                        &decision.request,
                        &decision.create_time,
                        &decision.expire_time,
                        &decision.resolve_time,
                        &decision.resolution,
                        &decision.choice,
                        &decision.rationale,
                        &decision.actor,
                    ],
                )
                .await?;
        }
        Change::Resolve {
            decision_id,
            time,
            resolution,
            choice,
            rationale,
            actor,
        } => {
            let statement = client
                .prepare_cached(
                    "UPDATE decisions SET resolve_time = $2, resolution = $3, choice = $4,
                            rationale = $5, actor = $6
                     WHERE decision_id = $1 AND resolve_time IS NULL",
                )
                .await?;
            client
                .execute(
                    &statement,
                    &[&decision_id.0, time, resolution, choice, rationale, actor],
                )
                .await?;
        }
    }
    Ok(())
}

const COLUMNS: &str = "decision_id, namespace, workflow_id, stage, request, create_time,
    expire_time, resolve_time, resolution, choice, rationale, actor";

/// One decision.
pub async fn get(
    client: &impl GenericClient,
    namespace: &str,
    decision_id: DecisionId,
) -> Result<Option<StoredDecision>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM decisions WHERE decision_id = $1 AND namespace = $2"
        ))
        .await?;
    let row = client
        .query_opt(&statement, &[&decision_id.0, &namespace])
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of decisions, oldest first, and how many match.
pub async fn list(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: Option<WorkflowId>,
    include_resolved: bool,
    after: Option<DecisionId>,
    limit: i64,
) -> Result<(Vec<StoredDecision>, i64), StoreError> {
    const WHERE: &str = "namespace = $1 AND ($2::uuid IS NULL OR workflow_id = $2)
        AND ($3 OR resolve_time IS NULL)";
    let workflow_id = workflow_id.map(|id| id.0);
    let after = after.map(|id| id.0);
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM decisions WHERE {WHERE}
             AND ($4::uuid IS NULL OR decision_id > $4) ORDER BY decision_id LIMIT $5"
        ))
        .await?;
    let rows = client
        .query(
            &statement,
            &[&namespace, &workflow_id, &include_resolved, &after, &limit],
        )
        .await?;
    let statement = client
        .prepare_cached(&format!("SELECT count(*) FROM decisions WHERE {WHERE}"))
        .await?;
    let count = client
        .query_one(&statement, &[&namespace, &workflow_id, &include_resolved])
        .await?
        .try_get(0)?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, count))
}

/// Open decisions whose time ran out.
pub async fn expired(
    client: &impl GenericClient,
    now: SystemTime,
    limit: i64,
) -> Result<Vec<StoredDecision>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM decisions WHERE resolve_time IS NULL AND expire_time < $1
             LIMIT $2"
        ))
        .await?;
    client
        .query(&statement, &[&now, &limit])
        .await?
        .iter()
        .map(read)
        .collect()
}

fn read(row: &Row) -> Result<StoredDecision, StoreError> {
    Ok(StoredDecision {
        decision_id: DecisionId(row.try_get(0)?),
        namespace: row.try_get(1)?,
        workflow_id: WorkflowId(row.try_get(2)?),
        stage: row.try_get(3)?,
        request: row.try_get(4)?,
        create_time: row.try_get(5)?,
        expire_time: row.try_get(6)?,
        resolve_time: row.try_get(7)?,
        resolution: row.try_get(8)?,
        choice: row.try_get(9)?,
        rationale: row.try_get(10)?,
        actor: row.try_get(11)?,
    })
}
