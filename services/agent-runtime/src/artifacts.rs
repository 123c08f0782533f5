//! Where an agent's artifacts go: to the mesh's artifact store, or to a local folder when the agent
//! is used alone. Knows nothing of what is in them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Request;

use contracts::client::{ClientChannel, Retry, retry};
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::artifact_service_client::ArtifactServiceClient;
use contracts::orchestrator::{
    ArtifactDescription, UploadArtifactRequest, upload_artifact_request,
};
use contracts::task::{Artifact, TaskContext};
use contracts::{CHUNK_BYTES, NAMESPACE_HEADER};

/// Most bytes of an artifact.
pub const ARTIFACT_BYTES: u64 = 1024 * 1024 * 1024;
// Enough to keep the connection busy while the next chunk is read.
const CHUNKS_IN_FLIGHT: usize = 8;

/// Keeps bytes.
#[derive(Debug, Clone)]
pub enum ArtifactSink {
    /// In the mesh.
    Mesh {
        /// Connection to the orchestrator.
        channel: Box<ClientChannel>,
        /// Where reading tasks live.
        tasks: TaskTracker,
    },
    /// In a folder, named by digest.
    Folder(Arc<PathBuf>),
}

#[derive(Clone)]
enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

impl ArtifactSink {
    /// Keeps bytes as an artifact of a task.
    pub async fn store(
        &self,
        context: &TaskContext,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Artifact, Error> {
        self.keep(context, name, media_type, Source::Bytes(bytes))
            .await
    }

    /// Keeps a file as an artifact of a task. The file must not change meanwhile.
    pub async fn store_file(
        &self,
        context: &TaskContext,
        name: &str,
        media_type: &str,
        path: &Path,
    ) -> Result<Artifact, Error> {
        self.keep(context, name, media_type, Source::File(path))
            .await
    }

    async fn keep(
        &self,
        context: &TaskContext,
        name: &str,
        media_type: &str,
        source: Source<'_>,
    ) -> Result<Artifact, Error> {
        let (digest, size) = measure(&source)
            .await
            .map_err(|error| broken("read", name, &error))?;
        if size > ARTIFACT_BYTES {
            return Err(Error::invalid_field(
                "artifact.size_bytes",
                format!("{name} has {size} bytes, at most {ARTIFACT_BYTES}"),
            ));
        }
        let mut artifact = Artifact {
            name: name.to_owned(),
            digest,
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
            media_type: media_type.to_owned(),
            uri: String::new(),
        };
        match self {
            Self::Mesh { channel, tasks } => {
                retry(Retry::default(), || {
                    upload(channel, tasks, context, &artifact, &source)
                })
                .await
                .map_err(|status| {
                    Error::from_status(&status).unwrap_or_else(|| {
                        Error::new(
                            ErrorReason::ArtifactStoreUnavailable,
                            format!("artifact {name} was not stored: {}", status.message()),
                        )
                    })
                })?;
            }
            Self::Folder(folder) => {
                artifact.uri = write(folder, &artifact, &source)
                    .await
                    .map_err(|error| broken("write", name, &error))?;
            }
        }
        Ok(artifact)
    }
}

fn broken(what: &str, name: &str, error: &io::Error) -> Error {
    Error::new(
        ErrorReason::Infrastructure,
        format!("could not {what} artifact {name}: {error}"),
    )
}

async fn open(source: &Source<'_>) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    Ok(match source {
        Source::Bytes(bytes) => Box::new(io::Cursor::new(bytes.to_vec())),
        Source::File(path) => Box::new(tokio::fs::File::open(path).await?),
    })
}

async fn measure(source: &Source<'_>) -> io::Result<(String, u64)> {
    let mut reader = open(source).await?;
    let mut hash = Sha256::new();
    let mut size = 0_u64;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = reader.read(&mut chunk).await?;
        if count == 0 {
            return Ok((format!("sha256:{}", hex::encode(hash.finalize())), size));
        }
        hash.update(&chunk[..count]);
        size += count as u64;
    }
}

async fn upload(
    channel: &ClientChannel,
    tasks: &TaskTracker,
    context: &TaskContext,
    artifact: &Artifact,
    source: &Source<'_>,
) -> Result<(), tonic::Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_IN_FLIGHT);
    let description = ArtifactDescription {
        artifact: Some(artifact.clone()),
        workflow_id: context.workflow_id.clone(),
        stage: context.stage.clone(),
        task_id: context.task_id.clone(),
        attempt: context.attempt,
    };
    let mut reader = open(source)
        .await
        .map_err(|error| tonic::Status::from(broken("read", &artifact.name, &error)))?;
    tasks.spawn(async move {
        let first = upload_artifact_request::Payload::Description(description);
        let mut next = Some(first);
        while let Some(payload) = next {
            // A closed receiver means that the call is over; it has its own answer.
            if sender
                .send(UploadArtifactRequest {
                    payload: Some(payload),
                })
                .await
                .is_err()
            {
                return;
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            next = match reader.read(&mut chunk).await {
                // Cut short, the upload is refused: its size or digest is wrong.
                Ok(0) | Err(_) => None,
                Ok(count) => {
                    chunk.truncate(count);
                    Some(upload_artifact_request::Payload::Chunk(chunk))
                }
            };
        }
    });
    let mut request = Request::new(ReceiverStream::new(receiver));
    if !context.namespace.is_empty() {
        let namespace = context.namespace.parse().map_err(|_| {
            tonic::Status::from(Error::invalid_field("context.namespace", "is not a name"))
        })?;
        request.metadata_mut().insert(NAMESPACE_HEADER, namespace);
    }
    ArtifactServiceClient::new(channel.clone())
        .upload_artifact(request)
        .await?;
    Ok(())
}

async fn write(folder: &Path, artifact: &Artifact, source: &Source<'_>) -> io::Result<String> {
    tokio::fs::create_dir_all(folder).await?;
    let path = folder.join(artifact.digest.trim_start_matches("sha256:"));
    let partial = path.with_extension(format!("{}.partial", uuid::Uuid::now_v7()));
    let mut reader = open(source).await?;
    let mut file = tokio::fs::File::create(&partial).await?;
    tokio::io::copy(&mut reader, &mut file).await?;
    file.flush().await?;
    file.sync_all().await?;
    tokio::fs::rename(&partial, &path).await?;
    Ok(format!("file://{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_alone_keeps_artifacts_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let sink = ArtifactSink::Folder(Arc::new(folder.path().join("artifacts")));
        let stored = sink
            .store(&TaskContext::default(), "a.txt", "text/plain", b"hello")
            .await
            .unwrap();
        assert_eq!(stored.size_bytes, 5);
        assert_eq!(
            stored.digest,
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        let path = stored.uri.strip_prefix("file://").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let sink = ArtifactSink::Folder(Arc::new(std::env::temp_dir()));
        let error = sink
            .store_file(
                &TaskContext::default(),
                "report",
                "text/plain",
                Path::new("/no/such"),
            )
            .await
            .unwrap_err();
        assert_eq!(error.reason, ErrorReason::Infrastructure);
        assert!(error.message.contains("report"), "{error}");
    }
}
