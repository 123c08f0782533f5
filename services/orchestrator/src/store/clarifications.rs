//! Questions about clarifications.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::id::{ClarificationId, WorkflowId};

use super::StoreError;
use super::connection::GenericClient;

/// A clarification as it is stored.
#[derive(Debug, Clone)]
pub struct StoredClarification {
    /// Clarification.
    pub clarification_id: ClarificationId,
    /// Namespace.
    pub namespace: String,
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Stage; empty: asked at intake.
    pub stage: String,
    /// The question.
    pub question: String,
    /// Kind of answer, as in the contract.
    pub kind: i16,
    /// Choices.
    pub choices: Vec<String>,
    /// Which round.
    pub round: i32,
    /// When it was asked.
    pub create_time: SystemTime,
    /// When it is given up.
    pub expire_time: SystemTime,
    /// When it was answered.
    pub answer_time: Option<SystemTime>,
    /// The answer.
    pub answer: String,
    /// Who.
    pub actor: String,
}

/// What becomes of a clarification.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is asked.
    Ask(StoredClarification),
    /// It is answered, or given up when the answer is empty.
    Answer {
        /// Clarification.
        clarification_id: ClarificationId,
        /// When.
        time: SystemTime,
        /// The answer.
        answer: String,
        /// Who.
        actor: String,
    },
}

/// Writes a change.
pub async fn write(client: &impl GenericClient, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Ask(asked) => {
            let statement = client
                .prepare_cached(
                    "INSERT INTO clarifications (clarification_id, namespace, workflow_id, stage,
                         question, kind, choices, round, create_time, expire_time)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                )
                .await?;
            client
                .execute(
                    &statement,
                    &[
                        &asked.clarification_id.0,
                        &asked.namespace,
                        &asked.workflow_id.0,
                        &asked.stage,
                        &asked.question,
                        &asked.kind,
                        &asked.choices,
                        &asked.round,
                        &asked.create_time,
                        &asked.expire_time,
                    ],
                )
                .await?;
        }
        Change::Answer {
            clarification_id,
            time,
            answer,
            actor,
        } => {
            let statement = client
                .prepare_cached(
                    "UPDATE clarifications SET answer_time = $2, answer = $3, actor = $4
                     WHERE clarification_id = $1 AND answer_time IS NULL",
                )
                .await?;
            client
                .execute(&statement, &[&clarification_id.0, time, answer, actor])
                .await?;
        }
    }
    Ok(())
}

const COLUMNS: &str = "clarification_id, namespace, workflow_id, stage, question, kind, choices,
    round, create_time, expire_time, answer_time, answer, actor";

/// One clarification.
pub async fn get(
    client: &impl GenericClient,
    namespace: &str,
    clarification_id: ClarificationId,
) -> Result<Option<StoredClarification>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM clarifications WHERE clarification_id = $1 AND namespace = $2"
        ))
        .await?;
    let row = client
        .query_opt(&statement, &[&clarification_id.0, &namespace])
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of clarifications, oldest first, and how many match.
pub async fn list(
    client: &impl GenericClient,
    namespace: &str,
    workflow_id: Option<WorkflowId>,
    include_answered: bool,
    after: Option<ClarificationId>,
    limit: i64,
) -> Result<(Vec<StoredClarification>, i64), StoreError> {
    const WHERE: &str = "namespace = $1 AND ($2::uuid IS NULL OR workflow_id = $2)
        AND ($3 OR answer_time IS NULL)";
    let workflow_id = workflow_id.map(|id| id.0);
    let after = after.map(|id| id.0);
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM clarifications WHERE {WHERE}
             AND ($4::uuid IS NULL OR clarification_id > $4) ORDER BY clarification_id LIMIT $5"
        ))
        .await?;
    let rows = client
        .query(
            &statement,
            &[&namespace, &workflow_id, &include_answered, &after, &limit],
        )
        .await?;
    let statement = client
        .prepare_cached(&format!(
            "SELECT count(*) FROM clarifications WHERE {WHERE}"
        ))
        .await?;
    let count = client
        .query_one(&statement, &[&namespace, &workflow_id, &include_answered])
        .await?
        .try_get(0)?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, count))
}

/// Open clarifications whose time ran out.
pub async fn expired(
    client: &impl GenericClient,
    now: SystemTime,
    limit: i64,
) -> Result<Vec<StoredClarification>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM clarifications WHERE answer_time IS NULL AND expire_time < $1
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

fn read(row: &Row) -> Result<StoredClarification, StoreError> {
    Ok(StoredClarification {
        clarification_id: ClarificationId(row.try_get(0)?),
        namespace: row.try_get(1)?,
        workflow_id: WorkflowId(row.try_get(2)?),
        stage: row.try_get(3)?,
        question: row.try_get(4)?,
        kind: row.try_get(5)?,
        choices: row.try_get(6)?,
        round: row.try_get(7)?,
        create_time: row.try_get(8)?,
        expire_time: row.try_get(9)?,
        answer_time: row.try_get(10)?,
        answer: row.try_get(11)?,
        actor: row.try_get(12)?,
    })
}
