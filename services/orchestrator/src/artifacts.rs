//! Bytes worth keeping, by digest, in a local folder or an S3 bucket. An object appears under its name only after every byte was
//! seen and its digest was right, so nothing half-written is ever read. Who may read what, and which workflow an artifact belongs
//! to, is not known here.

mod digest;
mod location;
mod read;
mod upload;

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path, prefix::PrefixStore,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::info;

pub use self::{
    digest::{Digest, WrongDigest},
    location::{Location, WrongLocation},
    upload::Upload,
};

/// Largest artifact: 1 GiB (`ArtifactDescription.artifact`).
pub const ARTIFACT_BYTES: u64 = 1 << 30;

/// Uploads at one time; each holds one part in memory, so this bounds the store's memory at 16 parts.
const UPLOADS: usize = 16;

/// Longest wait for one of the uploads above to end.
const TURN_WITHIN: Duration = Duration::from_secs(20);

/// Longest single operation on the store, its own retries included. Longer, and it counts as away.
const OPERATION_WITHIN: Duration = Duration::from_mins(1);

/// S3 takes no smaller part, except as the last one.
const S3_PART_BYTES: usize = 5 << 20;

/// A local file has no such bound; this keeps memory small and the disk busy.
const FOLDER_PART_BYTES: usize = 256 << 10;

/// Why bytes were not stored or not read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The place cannot be used as a store.
    #[error("artifact store {location} cannot be opened")]
    Open {
        /// The place.
        location: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More was announced than an artifact may have.
    #[error("{size} bytes are announced, at most {ARTIFACT_BYTES} are kept")]
    TooLarge {
        /// Announced size.
        size: u64,
    },
    /// Too many uploads, for too long.
    #[error("{UPLOADS} uploads are under way and none ended within {TURN_WITHIN:?}")]
    Busy,
    /// The bytes are more or fewer than announced.
    #[error("{digest} was announced with {announced} bytes, and has {seen}")]
    WrongSize {
        /// Announced digest.
        digest: Digest,
        /// Announced size.
        announced: u64,
        /// Bytes seen; where there were too many, the count at which that was clear.
        seen: u64,
    },
    /// The bytes are not the announced ones.
    #[error("{announced} was announced, and the bytes have {seen}")]
    WrongDigest {
        /// Announced digest.
        announced: Digest,
        /// Digest of the bytes.
        seen: Digest,
    },
    /// The store has no such object.
    #[error("no bytes are stored for {digest}")]
    NotFound {
        /// Digest that was asked for.
        digest: Digest,
    },
    /// What is stored is not what its name says.
    #[error("the bytes stored for {digest} are damaged")]
    Damaged {
        /// Digest that was asked for.
        digest: Digest,
    },
    /// The store refused or failed.
    #[error("the artifact store did not {action} {digest}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// For which digest.
        digest: Digest,
        /// Cause.
        #[source]
        source: object_store::Error,
    },
    /// The store did not answer.
    #[error("the artifact store did not {action} {digest} within {OPERATION_WITHIN:?}")]
    Slow {
        /// What was being done.
        action: &'static str,
        /// For which digest.
        digest: Digest,
    },
}

