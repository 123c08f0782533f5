//! Reads a range of an object in pieces that fit into messages, and checks the whole against its name.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use contracts::CHUNK_BYTES;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest as _, Sha256};

use super::{ArtifactError, Digest, path, within};

/// What is read in one go, and so the memory of a download. A reader as slow as it likes holds no connection to the store.
const WINDOW_BYTES: u64 = 1 << 20;

struct Reading {
    objects: Arc<dyn ObjectStore>,
    digest: Digest,
    range: Range<u64>,
    /// Hash of what was read, if that is to be the whole.
    hash: Option<Sha256>,
}

pub(super) fn read(
    objects: Arc<dyn ObjectStore>,
    digest: Digest,
    size: u64,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes, ArtifactError>> {
    let hash = (range == (0..size)).then(Sha256::new);
    let reading = Reading {
        objects,
        digest,
        range,
        hash,
    };
    stream::try_unfold(reading, next_window)
        .map_ok(|window| stream::iter(pieces(window).map(Ok)))
        .try_flatten()
        .boxed()
}

async fn next_window(mut reading: Reading) -> Result<Option<(Bytes, Reading)>, ArtifactError> {
    let digest = reading.digest;
    let from = reading.range.start;
    let to = reading.range.end.min(from.saturating_add(WINDOW_BYTES));
    if from >= to {
        let damaged = reading
            .hash
            .is_some_and(|hash| Digest::from_hash(hash) != digest);
        return if damaged {
            Err(ArtifactError::Damaged { digest })
        } else {
            Ok(None)
        };
    }
    let bytes = within(
        "read",
        &digest,
        reading.objects.get_range(&path(&digest), from..to),
    )
    .await?;
    if bytes.len() as u64 != to - from {
        return Err(ArtifactError::Damaged { digest });
    }
    if let Some(hash) = &mut reading.hash {
        hash.update(&bytes);
    }
    reading.range.start = to;
    Ok(Some((bytes, reading)))
}

/// Cuts without copying.
fn pieces(window: Bytes) -> impl Iterator<Item = Bytes> {
    let length = window.len();
    (0..length)
        .step_by(CHUNK_BYTES)
        .map(move |from| window.slice(from..length.min(from + CHUNK_BYTES)))
}
