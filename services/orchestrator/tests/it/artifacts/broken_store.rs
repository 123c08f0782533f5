//! A store that is full or away: the upload fails with the reason, and nothing half-written is served.

use std::fs;

use contracts::error_reason::ErrorReason;
use orchestrator::{
    artifacts::{ArtifactStore, Digest, Location},
    store::Store,
};
use tokio_util::task::TaskTracker;

use crate::disk::SmallDisk;

use super::bed::{Bed, description, noise, read_error, serve};

#[tokio::test]
async fn on_a_full_disk_nothing_is_kept_and_small_things_still_fit() {
    let Some(disk) = SmallDisk::new(1) else {
        return;
    };
    let location = Location::Folder(disk.path().join("artifacts"));
    let artifacts = ArtifactStore::open(&location, TaskTracker::new()).unwrap();
    let mut bed = Bed::serving(artifacts, tempfile::tempdir().unwrap()).await;
    let bytes = noise(2 << 20);
    let error = read_error(bed.send(description("big", &bytes), &bytes).await);
    assert_eq!(error.reason, ErrorReason::ArtifactStoreUnavailable);
    assert!(error.retry_after.is_some());
    let error = read_error(bed.download(&Digest::of(&bytes).to_string()).await);
    assert_eq!(error.reason, ErrorReason::ArtifactNotFound);

    let small = noise(100_000);
    let digest = bed.upload("small", &small).await.artifact.unwrap().digest;
    assert_eq!(bed.download(&digest).await.unwrap(), small);
}

#[tokio::test]
async fn a_store_that_refuses_fails_the_upload_with_the_reason() {
    let mut bed = Bed::new().await;
    // Where folders of objects should go, there is a file.
    fs::write(bed.folder.path().join("sha256"), "").unwrap();
    for bytes in [noise(10), noise(1 << 20)] {
        let error = read_error(bed.send(description("x", &bytes), &bytes).await);
        assert_eq!(error.reason, ErrorReason::ArtifactStoreUnavailable);
        assert!(
            !error.message.contains("sha256/"),
            "internal detail: {error}"
        );
    }
}

#[tokio::test]
async fn without_the_database_uploads_and_downloads_are_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Folder(folder.path().to_path_buf());
    let artifacts = ArtifactStore::open(&location, TaskTracker::new()).unwrap();
    let store = Store::new("host=/nonexistent user=nobody", 1).unwrap();
    let mut bed = Bed::new().await;
    (bed.client, bed.server) = serve(artifacts, store).await;
    let error = read_error(bed.send(description("x", b"x"), b"x").await);
    assert_eq!(error.reason, ErrorReason::DatabaseUnavailable);
    let error = read_error(bed.download(&Digest::of(b"x").to_string()).await);
    assert_eq!(error.reason, ErrorReason::DatabaseUnavailable);
}

#[tokio::test]
async fn staged_files_of_a_killed_process_are_swept_once_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let shard = folder.path().join("sha256/ab");
    fs::create_dir_all(&shard).unwrap();
    let (old, young, published) = (shard.join("cd#1"), shard.join("cd#2"), shard.join("cd"));
    for path in [&old, &young, &published] {
        fs::write(path, "x").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
    for path in [&old, &published] {
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let location = Location::Folder(folder.path().to_path_buf());
    ArtifactStore::open(&location, TaskTracker::new()).unwrap();
    assert_eq!(
        (old.exists(), young.exists(), published.exists()),
        (false, true, true)
    );
}
