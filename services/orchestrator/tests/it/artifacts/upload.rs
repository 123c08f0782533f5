//! Uploads: kept whole, or not at all.

use std::time::Duration;

use contracts::{
    CHUNK_BYTES,
    error_reason::ErrorReason,
    id::WorkflowId,
    orchestrator::{UploadArtifactRequest, upload_artifact_request::Payload},
};
use orchestrator::artifacts::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::bed::{Bed, description, noise, read_error};

#[tokio::test]
async fn artifacts_of_every_size_come_out_as_they_went_in() {
    let mut bed = Bed::new().await;
    // Around the sizes of a chunk, of a part and of a window.
    for length in [
        0,
        1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        256 << 10,
        (256 << 10) + 1,
        3 << 20,
    ] {
        let bytes = noise(length);
        let stored = bed.upload("bytes", &bytes).await;
        let artifact = stored.artifact.unwrap();
        assert_eq!(artifact.size_bytes, i64::try_from(length).unwrap());
        assert_eq!(
            bed.download(&artifact.digest).await.unwrap(),
            bytes,
            "{length} bytes"
        );
    }
}

#[tokio::test]
async fn bytes_with_another_digest_are_refused_and_leave_nothing() {
    let mut bed = Bed::new().await;
    for length in [5, 1 << 20] {
        let bytes = noise(length);
        let mut lie = description("lie", &bytes);
        let digest = Digest::of(b"something else").to_string();
        lie.artifact.as_mut().unwrap().digest.clone_from(&digest);
        let error = read_error(bed.send(lie, &bytes).await);
        assert_eq!(error.reason, ErrorReason::DigestMismatch);
        assert!(
            error.message.contains(&Digest::of(&bytes).to_string()),
            "{error}"
        );
        let error = read_error(bed.download(&digest).await);
        assert_eq!(error.reason, ErrorReason::ArtifactNotFound);
    }
    emptied(&bed).await;
}

#[tokio::test]
async fn fewer_and_more_bytes_than_announced_are_refused_and_leave_nothing() {
    let mut bed = Bed::new().await;
    for length in [1000, 1 << 20] {
        let bytes = noise(length);
        for sent in [noise(length - 1), noise(length + 1), Vec::new()] {
            let error = read_error(bed.send(description("lie", &bytes), &sent).await);
            assert_eq!(error.reason, ErrorReason::DigestMismatch, "{error}");
        }
    }
    emptied(&bed).await;
}

#[tokio::test]
async fn an_upload_that_never_stops_is_refused_at_the_first_byte_too_many() {
    let mut bed = Bed::new().await;
    let bytes = noise(10);
    let (sender, receiver) = mpsc::channel(1);
    let mut client = bed.client.clone();
    let message = |payload| UploadArtifactRequest {
        payload: Some(payload),
    };
    let upload = client.upload_artifact(ReceiverStream::new(receiver));
    let endless = async {
        let _ = sender
            .send(message(Payload::Description(description("lie", &bytes))))
            .await;
        while sender
            .send(message(Payload::Chunk(noise(CHUNK_BYTES))))
            .await
            .is_ok()
        {}
    };
    let (result, ()) = tokio::join!(upload, endless);
    assert_eq!(read_error(result).reason, ErrorReason::DigestMismatch);
    bed.upload("still-works", &bytes).await;
}

#[tokio::test]
async fn a_broken_off_upload_leaves_nothing() {
    let bed = Bed::new().await;
    let bytes = noise(2 << 20);
    let (sender, receiver) = mpsc::channel(64);
    let mut client = bed.client.clone();
    let message = |payload| UploadArtifactRequest {
        payload: Some(payload),
    };
    sender
        .send(message(Payload::Description(description("half", &bytes))))
        .await
        .unwrap();
    for chunk in bytes[..1 << 20].chunks(CHUNK_BYTES) {
        sender
            .send(message(Payload::Chunk(chunk.to_vec())))
            .await
            .unwrap();
    }
    {
        let upload = client.upload_artifact(ReceiverStream::new(receiver));
        tokio::pin!(upload);
        // Until the staged file is there.
        let staged = async {
            while bed.files().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            result = &mut upload => panic!("it ended: {result:?}"),
            () = staged => {}
        }
    }
    emptied(&bed).await;
}

