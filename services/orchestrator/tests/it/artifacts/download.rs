//! Downloads: the range that was asked for, of undamaged bytes, or an error.

use std::fs;

use contracts::error_reason::ErrorReason;
use orchestrator::artifacts::Digest;

use super::bed::{Bed, noise, read_error};

#[tokio::test]
async fn ranges_are_cut_exactly() {
    let mut bed = Bed::new().await;
    let bytes = noise(2_500_000);
    let digest = bed.upload("bytes", &bytes).await.artifact.unwrap().digest;
    let length = i64::try_from(bytes.len()).unwrap();
    for (offset, limit, expected) in [
        (0, 1, 0..1),
        (1_048_575, 2, 1_048_575..1_048_577),
        (100, 1_200_000, 100..1_200_100),
        (2_499_999, 0, 2_499_999..2_500_000),
        (2_499_999, 100, 2_499_999..2_500_000),
        (length, 0, 2_500_000..2_500_000),
        (1, i64::MAX, 1..2_500_000),
    ] {
        let part = bed.download_range(&digest, offset, limit).await.unwrap();
        assert_eq!(part, bytes[expected], "{offset} {limit}");
    }
}

#[tokio::test]
async fn ranges_out_of_bounds_are_refused_by_field() {
    let mut bed = Bed::new().await;
    let digest = bed.upload("bytes", b"hello").await.artifact.unwrap().digest;
    for (offset, limit, field) in [
        (6, 0, "offset_bytes"),
        (i64::MAX, 1, "offset_bytes"),
        (-1, 0, "offset_bytes"),
        (0, -1, "limit_bytes"),
        (i64::MIN, i64::MIN, "offset_bytes"),
    ] {
        let error = read_error(bed.download_range(&digest, offset, limit).await);
        assert_eq!(error.fields[0].0, field, "{offset} {limit}");
    }
}

#[tokio::test]
async fn what_is_no_digest_or_of_nothing_is_refused() {
    let mut bed = Bed::new().await;
    for text in [
        "",
        "sha256:",
        "../../etc/passwd",
        "sha256:../../../../../../etc/passwd",
    ] {
        let error = read_error(bed.download(text).await);
        assert_eq!(error.fields[0].0, "digest", "{text:?}");
    }
    let error = read_error(bed.download(&Digest::of(b"nothing").to_string()).await);
    assert_eq!(error.reason, ErrorReason::ArtifactNotFound);
}

#[tokio::test]
async fn bytes_without_a_row_are_not_served() {
    let mut bed = Bed::new().await;
    let digest = bed.upload("bytes", b"hello").await.artifact.unwrap().digest;
    bed.database
        .connect()
        .await
        .unwrap()
        .execute("DELETE FROM artifacts", &[])
        .await
        .unwrap();
    let error = read_error(bed.download(&digest).await);
    assert_eq!(error.reason, ErrorReason::ArtifactNotFound);
}

#[tokio::test]
async fn a_flipped_bit_ends_the_download_with_an_error() {
    let mut bed = Bed::new().await;
    let digest = bed
        .upload("bytes", &noise(100_000))
        .await
        .artifact
        .unwrap()
        .digest;
    let file = bed.files().remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[50_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = read_error(bed.download(&digest).await);
    assert_eq!(error.reason, ErrorReason::Internal);
}

#[tokio::test]
async fn a_cut_or_lost_file_is_an_error_before_the_first_byte() {
    let mut bed = Bed::new().await;
    let digest = bed
        .upload("bytes", &noise(100_000))
        .await
        .artifact
        .unwrap()
        .digest;
    let file = bed.files().remove(0);
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(99_999)
        .unwrap();
    assert_eq!(
        read_error(bed.download(&digest).await).reason,
        ErrorReason::Internal
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(
        read_error(bed.download(&digest).await).reason,
        ErrorReason::Internal
    );
    // Uploading it again repairs it.
    bed.upload("bytes", &noise(100_000)).await;
    assert_eq!(bed.download(&digest).await.unwrap(), noise(100_000));
}
