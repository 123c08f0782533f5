//! Finished history is dropped by the era: all of it that is past retention, and nothing else.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use orchestrator::Config;
use orchestrator::artifacts::{ArtifactStore, Digest, Location};
use orchestrator::config::Retention;
use orchestrator::retention::Keeper;
use orchestrator::store::eras::{self, Passed};
use orchestrator::store::{Store, requests};
use testkit::database::{Connection, Database};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::artifact_service_client::ArtifactServiceClient;
use contracts::orchestrator::upload_artifact_request::Payload;
use contracts::orchestrator::{
    CancelWorkflowRequest, DownloadArtifactRequest, GetWorkflowRequest, UploadArtifactRequest,
    WorkflowState,
};

use crate::artifacts::bed::description;
use crate::database;
use crate::mesh::{Replica, app, assert_gapless, eventually};

mod crashes;
mod upgrade;

/// Everything that belongs to workflows.
const TABLES: [&str; 8] = [
    "workflows",
    "submissions",
    "results",
    "events",
    "attempts",
    "decisions",
    "clarifications",
    "artifacts",
];

/// So short that a test can wait for it; a sixth of it is an era.
const SOON: Duration = Duration::from_millis(1500);

fn config(database: &Database, folder: &Path) -> Config {
    Config {
        retention: Retention(Some(SOON)),
        ..Replica::config(database.connection_string(), folder)
    }
}

/// A keeper beside the replicas, for looks that a test asks for.
fn keeper(database: &Database, folder: &Path, retention: Option<Duration>) -> Keeper {
    let location = Location::Folder(folder.to_owned());
    Keeper {
        store: Store::new(database.connection_string(), 4).unwrap(),
        artifacts: ArtifactStore::open(&location, TaskTracker::new()).unwrap(),
        retention: Retention(retention),
    }
}

async fn cancel(replica: &Replica, workflow_id: &str) {
    let request = CancelWorkflowRequest {
        workflow_id: workflow_id.to_owned(),
        ..CancelWorkflowRequest::default()
    };
    replica.workflows().cancel_workflow(request).await.unwrap();
}

/// What a client gets for a workflow.
async fn look(replica: &Replica, workflow_id: &str) -> Result<WorkflowState, Error> {
    let request = GetWorkflowRequest {
        workflow_id: workflow_id.to_owned(),
    };
    match replica.workflows().get_workflow(request).await {
        Ok(got) => Ok(got.into_inner().workflow.unwrap().state()),
        Err(status) => Err(Error::from_status(&status).expect("an error of the contract")),
    }
}

async fn gone(replica: &Replica, workflow_id: &str) -> Error {
    eventually(|| look(replica, workflow_id), Result::is_err)
        .await
        .unwrap_err()
}

/// Rows of a workflow, by table; only tables that have some.
async fn rows(connection: &Connection, workflow_id: &str) -> Vec<(&'static str, i64)> {
    let id: Uuid = workflow_id.parse().unwrap();
    let mut found = Vec::new();
    for table in TABLES {
        let count = format!("SELECT count(*) FROM {table} WHERE workflow_id = $1");
        let count: i64 = connection.query_one(&count, &[&id]).await.unwrap().get(0);
        if count > 0 {
            found.push((table, count));
        }
    }
    found
}