#[tokio::test]
async fn messages_out_of_order_are_refused() {
    let mut bed = Bed::new().await;
    let bytes = noise(100);
    let describe = || Payload::Description(description("x", &bytes));
    for (messages, field) in [
        (vec![], "description"),
        (vec![Payload::Chunk(bytes.clone())], "description"),
        (vec![describe(), describe()], "description"),
        (vec![describe(), Payload::Chunk(Vec::new())], "chunk"),
        (
            vec![describe(), Payload::Chunk(vec![0; CHUNK_BYTES + 1])],
            "chunk",
        ),
    ] {
        let error = read_error(bed.send_raw(messages).await);
        assert_eq!(error.reason, ErrorReason::InvalidField);
        assert_eq!(error.fields[0].0, field);
    }
    let empty = tokio_stream::iter([UploadArtifactRequest { payload: None }]);
    let error = read_error(bed.client.upload_artifact(empty).await);
    assert_eq!(error.reason, ErrorReason::InvalidField);
    emptied(&bed).await;
}

#[tokio::test]
async fn names_that_lead_out_of_a_folder_are_refused_by_field() {
    let mut bed = Bed::new().await;
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "a\0b",
        "",
        "a//b",
    ] {
        let error = read_error(bed.send(description(name, b"x"), b"x").await);
        assert_eq!(error.fields[0].0, "artifact.name", "{name:?}");
    }
    emptied(&bed).await;
}

#[tokio::test]
async fn more_than_an_artifact_may_have_is_refused_before_any_byte() {
    let mut bed = Bed::new().await;
    let mut huge = description("huge", b"x");
    huge.artifact.as_mut().unwrap().size_bytes = (1 << 30) + 1;
    let error = read_error(bed.send(huge, &[]).await);
    assert_eq!(error.fields[0].0, "artifact.size_bytes");
}

#[tokio::test]
async fn an_artifact_of_no_known_workflow_is_refused() {
    let mut bed = Bed::new().await;
    let mut stray = description("stray", b"x");
    stray.workflow_id = WorkflowId::new().to_string();
    let error = read_error(bed.send(stray, b"x").await);
    assert_eq!(error.reason, ErrorReason::WorkflowNotFound);
    emptied(&bed).await;
}

#[tokio::test]
async fn the_same_upload_again_is_the_same_artifact() {
    let mut bed = Bed::new().await;
    let mut twice = description("report", b"x");
    twice.workflow_id = bed.workflow().await.to_string();
    twice.stage = "validation".into();
    twice.attempt = 1;
    let first = bed.send(twice.clone(), b"x").await.unwrap();
    let again = bed.send(twice.clone(), b"x").await.unwrap();
    assert_eq!(first, again);
    twice.attempt = 2;
    let other = bed.send(twice, b"x").await.unwrap();
    assert_ne!(first.artifact_id, other.artifact_id);
    assert_eq!(bed.files().len(), 1, "the same bytes are kept once");
}

#[tokio::test]
async fn knowing_a_digest_is_not_having_the_bytes() {
    let mut bed = Bed::new().await;
    let bytes = noise(1000);
    bed.upload("mine", &bytes).await;
    let mut theirs = description("theirs", &bytes);
    theirs.attempt = 7;
    let error = read_error(bed.send(theirs, &noise(999)).await);
    assert_eq!(error.reason, ErrorReason::DigestMismatch);
}

#[tokio::test]
async fn two_uploads_of_the_same_bytes_at_once_both_succeed() {
    let bed = Bed::new().await;
    let bytes = noise(1 << 20);
    let uploads = (0..8).map(|attempt| {
        let mut client = bed.client.clone();
        let mut description = description("same", &bytes);
        description.attempt = attempt;
        let messages: Vec<_> = [Payload::Description(description)]
            .into_iter()
            .chain(
                bytes
                    .chunks(CHUNK_BYTES)
                    .map(|chunk| Payload::Chunk(chunk.to_vec())),
            )
            .map(|payload| UploadArtifactRequest {
                payload: Some(payload),
            })
            .collect();
        async move { client.upload_artifact(tokio_stream::iter(messages)).await }
    });
    for result in futures::future::join_all(uploads).await {
        result.unwrap();
    }
    let mut bed = bed;
    assert_eq!(
        bed.download(&Digest::of(&bytes).to_string()).await.unwrap(),
        bytes
    );
    assert_eq!(bed.files().len(), 1);
}

/// Waits until nothing is left in the store: staged files go in the background.
async fn emptied(bed: &Bed) {
    let gone = async {
        while !bed.files().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("nothing is left behind");
}
