//! Group commit: transitions of many workflows in one statement and one durable commit. Each is
//! guarded by its workflow's row version: the losers of a race fail alone.

use std::collections::HashSet;
use std::time::SystemTime;

use serde_json::Value;
use uuid::Uuid;

use contracts::id::WorkflowId;

use super::columns::Columns;
use super::connection::{Client, GenericClient, Transaction};
use super::requests::RequestRow;
use super::{StoreError, clarifications, decisions, workflows};

/// What becomes of a workflow's row.
#[derive(Debug, Clone)]
pub struct WorkflowRow {
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Namespace.
    pub namespace: String,
    /// Version that the row must have now; zero: it must not be there.
    pub expected_version: i64,
    /// State, as in the contract.
    pub state: i16,
    /// Kind, as in the contract.
    pub workflow_type: i16,
    /// Name.
    pub name: String,
    /// Priority, as in the contract.
    pub priority: i16,
    /// Labels as a JSON object.
    pub labels: Value,
    /// Environment.
    pub environment: String,
    /// When it was taken in.
    pub create_time: SystemTime,
    /// When it ended.
    pub end_time: Option<SystemTime>,
    /// When it is given up.
    pub deadline: SystemTime,
    /// Sequence of its newest event.
    pub last_sequence: i64,
    /// Everything that changes.
    pub live: Vec<u8>,
}

/// What was asked for; only at creation.
#[derive(Debug, Clone)]
pub struct SubmissionRow {
    /// The request.
    pub request: Vec<u8>,
    /// The pipeline, in the version that holds.
    pub pipeline: Vec<u8>,
    /// Trace of the call.
    pub traceparent: String,
}

/// An event of the log.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// Sequence.
    pub sequence: i64,
    /// When.
    pub time: SystemTime,
    /// Stage; empty: none.
    pub stage: String,
    /// The event.
    pub event: Vec<u8>,
}

/// A task that waits or is leased.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// Task.
    pub task_id: Uuid,
    /// Stage.
    pub stage: String,
    /// Agent type, as in the contract.
    pub agent_type: i16,
    /// Somebody has it.
    pub leased: bool,
    /// Epoch.
    pub lease_epoch: i64,
    /// Replica that drives it; empty: none.
    pub owner: String,
    /// Agent that has it.
    pub instance_id: Option<Uuid>,
    /// Where that agent is called.
    pub address: String,
    /// Until when.
    pub lease_expires: Option<SystemTime>,
    /// Not before.
    pub ready_time: SystemTime,
    /// `ready_time` less the priority's advantage.
    pub order_time: SystemTime,
    /// When waiting is given up.
    pub start_deadline: SystemTime,
    /// Of the tasks with one key, one is leased at a time. Empty: none.
    pub concurrency_key: String,
}

/// An attempt that is over.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Stage.
    pub stage: String,
    /// Which attempt.
    pub attempt: i32,
    /// Task.
    pub task_id: Uuid,
    /// Epoch.
    pub lease_epoch: i64,
    /// Agent.
    pub instance_id: Option<Uuid>,
    /// How it ended, in a word.
    pub ending: String,
    /// Why.
    pub reason: String,
    /// When it started.
    pub start_time: Option<SystemTime>,
    /// When it ended.
    pub end_time: SystemTime,
}

/// Everything that changes with one step of one workflow.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The workflow's row.
    pub workflow: WorkflowRow,
    /// Only at creation.
    pub submission: Option<SubmissionRow>,
    /// At creation: as many workflows of the namespace may live, and it is not sure that fewer do. Needs
    /// [`commit_rare`].
    pub quota: Option<i64>,
    /// New events.
    pub events: Vec<EventRow>,
    /// Tasks that are new or changed.
    pub tasks: Vec<TaskRow>,
    /// Tasks that are gone.
    pub gone_tasks: Vec<Uuid>,
    /// New results: stage and bytes.
    pub results: Vec<(String, Vec<u8>)>,
    /// Attempts that are over.
    pub attempts: Vec<AttemptRow>,
    /// Decisions asked or resolved.
    pub decisions: Vec<decisions::Change>,
    /// Clarifications asked or answered.
    pub clarifications: Vec<clarifications::Change>,
    /// The call that caused it, when it has a request id.
    pub request: Option<RequestRow>,
}

