//! Eras: ranges of workflow ids with tables of their own, so that finished history is dropped whole.
//! Whatever changes the tables takes them all for a moment, or gives up soon: nobody else waits long.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::StoreError;
use super::connection::{Client, GenericClient, Transaction};

// Everything that grows with finished history, and how it is stored. A migration that adds a table here makes
// it for the eras that are there.
const TABLES: [(&str, &str); 7] = [
    (
        "workflows",
        "WITH (fillfactor = 70, toast_tuple_target = 8160)",
    ),
    ("submissions", ""),
    ("results", ""),
    ("events", ""),
    ("attempts", ""),
    ("decisions", ""),
    ("clarifications", ""),
];

// Statements of others queue behind us while we wait.
const LOCK: Duration = Duration::from_millis(300);
// Who changes the eras, one at a time. Any number that nobody else uses: "eras".
const CHANGES: i64 = 0x6572_6173;

/// An era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era {
    /// Number.
    pub era: i32,
    /// Its workflows have ids from this one on.
    pub first_id: Uuid,
    /// And before this one; `None`: whatever comes.
    pub end_id: Option<Uuid>,
    /// It is only to be dropped.
    pub detached: bool,
}

/// What became of an era that might have passed retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Its tables are no part of the others any more.
    Detached,
    /// Workflows of it ended not long enough ago, or somebody else has done it.
    NotYet,
    /// It is old enough, but so many of its workflows have not ended.
    Lives(i64),
    /// Others used its tables for too long, or changed the eras at the same moment.
    Busy,
}

/// All eras, in order.
pub async fn all(client: &impl GenericClient) -> Result<Vec<Era>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT era, first_id, end_id, detach_time IS NOT NULL FROM eras ORDER BY first_id",
        )
        .await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Era, StoreError> {
    Ok(Era {
        era: row.try_get(0)?,
        first_id: row.try_get(1)?,
        end_id: row.try_get(2)?,
        detached: row.try_get(3)?,
    })
}

/// Makes the next era when the open one begins sooner than in `length`. False: there is no need, or
/// it could not be done now, and the open era goes on taking whatever comes.
pub async fn open_next(client: &mut Client, length: Duration) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    let opened = match open(&transaction, length.as_secs_f64()).await {
        Ok(opened) => opened,
        Err(error) if is_busy(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    if opened {
        transaction.commit().await?;
    }
    Ok(opened)
}

async fn open(transaction: &Transaction<'_>, length: f64) -> Result<bool, StoreError> {
    if !is_alone(transaction).await? {
        return Ok(false);
    }
    let due = transaction
        .query_opt(
            "SELECT era, first_id, (SELECT max(era) FROM eras) + 1 FROM eras
             WHERE end_id IS NULL AND first_id < first_id_at(now() + $1 * interval '1 s')",
            &[&length],
        )
        .await?;
    let Some(due) = due else { return Ok(false) };
    let (era, first_id, next): (i32, Uuid, i32) =
        (due.try_get(0)?, due.try_get(1)?, due.try_get(2)?);
    take_all(transaction).await?;
    // What came already stays where it is.
    let end_id: Uuid = transaction
        .query_one(
            &format!(
                "SELECT greatest(
                     first_id_at(greatest(time_of_id($1), now()) + $2 * interval '1 s'),
                     (SELECT first_id_at(time_of_id(workflow_id) + interval '1 ms')
                      FROM workflows_era_{era} ORDER BY workflow_id DESC LIMIT 1))"
            ),
            &[&first_id, &length],
        )
        .await?
        .try_get(0)?;
    for (table, storage) in TABLES {
        transaction
            .batch_execute(&format!(
                "ALTER TABLE {table} DETACH PARTITION {table}_era_{era};
                 ALTER TABLE {table} ATTACH PARTITION {table}_era_{era}
                     FOR VALUES FROM ('{first_id}') TO ('{end_id}');
                 CREATE TABLE {table}_era_{next} PARTITION OF {table}
                     FOR VALUES FROM ('{end_id}') TO (MAXVALUE) {storage}"
            ))
            .await?;
    }
    transaction
        .execute(
            "UPDATE eras SET end_id = $2 WHERE era = $1",
            &[&era, &end_id],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO eras (era, first_id) VALUES ($1, $2)",
            &[&next, &end_id],
        )
        .await?;
    Ok(true)
}