/// A handle on the store, cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    objects: Arc<dyn ObjectStore>,
    part_bytes: usize,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl ArtifactStore {
    /// Opens the place; a folder is made when it is missing. S3 credentials come from the standard AWS places: variables,
    /// container or instance role. Clean-up of uploads that were given up runs on the tracker.
    pub fn open(location: &Location, tasks: TaskTracker) -> Result<Self, ArtifactError> {
        Self::open_with(location, AmazonS3Builder::from_env(), tasks)
    }

    /// Opens the place with an S3 client that was set up by the caller, who may know other credentials.
    pub fn open_with(
        location: &Location,
        s3: AmazonS3Builder,
        tasks: TaskTracker,
    ) -> Result<Self, ArtifactError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ArtifactError::Open {
            location: location.to_string(),
            source,
        };
        let (objects, part_bytes): (Arc<dyn ObjectStore>, usize) = match location {
            Location::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
                upload::sweep(folder).map_err(|error| failed(error.into()))?;
                let folder = LocalFileSystem::new_with_prefix(folder)
                    .map_err(|error| failed(error.into()))?
                    .with_fsync(true);
                (Arc::new(folder), FOLDER_PART_BYTES)
            }
            Location::S3 {
                bucket,
                prefix,
                endpoint,
                region,
            } => {
                let mut builder = s3.with_bucket_name(bucket).with_retry(RetryConfig {
                    max_retries: 4,
                    retry_timeout: OPERATION_WITHIN / 2,
                    ..RetryConfig::default()
                });
                if let Some(region) = region {
                    builder = builder.with_region(region);
                }
                if let Some(endpoint) = endpoint {
                    // Only an endpoint that was named in clear is spoken to in clear.
                    let clear = endpoint.starts_with("http://");
                    builder = builder
                        .with_endpoint(endpoint)
                        .with_client_options(ClientOptions::new().with_allow_http(clear));
                }
                let bucket = builder.build().map_err(|error| failed(error.into()))?;
                (
                    Arc::new(PrefixStore::new(bucket, prefix.as_str())),
                    S3_PART_BYTES,
                )
            }
        };
        info!(%location, "artifact store is open");
        Ok(Self {
            objects,
            part_bytes,
            turns: Arc::new(Semaphore::new(UPLOADS)),
            tasks,
        })
    }

    /// Begins an upload of so many bytes with this digest, when there is room for one more.
    pub async fn upload(&self, digest: Digest, size: u64) -> Result<Upload, ArtifactError> {
        if size > ARTIFACT_BYTES {
            return Err(ArtifactError::TooLarge { size });
        }
        let turn = timeout(TURN_WITHIN, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| ArtifactError::Busy)?
            .map_err(|_| ArtifactError::Busy)?;
        let stored = self.stored_size(&digest).await?;
        Upload::begin(self, digest, size, stored == Some(size), turn).await
    }

    /// Size of the stored object; `None` when there is none.
    pub async fn stored_size(&self, digest: &Digest) -> Result<Option<u64>, ArtifactError> {
        match within("look for", digest, self.objects.head(&path(digest))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(ArtifactError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the bytes of a digest, if they are there.
    pub async fn remove(&self, digest: &Digest) -> Result<(), ArtifactError> {
        match within("remove", digest, self.objects.delete(&path(digest))).await {
            Ok(()) | Err(ArtifactError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a range, in order, in pieces of at most 64 KiB. Reading the whole object also checks it against its digest:
    /// damage shows as an error after the last piece, never as a clean end.
    pub fn read(
        &self,
        digest: Digest,
        size: u64,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, ArtifactError>> {
        read::read(Arc::clone(&self.objects), digest, size, range)
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), ArtifactError> {
        self.stored_size(&Digest::of(b"")).await.map(|_| ())
    }
}

/// Objects are spread over folders, since some file systems get slow with many entries in one.
fn path(digest: &Digest) -> Path {
    let hex = digest.hex();
    let (shard, rest) = hex.split_at(2);
    Path::from_iter(["sha256", shard, rest])
}

/// Runs one operation with its deadline, and says what it was when it fails.
async fn within<T>(
    action: &'static str,
    digest: &Digest,
    operation: impl Future<Output = object_store::Result<T>>,
) -> Result<T, ArtifactError> {
    match timeout(OPERATION_WITHIN, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(object_store::Error::NotFound { .. })) => {
            Err(ArtifactError::NotFound { digest: *digest })
        }
        Ok(Err(source)) => Err(ArtifactError::Store {
            action,
            digest: *digest,
            source,
        }),
        Err(_) => Err(ArtifactError::Slow {
            action,
            digest: *digest,
        }),
    }
}