impl Transition {
    /// Whether it needs [`commit_rare`].
    pub fn is_rare(&self) -> bool {
        !self.decisions.is_empty() || !self.clarifications.is_empty()
    }
}

const STATEMENT: &str = "
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::int8[], $4::int2[], $5::int2[], $6::text[],
                         $7::int2[], $8::jsonb[], $9::text[], $10::timestamptz[],
                         $11::timestamptz[], $12::timestamptz[], $13::int8[], $14::bytea[], $53::bool[])
        AS w(workflow_id, namespace, expected, state, type, name, priority, labels, environment,
             create_time, end_time, deadline, last_sequence, live, requested)
), new_tasks_wanted AS (
    SELECT * FROM unnest($24::uuid[], $25::text[], $26::uuid[], $27::text[], $28::int2[],
                         $29::bool[], $30::int8[], $31::text[], $32::uuid[], $33::text[],
                         $34::timestamptz[], $35::timestamptz[], $36::timestamptz[],
                         $37::timestamptz[], $61::text[])
        AS n(task_id, namespace, workflow_id, stage, agent_type, leased, lease_epoch, owner,
             instance_id, address, lease_expires, ready_time, order_time, start_deadline,
             concurrency_key)
), keyed AS (
    SELECT *, row_number() OVER (PARTITION BY namespace, concurrency_key
                                 ORDER BY order_time, task_id) > 1 AS second
    FROM new_tasks_wanted WHERE leased AND concurrency_key <> ''
), blocked AS (
    -- Its key is held, or is the turn of a task that waits for longer.
    SELECT DISTINCT workflow_id FROM keyed
    WHERE second
       OR EXISTS (SELECT 1 FROM tasks t
                  WHERE t.leased AND t.concurrency_key <> '' AND t.namespace = keyed.namespace
                    AND t.concurrency_key = keyed.concurrency_key AND t.task_id <> keyed.task_id)
       OR EXISTS (SELECT 1 FROM tasks t
                  WHERE NOT t.leased AND t.concurrency_key <> '' AND t.namespace = keyed.namespace
                    AND t.concurrency_key = keyed.concurrency_key
                    AND t.agent_type = keyed.agent_type AND t.order_time < keyed.order_time
                    AND t.ready_time <= now() AND t.task_id <> keyed.task_id)
), new_requests AS (
    INSERT INTO requests
    SELECT namespace, request_id, method, content, subject, create_time
    FROM unnest($54::uuid[], $55::text[], $56::text[], $57::text[], $58::bytea[], $59::text[],
                $60::timestamptz[])
        AS n(workflow_id, namespace, request_id, method, content, subject, create_time)
    WHERE workflow_id NOT IN (SELECT workflow_id FROM blocked)
    ON CONFLICT DO NOTHING
    RETURNING namespace, request_id
), first AS (
    -- Whoever repeats a request finds the answer of the first, and changes nothing.
    SELECT n.workflow_id
    FROM unnest($54::uuid[], $55::text[], $56::text[]) AS n(workflow_id, namespace, request_id)
    JOIN new_requests USING (namespace, request_id)
), created AS (
    INSERT INTO workflows
    SELECT workflow_id, namespace, 1, state, type, name, priority, labels, environment,
           create_time, end_time, deadline, last_sequence, live
    FROM wanted
    WHERE expected = 0 AND workflow_id NOT IN (SELECT workflow_id FROM blocked)
      AND (NOT requested OR workflow_id IN (SELECT workflow_id FROM first))
    ON CONFLICT DO NOTHING
    RETURNING workflow_id
), changed AS (
    UPDATE workflows SET version = workflows.version + 1, state = wanted.state,
           priority = wanted.priority, end_time = wanted.end_time, deadline = wanted.deadline,
           last_sequence = wanted.last_sequence, live = wanted.live
    FROM wanted
    -- By the parameter, so that only the eras of these workflows are opened, whatever the plan is.
    WHERE workflows.workflow_id = ANY($1) AND workflows.workflow_id = wanted.workflow_id
      AND workflows.version = wanted.expected
      AND wanted.expected > 0
      AND wanted.workflow_id NOT IN (SELECT workflow_id FROM blocked)
      AND (NOT wanted.requested OR wanted.workflow_id IN (SELECT workflow_id FROM first))
    RETURNING workflows.workflow_id
), done AS (
    SELECT workflow_id FROM created UNION ALL SELECT workflow_id FROM changed
), new_submissions AS (
    INSERT INTO submissions
    SELECT n.* FROM unnest($15::uuid[], $16::bytea[], $17::bytea[], $18::text[])
        AS n(workflow_id, request, pipeline, traceparent)
    JOIN done USING (workflow_id)
), new_events AS (
    INSERT INTO events
    SELECT n.* FROM unnest($19::uuid[], $20::int8[], $21::timestamptz[], $22::text[], $23::bytea[])
        AS n(workflow_id, sequence, time, stage, event)
    JOIN done USING (workflow_id)
), new_tasks AS (
    INSERT INTO tasks (task_id, namespace, workflow_id, stage, agent_type, leased, lease_epoch,
                       owner, instance_id, address, lease_expires, ready_time, order_time,
                       start_deadline, concurrency_key)
    SELECT n.task_id, n.namespace, workflow_id, n.stage, n.agent_type, n.leased, n.lease_epoch,
           n.owner, n.instance_id, n.address, n.lease_expires, n.ready_time, n.order_time,
           n.start_deadline, n.concurrency_key
    FROM new_tasks_wanted n
    JOIN done USING (workflow_id)
    ON CONFLICT (task_id) DO UPDATE SET leased = excluded.leased,
        lease_epoch = excluded.lease_epoch, owner = excluded.owner,
        instance_id = excluded.instance_id, address = excluded.address,
        lease_expires = excluded.lease_expires, ready_time = excluded.ready_time,
        order_time = excluded.order_time, start_deadline = excluded.start_deadline,
        concurrency_key = excluded.concurrency_key, parked = false
), gone_tasks AS (
    DELETE FROM tasks USING unnest($38::uuid[], $39::uuid[]) AS n(workflow_id, task_id), done
    WHERE tasks.task_id = n.task_id AND n.workflow_id = done.workflow_id
), new_results AS (
    INSERT INTO results
    SELECT n.* FROM unnest($40::uuid[], $41::text[], $42::bytea[])
        AS n(workflow_id, stage, result)
    JOIN done USING (workflow_id)
    ON CONFLICT (workflow_id, stage) DO UPDATE SET result = excluded.result
), new_attempts AS (
    INSERT INTO attempts
    SELECT n.* FROM unnest($43::uuid[], $44::text[], $45::int4[], $46::uuid[], $47::int8[],
                         $48::uuid[], $49::text[], $50::text[], $51::timestamptz[],
                         $52::timestamptz[])
        AS n(workflow_id, stage, attempt, task_id, lease_epoch, instance_id, ending, reason,
             start_time, end_time)
    JOIN done USING (workflow_id)
    ON CONFLICT DO NOTHING
)
SELECT workflow_id, 0::int2 FROM done
UNION ALL SELECT workflow_id, 1::int2 FROM blocked
UNION ALL
-- What is over, or was the next to run, held up others with its key.
SELECT workflow_id, 2::int2 FROM (
    SELECT workflow_id, task_id FROM unnest($38::uuid[], $39::uuid[]) AS n(workflow_id, task_id)
    UNION ALL SELECT workflow_id, task_id FROM new_tasks_wanted n WHERE NOT n.leased
) AS over JOIN tasks t USING (workflow_id, task_id)
WHERE t.concurrency_key <> '' AND EXISTS (
    SELECT 1 FROM tasks w
    WHERE w.parked AND w.namespace = t.namespace AND w.concurrency_key = t.concurrency_key
    -- One look for each: no join, which could read the index of all that waits.
    OFFSET 0)";