/// The era that an id belongs to, and whether new ids may still belong to it.
async fn era_of(connection: &Connection, workflow_id: &str) -> (i32, bool) {
    let id: Uuid = workflow_id.parse().unwrap();
    let row = connection
        .query_one(
            "SELECT era, coalesce(end_id > first_id_at(now()), true) FROM eras
             WHERE first_id <= $1 AND coalesce(end_id > $1, true)",
            &[&id],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// Waits until an id's era is over.
async fn era_over(connection: &Connection, workflow_id: &str) -> i32 {
    eventually(|| era_of(connection, workflow_id), |(_, takes)| !takes)
        .await
        .0
}

/// Holds of the tables at any moment: every era has its tables, and every table of an era is one of those.
async fn assert_whole(connection: &Connection) {
    let row = connection
        .query_one(
            "SELECT array(SELECT relname::text FROM pg_class
                          WHERE relkind = 'r' AND relname ~ '_era_[0-9]+$'),
                    array(SELECT name || '_era_' || era FROM eras, unnest($1::text[]) AS name
                          WHERE name <> 'artifacts')",
            &[&TABLES.to_vec()],
        )
        .await
        .unwrap();
    let (tables, wanted): (Vec<String>, Vec<String>) = (row.get(0), row.get(1));
    let [tables, wanted] = [tables, wanted].map(|names| names.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(tables, wanted);
}

/// Uploads bytes for a workflow, or for none.
async fn upload(replica: &Replica, workflow_id: &str, bytes: &[u8]) -> String {
    let mut description = description("report", bytes);
    workflow_id.clone_into(&mut description.workflow_id);
    let digest = description.artifact.as_ref().unwrap().digest.clone();
    let messages = [
        Payload::Description(description),
        Payload::Chunk(bytes.to_vec()),
    ]
    .map(|payload| UploadArtifactRequest {
        payload: Some(payload),
    });
    ArtifactServiceClient::new(replica.channel.clone())
        .upload_artifact(tokio_stream::iter(messages))
        .await
        .unwrap();
    digest
}

async fn is_served(replica: &Replica, digest: &str) -> bool {
    let request = DownloadArtifactRequest {
        digest: digest.to_owned(),
        ..DownloadArtifactRequest::default()
    };
    let mut client = ArtifactServiceClient::new(replica.channel.clone());
    match client.download_artifact(request).await {
        Ok(stream) => {
            let mut stream = stream.into_inner();
            while stream.message().await.unwrap().is_some() {}
            true
        }
        Err(status) => {
            let error = Error::from_status(&status).unwrap();
            assert_eq!(error.reason, ErrorReason::ArtifactNotFound);
            false
        }
    }
}

#[tokio::test]
async fn what_ended_before_retention_goes_with_all_that_is_its_own_and_what_lives_keeps_its_era() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start_as(config(&database, folder.path())).await;
    let connection = database.connect().await.unwrap();
    // Nobody takes its first stage: it waits.
    let lives = replica.create(app("lives")).await.workflow_id;
    let beside = replica.create(app("beside")).await.workflow_id;
    cancel(&replica, &beside).await;
    let old = era_over(&connection, &lives).await;
    let ended = replica.create(app("ends")).await.workflow_id;
    let own = upload(&replica, &ended, b"nobody else has these").await;
    let shared = upload(&replica, &ended, b"somebody else has these").await;
    upload(&replica, "", b"somebody else has these").await;
    cancel(&replica, &ended).await;
    assert!(!rows(&connection, &ended).await.is_empty());

    let error = gone(&replica, &ended).await;
    assert_eq!(error.reason, ErrorReason::WorkflowNotFound);
    assert!(error.message.contains("passed retention"), "{error}");
    eventually(|| rows(&connection, &ended), Vec::is_empty).await;
    assert!(!is_served(&replica, &own).await);
    let location = Location::Folder(folder.path().to_owned());
    let bytes = ArtifactStore::open(&location, TaskTracker::new()).unwrap();
    let own: Digest = own.parse().unwrap();
    eventually(
        || async { bytes.stored_size(&own).await.unwrap() },
        Option::is_none,
    )
    .await;
    assert!(is_served(&replica, &shared).await);

    // Its era is older, and whole: also what ended beside it.
    assert_eq!(era_of(&connection, &lives).await, (old, false));
    assert_eq!(look(&replica, &lives).await, Ok(WorkflowState::Pending));
    assert_eq!(look(&replica, &beside).await, Ok(WorkflowState::Cancelled));
    cancel(&replica, &lives).await;
    let events = replica.watch(&lives, 0).await;
    assert_gapless(&events, 0);
    assert!(events.len() > 2, "{events:?}");
    gone(&replica, &lives).await;
    gone(&replica, &beside).await;
    eventually(|| rows(&connection, &lives), Vec::is_empty).await;
}

#[tokio::test]
async fn replicas_that_look_all_at_once_drop_every_era_once_and_refuse_nobody() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start_as(config(&database, folder.path())).await);
    }
    let connection = database.connect().await.unwrap();
    // More looks than replicas make of their own.
    let mut looks = JoinSet::new();
    for _ in 0..3 {
        let keeper = keeper(&database, folder.path(), Some(SOON));
        looks.spawn(async move {
            let mut waiting = HashSet::new();
            loop {
                keeper.look(&mut waiting).await.unwrap();
            }
        });
    }
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    while seen.len() < 8 {
        for replica in &replicas {
            let id = replica.create(app("short")).await.workflow_id;
            cancel(replica, &id).await;
            seen.insert(era_of(&connection, &id).await.0);
            ids.push(id);
        }
    }
    for id in &ids {
        gone(&replicas[0], id).await;
        eventually(|| rows(&connection, id), Vec::is_empty).await;
    }
    assert!(looks.try_join_next().is_none(), "a look failed");
    looks.shutdown().await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_whole(&connection).await;
}

#[tokio::test]
async fn nothing_is_dropped_while_a_statement_holds_a_table_and_nobody_waits_for_long() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(&database, folder.path(), Some(SOON));
    let replica = Replica::start(&database, folder.path()).await;
    let connection = database.connect().await.unwrap();
    let era = era_of(&connection, &Uuid::now_v7().to_string()).await.0;
    // The first era is over, and empty.
    let first = era - 1;
    let reader = database.connect().await.unwrap();
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM events")
        .await
        .unwrap();
    let mut client = keeper.store.client().await.unwrap();
    eventually(
        || async {
            let over =
                "SELECT end_id <= first_id_at(now() - interval '2 s') FROM eras WHERE era = $1";
            let row = connection.query_one(over, &[&first]).await.unwrap();
            row.get::<_, bool>(0)
        },
        |over| *over,
    )
    .await;
    let detached = eras::detach(&mut client, first, SOON).await.unwrap();
    assert_eq!(detached, Passed::Busy);
    // Work goes on meanwhile.
    replica.create(app("meanwhile")).await;
    reader.batch_execute("COMMIT").await.unwrap();
    let detached = eras::detach(&mut client, first, SOON).await.unwrap();
    assert_eq!(detached, Passed::Detached);
}

#[tokio::test]
async fn old_requests_are_forgotten_however_many_there_are() {
    let (database, store) = database::database().await;
    let connection = database.connect().await.unwrap();
    let fill = "INSERT INTO requests
                SELECT 'default', 'request-' || n, 'CreateWorkflow', '', '',
                       now() - CASE WHEN n > 3 THEN interval '2 days' ELSE interval '1 hour' END
                FROM generate_series(1, 12003) AS n";
    connection.batch_execute(fill).await.unwrap();
    let client = store.client().await.unwrap();
    let day = Duration::from_hours(24);
    requests::forget(&client, SystemTime::now() - day)
        .await
        .unwrap();
    let left = "SELECT array_agg(request_id ORDER BY request_id) FROM requests";
    let left: Vec<String> = connection.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, ["request-1", "request-2", "request-3"]);
}
