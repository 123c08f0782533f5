//! One upload: bytes go to a staged object that nobody can read, and only the right number of the right bytes is published.
//! An upload that is dropped half-way takes its staged bytes with it.

use std::{
    fs, io, mem,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{ArtifactError, ArtifactStore, Digest, path, within};

/// Staged files of a process that was killed are removed at this age; no upload takes so long.
const STALE_AFTER: Duration = Duration::from_hours(24);

/// Where the bytes go.
enum Staging {
    /// They are stored already, and are only compared.
    Stored,
    /// They fit into one part, which is published in one step.
    Memory,
    /// Parts, published together.
    Parts(Box<dyn MultipartUpload>),
    /// Published or given up.
    Ended,
}

/// An upload under way.
pub struct Upload {
    digest: Digest,
    size: u64,
    seen: u64,
    hash: Sha256,
    part: BytesMut,
    part_bytes: usize,
    staging: Staging,
    objects: Arc<dyn ObjectStore>,
    tasks: TaskTracker,
    _turn: OwnedSemaphorePermit,
}

impl Upload {
    pub(super) async fn begin(
        store: &ArtifactStore,
        digest: Digest,
        size: u64,
        stored: bool,
        turn: OwnedSemaphorePermit,
    ) -> Result<Self, ArtifactError> {
        let staging = if stored {
            Staging::Stored
        } else if size <= store.part_bytes as u64 {
            Staging::Memory
        } else {
            let place = path(&digest);
            let parts = within("begin", &digest, store.objects.put_multipart(&place)).await?;
            Staging::Parts(parts)
        };
        Ok(Self {
            digest,
            size,
            seen: 0,
            hash: Sha256::new(),
            part: BytesMut::new(),
            part_bytes: store.part_bytes,
            staging,
            objects: Arc::clone(&store.objects),
            tasks: store.tasks.clone(),
            _turn: turn,
        })
    }

    /// Takes the next bytes. Fails as soon as there are more than announced.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(self.wrong_size());
        }
        self.hash.update(bytes);
        if matches!(self.staging, Staging::Stored) {
            return Ok(());
        }
        self.part.extend_from_slice(bytes);
        while self.part.len() >= self.part_bytes && self.seen > self.part_bytes as u64 {
            let part = self.part.split_to(self.part_bytes).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Publishes the bytes, if they are the announced ones.
    pub async fn finish(mut self) -> Result<(), ArtifactError> {
        if self.seen != self.size {
            return Err(self.wrong_size());
        }
        let seen = Digest::from_hash(mem::take(&mut self.hash));
        if seen != self.digest {
            return Err(ArtifactError::WrongDigest {
                announced: self.digest,
                seen,
            });
        }
        let rest = mem::take(&mut self.part).freeze();
        match &mut self.staging {
            Staging::Stored | Staging::Ended => {}
            Staging::Memory => {
                let place = path(&self.digest);
                let payload = PutPayload::from_bytes(rest);
                within("store", &self.digest, self.objects.put(&place, payload)).await?;
            }
            Staging::Parts(_) => {
                if !rest.is_empty() {
                    self.put(rest).await?;
                }
                if let Staging::Parts(parts) = &mut self.staging {
                    within("publish", &self.digest, parts.complete()).await?;
                }
            }
        }
        self.staging = Staging::Ended;
        Ok(())
    }

    async fn put(&mut self, part: Bytes) -> Result<(), ArtifactError> {
        if let Staging::Parts(parts) = &mut self.staging {
            let stored = parts.put_part(PutPayload::from_bytes(part));
            within("store a part of", &self.digest, stored).await?;
        }
        Ok(())
    }

    fn wrong_size(&self) -> ArtifactError {
        ArtifactError::WrongSize {
            digest: self.digest,
            announced: self.size,
            seen: self.seen,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Staging::Parts(mut parts) = mem::replace(&mut self.staging, Staging::Ended) else {
            return;
        };
        let digest = self.digest;
        self.tasks.spawn(async move {
            // What is left behind then is invisible, and goes with the bucket's lifecycle rule or the next sweep.
            if let Err(error) = within("give up", &digest, parts.abort()).await {
                warn!(%digest, ?error, "staged bytes of an upload were left behind");
            }
        });
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Upload")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Removes the staged files that a killed process left in a store's folder. Staged files have a `#` in their names, which no
/// published one has.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    let shards = folder.join("sha256");
    if !shards.is_dir() {
        return Ok(());
    }
    let now = SystemTime::now();
    for shard in fs::read_dir(shards)? {
        for entry in fs::read_dir(shard?.path())? {
            let entry = entry?;
            let staged = entry.file_name().to_string_lossy().contains('#');
            let age = now
                .duration_since(entry.metadata()?.modified()?)
                .unwrap_or_default();
            if staged && age > STALE_AFTER {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}