/// What became of transitions that were asked for together.
#[derive(Debug, Default)]
pub struct Committed {
    /// These are durable. The others lost their race.
    pub done: HashSet<WorkflowId>,
    /// These would lease a task whose concurrency key is taken.
    pub blocked: HashSet<WorkflowId>,
    /// Tasks wait for a concurrency key that these gave up.
    pub freed: HashSet<WorkflowId>,
    /// As many workflows of these one's namespaces live as may.
    pub full: HashSet<WorkflowId>,
}

/// Commits the transitions whose workflow still has the expected version; says which did.
///
/// At most one transition per workflow. A request that was made before, a version that moved on, or
/// a concurrency key that is taken leaves its own transition out and no other.
pub async fn commit(
    client: &impl GenericClient,
    transitions: &[&Transition],
) -> Result<Committed, StoreError> {
    let columns = Columns::new(transitions);
    let statement = client.prepare_cached(STATEMENT).await?;
    let rows = client.query(&statement, &columns.parameters()).await?;
    let mut committed = Committed::default();
    for row in rows {
        let kind: i16 = row.try_get(1)?;
        let of_kind = match kind {
            0 => &mut committed.done,
            1 => &mut committed.blocked,
            _ => &mut committed.freed,
        };
        of_kind.insert(WorkflowId(row.try_get(0)?));
    }
    Ok(committed)
}