/// Takes an era out of the tables, when all of its workflows ended longer ago than the retention.
pub async fn detach(
    client: &mut Client,
    era: i32,
    retention: Duration,
) -> Result<Passed, StoreError> {
    // Without a lock first: most eras are not old enough, and some still live.
    match passed(client, era, retention).await {
        Ok(Passed::Detached) => {}
        Err(error) if is_busy(&error) => return Ok(Passed::Busy),
        not => return not,
    }
    let transaction = client.transaction().await?;
    let passed = match detach_alone(&transaction, era, retention).await {
        Ok(passed) => passed,
        Err(error) if is_busy(&error) => return Ok(Passed::Busy),
        Err(error) => return Err(error),
    };
    if passed == Passed::Detached {
        transaction.commit().await?;
    }
    Ok(passed)
}

async fn detach_alone(
    transaction: &Transaction<'_>,
    era: i32,
    retention: Duration,
) -> Result<Passed, StoreError> {
    if !is_alone(transaction).await? {
        return Ok(Passed::Busy);
    }
    take_all(transaction).await?;
    // Somebody may have gone on with one of its workflows, or detached it.
    let passed = passed(transaction, era, retention).await?;
    if passed != Passed::Detached {
        return Ok(passed);
    }
    for (table, _) in TABLES {
        transaction
            .batch_execute(&format!(
                "ALTER TABLE {table} DETACH PARTITION {table}_era_{era}"
            ))
            .await?;
    }
    let noted = "UPDATE eras SET detach_time = now() WHERE era = $1";
    transaction.execute(noted, &[&era]).await?;
    Ok(passed)
}

// Whether it may be detached. An era that new workflows could still belong to may not.
async fn passed(
    client: &impl GenericClient,
    era: i32,
    retention: Duration,
) -> Result<Passed, StoreError> {
    let seconds = retention.as_secs_f64();
    let over = client
        .query_opt(
            "SELECT FROM eras WHERE era = $1 AND detach_time IS NULL
             AND end_id <= first_id_at(now() - $2 * interval '1 s')",
            &[&era, &seconds],
        )
        .await?;
    if over.is_none() {
        return Ok(Passed::NotYet);
    }
    let row = client
        .query_one(
            &format!(
                "SELECT (SELECT count(*) FROM workflows_era_{era} WHERE end_time IS NULL),
                        EXISTS (SELECT FROM workflows_era_{era}
                                WHERE end_time > now() - $1 * interval '1 s')"
            ),
            &[&seconds],
        )
        .await?;
    let (live, young): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (live, young) {
        (0, false) => Passed::Detached,
        (0, true) => Passed::NotYet,
        (live, _) => Passed::Lives(live),
    })
}

/// Drops the tables of a detached era, and forgets it. Nobody waits: nobody sees them any more. False:
/// somebody else did.
pub async fn drop_detached(client: &mut Client, era: i32) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    // The row is whose turn it is.
    let forgotten = "DELETE FROM eras WHERE era = $1 AND detach_time IS NOT NULL";
    if transaction.execute(forgotten, &[&era]).await? == 0 {
        return Ok(false);
    }
    let tables: Vec<_> = TABLES
        .iter()
        .map(|(table, _)| format!("{table}_era_{era}"))
        .collect();
    transaction
        .batch_execute(&format!("DROP TABLE {}", tables.join(", ")))
        .await?;
    transaction.commit().await?;
    Ok(true)
}

async fn is_alone(transaction: &Transaction<'_>) -> Result<bool, StoreError> {
    let row = transaction
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&CHANGES])
        .await?;
    Ok(row.try_get(0)?)
}

async fn take_all(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let tables: Vec<_> = TABLES
        .iter()
        .map(|(table, _)| format!("ONLY {table}"))
        .collect();
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            LOCK.as_millis(),
            tables.join(", ")
        ))
        .await
}

fn is_busy(error: &StoreError) -> bool {
    let StoreError::Statement(error) = error else {
        return false;
    };
    [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        // Somebody else dropped it at this moment.
        SqlState::UNDEFINED_TABLE,
    ]
    .iter()
    .any(|code| error.code() == Some(code))
}
