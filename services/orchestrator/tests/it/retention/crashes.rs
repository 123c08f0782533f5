//! Whoever drops an era may die at any point: the next one goes on, and nobody sees half of it.

use std::collections::HashSet;

use orchestrator::store::connection::GenericClient;
use orchestrator::store::unkept;

use super::{
    ArtifactStore, Config, Digest, Duration, Error, ErrorReason, Location, Passed, Replica,
    Retention, SOON, TaskTracker, app, assert_whole, cancel, config, database, era_of, era_over,
    eras, eventually, keeper, look, rows, upload,
};
use crate::artifacts::bed::{Bed, description};

#[tokio::test]
async fn an_era_that_was_detached_before_a_crash_is_dropped_with_its_artifacts_after_it() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    // It makes eras, and dies before one is dropped.
    let replica = Replica::start_as(Config {
        retention: Retention(Some(8 * SOON)),
        ..config(&database, folder.path())
    })
    .await;
    let connection = database.connect().await.unwrap();
    let ended = replica.create(app("ends")).await.workflow_id;
    let digest: Digest = upload(&replica, &ended, b"of an old workflow")
        .await
        .parse()
        .unwrap();
    cancel(&replica, &ended).await;
    let era = era_over(&connection, &ended).await;
    replica.kill();

    // This one dies between the two.
    let keeper = keeper(&database, folder.path(), Some(SOON));
    let mut client = keeper.store.client().await.unwrap();
    loop {
        match eras::detach(&mut client, era, SOON).await.unwrap() {
            Passed::Detached => break,
            Passed::NotYet | Passed::Busy => tokio::time::sleep(Duration::from_millis(50)).await,
            Passed::Lives(count) => panic!("{count} live"),
        }
    }
    drop(client);
    assert_eq!(rows(&connection, &ended).await, [("artifacts", 1)]);
    assert_eq!(era_of(&connection, &ended).await, (era, false));

    let replica = Replica::start_as(config(&database, folder.path())).await;
    let error: Error = look(&replica, &ended).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::WorkflowNotFound);
    let left = || async {
        let count = "SELECT count(*) FROM eras WHERE era = $1";
        let row = connection.query_one(count, &[&era]).await.unwrap();
        row.get::<_, i64>(0)
    };
    eventually(left, |count| *count == 0).await;
    assert!(rows(&connection, &ended).await.is_empty());
    let location = Location::Folder(folder.path().to_owned());
    let bytes = ArtifactStore::open(&location, TaskTracker::new()).unwrap();
    eventually(
        || async { bytes.stored_size(&digest).await.unwrap() },
        Option::is_none,
    )
    .await;
    replica.stop().await;
    assert_whole(&connection).await;
}

#[tokio::test]
async fn bytes_that_are_being_removed_are_not_promised_to_an_upload_of_the_same() {
    let mut bed = Bed::new().await;
    let workflow = bed.workflow().await;
    let bytes = b"removed, and wanted again";
    let mut of_workflow = description("report", bytes);
    of_workflow.workflow_id = workflow.to_string();
    bed.send(of_workflow, bytes).await.unwrap();
    let digest = Digest::of(bytes).to_string();

    let keeper = keeper(&bed.database, bed.folder.path(), None);
    let mut client = keeper.store.client().await.unwrap();
    let (first, end) = (uuid::Uuid::nil(), uuid::Uuid::max());
    while unkept::forget_artifacts(&client, first, end).await.unwrap() {}
    assert!(unkept::claim(&mut client, &digest).await.unwrap());
    // Whoever claimed them died, or is about to remove them.
    let refused = bed.send(description("again", bytes), bytes).await;
    let error = Error::from_status(&refused.unwrap_err()).unwrap();
    assert_eq!(error.reason, ErrorReason::ArtifactStoreUnavailable);
    let count = "SELECT count(*) FROM artifacts";
    let count: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
    assert_eq!(bed.files().len(), 1);

    keeper.look(&mut HashSet::new()).await.unwrap();
    assert_eq!(bed.files(), Vec::<String>::new());
    bed.upload("again", bytes).await;
    assert_eq!(bed.download(&digest).await.unwrap(), bytes);
    // What somebody has again is not removed, whoever lost it before.
    keeper.look(&mut HashSet::new()).await.unwrap();
    assert_eq!(bed.download(&digest).await.unwrap(), bytes);
}