/// Of transitions that lost their race to somebody, finds those that lost it to themselves: they
/// were committed before, and the answer was lost.
pub async fn recognise(
    client: &impl GenericClient,
    transitions: &[&Transition],
    committed: &mut Committed,
) -> Result<(), StoreError> {
    let lost: Vec<_> = transitions
        .iter()
        .map(|transition| &transition.workflow)
        .filter(|workflow| {
            let id = &workflow.workflow_id;
            !committed.done.contains(id) && !committed.blocked.contains(id)
        })
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = lost.iter().map(|workflow| workflow.workflow_id.0).collect();
    let versions: Vec<_> = lost
        .iter()
        .map(|workflow| workflow.expected_version + 1)
        .collect();
    let lives: Vec<_> = lost.iter().map(|workflow| &workflow.live).collect();
    let statement = client
        .prepare_cached(
            "SELECT workflow_id FROM workflows
             JOIN unnest($1::uuid[], $2::int8[], $3::bytea[]) AS w(workflow_id, version, live)
             USING (workflow_id, version, live)",
        )
        .await?;
    for row in client.query(&statement, &[&ids, &versions, &lives]).await? {
        let id = WorkflowId(row.try_get(0)?);
        committed.done.insert(id);
        // Not known any more, and harmless: whoever waits for its key looks.
        committed.freed.insert(id);
    }
    Ok(())
}

// Creations that are counted, one at a time in a namespace: "quot".
const COUNTED: i32 = 0x7175_6f74;

// Whether one more workflow of the namespace may live. Nobody else counts until the transaction has ended.
async fn has_room(
    transaction: &Transaction<'_>,
    namespace: &str,
    quota: i64,
) -> Result<bool, StoreError> {
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
    let statement = transaction.prepare_cached(lock).await?;
    transaction
        .execute(&statement, &[&COUNTED, &namespace])
        .await?;
    Ok(workflows::count_living(transaction, namespace, quota).await? < quota)
}

/// Commits one transition with decisions or clarifications, or within a quota.
pub async fn commit_rare(
    client: &mut Client,
    transition: &Transition,
) -> Result<Committed, StoreError> {
    let transaction = client.transaction().await?;
    let workflow = &transition.workflow;
    if let Some(quota) = transition.quota
        && !has_room(&transaction, &workflow.namespace, quota).await?
    {
        return Ok(Committed {
            full: HashSet::from([workflow.workflow_id]),
            ..Committed::default()
        });
    }
    let committed = commit(&transaction, &[transition]).await?;
    if committed.done.is_empty() {
        return Ok(committed);
    }
    for change in &transition.decisions {
        decisions::write(&transaction, change).await?;
    }
    for change in &transition.clarifications {
        clarifications::write(&transaction, change).await?;
    }
    transaction.commit().await?;
    Ok(committed)
}
