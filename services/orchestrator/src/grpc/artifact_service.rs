//! Artifacts over gRPC: reads requests, moves bytes between messages and store, and says what went wrong. What is kept where, and
//! what a row looks like, is not known here.

use std::time::Duration;

use contracts::{
    CHUNK_BYTES,
    error::Error,
    error_reason::ErrorReason,
    id::WorkflowId,
    orchestrator::{
        DownloadArtifactRequest, DownloadArtifactResponse, ListArtifactsRequest,
        ListArtifactsResponse, StoredArtifact, UploadArtifactRequest, UploadArtifactResponse,
        artifact_service_server::ArtifactService as Service, upload_artifact_request::Payload,
    },
    parse::Fields,
    task::Artifact,
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::{error, warn};

use self::description::Description;
use super::{namespace, page_token, read_page, store_error};
use crate::{
    artifacts::{ArtifactError, ArtifactStore},
    engine::EngineError,
    store::{
        Store,
        artifacts::{self as rows, ArtifactRow, Inserted},
    },
};

mod description;

/// An uploader that sends nothing for so long is gone; its place is needed.
const SILENCE: Duration = Duration::from_secs(30);

/// `agentic.orchestrator.v1.ArtifactService`.
#[derive(Debug, Clone)]
pub struct ArtifactService {
    artifacts: ArtifactStore,
    store: Store,
}

impl ArtifactService {
    /// Serves these artifacts and their rows.
    pub fn new(artifacts: ArtifactStore, store: Store) -> Self {
        Self { artifacts, store }
    }

    async fn upload(
        &self,
        namespace: &str,
        mut messages: Streaming<UploadArtifactRequest>,
    ) -> Result<StoredArtifact, Error> {
        let description = match next(&mut messages).await? {
            Some(Payload::Description(description)) => Description::parse(namespace, description)?,
            Some(Payload::Chunk(_)) | None => {
                return Err(Error::invalid_field(
                    "description",
                    "must be the first message",
                ));
            }
        };
        if let Some(workflow_id) = description.row.workflow_id {
            self.demand_workflow(namespace, workflow_id).await?;
        }
        let digest = description.digest;
        let begun = {
            let client = self.store.client().await.map_err(store_error)?;
            rows::now(&client).await.map_err(store_error)?
        };
        let mut upload = self
            .artifacts
            .upload(digest, description.size)
            .await
            .map_err(artifact_error)?;
        while let Some(payload) = next(&mut messages).await? {
            let Payload::Chunk(chunk) = payload else {
                return Err(Error::invalid_field(
                    "description",
                    "must be sent only once",
                ));
            };
            if chunk.is_empty() || chunk.len() > CHUNK_BYTES {
                let problem = format!("has {} bytes, between 1 and {CHUNK_BYTES}", chunk.len());
                return Err(Error::invalid_field("chunk", problem));
            }
            upload.write(&chunk).await.map_err(artifact_error)?;
        }
        upload.finish().await.map_err(artifact_error)?;
        let mut client = self.store.client().await.map_err(store_error)?;
        match rows::insert(&mut client, &description.row, begun)
            .await
            .map_err(store_error)?
        {
            Inserted::Row(row) => Ok(stored(*row)),
            Inserted::NoWorkflow => {
                let gone = description.row.workflow_id.map(EngineError::NotFound);
                Err(gone.map_or_else(Error::internal, Error::from))
            }
            Inserted::Removed => {
                let message = format!("the bytes of {digest} were being removed; send them again");
                Err(Error::new(ErrorReason::ArtifactStoreUnavailable, message)
                    .retry_after(Duration::from_secs(5)))
            }
        }
    }

    async fn demand_workflow(&self, namespace: &str, workflow_id: WorkflowId) -> Result<(), Error> {
        let client = self.store.client().await.map_err(store_error)?;
        if rows::workflow_exists(&client, namespace, workflow_id)
            .await
            .map_err(store_error)?
        {
            return Ok(());
        }
        Err(EngineError::NotFound(workflow_id).into())
    }

    async fn download(
        &self,
        namespace: &str,
        request: DownloadArtifactRequest,
    ) -> Result<BoxStream<'static, Result<DownloadArtifactResponse, Status>>, Error> {
        let mut fields = Fields::new();
        let digest = description::digest(&mut fields, "digest", &request.digest);
        let offset = non_negative(&mut fields, "offset_bytes", request.offset_bytes);
        let limit = non_negative(&mut fields, "limit_bytes", request.limit_bytes);
        let digest = fields.finish(digest)?.ok_or_else(Error::internal)?;

        let not_found = || {
            let message = format!("there is no artifact {digest}");
            Error::new(ErrorReason::ArtifactNotFound, message)
        };
        let client = self.store.client().await.map_err(store_error)?;
        let size = rows::size_of(&client, namespace, &digest.to_string())
            .await
            .map_err(store_error)?
            .ok_or_else(not_found)?;
        let size = u64::try_from(size).map_err(|_| Error::internal())?;
        if offset > size {
            let problem = format!("{offset} is beyond the {size} bytes of the artifact");
            return Err(Error::invalid_field("offset_bytes", problem));
        }
        let end = if limit == 0 {
            size
        } else {
            size.min(offset.saturating_add(limit))
        };
        // Before the stream begins, so that what is gone or damaged is an error and not an end.
        let stored = self
            .artifacts
            .stored_size(&digest)
            .await
            .map_err(artifact_error)?;
        if stored != Some(size) {
            return Err(artifact_error(match stored {
                Some(_) => ArtifactError::Damaged { digest },
                None => ArtifactError::NotFound { digest },
            }));
        }
        let pieces = self.artifacts.read(digest, size, offset..end);
        Ok(pieces
            .map_ok(|piece| DownloadArtifactResponse {
                chunk: piece.into(),
            })
            .map_err(|error| Status::from(artifact_error(error)))
            .boxed())
    }

    async fn list(
        &self,
        namespace: &str,
        request: ListArtifactsRequest,
    ) -> Result<ListArtifactsResponse, Error> {
        let mut fields = Fields::new();
        let limit = fields.page_size(request.page_size);
        let workflow_id = fields.id::<WorkflowId>("workflow_id", &request.workflow_id);

        fields.text("stage", &request.stage, contracts::parse::LABEL_CHARACTERS);
        let workflow_id = fields.finish(workflow_id)?.ok_or_else(Error::internal)?;
        let after = read_page(&request.page_token)?.unwrap_or_default();
        self.demand_workflow(namespace, workflow_id).await?;

        let stage = (!request.stage.is_empty()).then_some(request.stage.as_str());
        let client = self.store.client().await.map_err(store_error)?;
        // One more than asked for tells whether there is another page.
        let mut found = rows::list(&client, namespace, workflow_id, stage, after, limit + 1)
            .await
            .map_err(store_error)?;
        let total_count = rows::count(&client, namespace, workflow_id, stage)
            .await
            .map_err(store_error)?;
        let page = usize::try_from(limit).map_err(|_| Error::internal())?;
        let more = found.len() > page;
        found.truncate(page);
        let next_page_token = match found.last() {
            Some(last) if more => page_token(&last.position.to_string()),
            Some(_) | None => String::new(),
        };
        let artifacts = found.into_iter().map(stored).collect();
        Ok(ListArtifactsResponse {
            artifacts,
            next_page_token,
            total_count,
        })
    }
}

#[async_trait]
impl Service for ArtifactService {
    async fn upload_artifact(
        &self,
        request: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let artifact = self.upload(&namespace, request.into_inner()).await?;
        Ok(Response::new(UploadArtifactResponse {
            artifact: Some(artifact),
        }))
    }

    type DownloadArtifactStream = BoxStream<'static, Result<DownloadArtifactResponse, Status>>;

    async fn download_artifact(
        &self,
        request: Request<DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let namespace = namespace::of(&request)?;
        let pieces = self.download(&namespace, request.into_inner()).await?;
        Ok(Response::new(pieces))
    }

    async fn list_artifacts(
        &self,
        request: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let listed = self.list(&namespace, request.into_inner()).await?;
        Ok(Response::new(listed))
    }
}

/// The next message's payload; `None` when the uploader has sent everything.
async fn next(messages: &mut Streaming<UploadArtifactRequest>) -> Result<Option<Payload>, Error> {
    let silent = || {
        let message = format!("nothing was sent for {} s", SILENCE.as_secs());
        Error::new(ErrorReason::DeadlineExceeded, message)
    };
    let broken = |status: Status| {
        warn!(%status, "an upload broke off");
        Error::new(
            ErrorReason::Cancelled,
            "the upload broke off; send it again from its beginning",
        )
    };
    match timeout(SILENCE, messages.message())
        .await
        .map_err(|_| silent())?
        .map_err(broken)?
    {
        None => Ok(None),
        Some(UploadArtifactRequest {
            payload: Some(payload),
        }) => Ok(Some(payload)),
        Some(UploadArtifactRequest { payload: None }) => {
            Err(Error::invalid_field("payload", "is required"))
        }
    }
}

fn non_negative(fields: &mut Fields, field: &str, number: i64) -> u64 {
    u64::try_from(number).unwrap_or_else(|_| {
        fields.wrong(field, format!("{number} is negative"));
        0
    })
}

fn stored(row: ArtifactRow) -> StoredArtifact {
    let artifact = row.artifact;
    StoredArtifact {
        artifact_id: row.artifact_id.to_string(),
        artifact: Some(Artifact {
            name: artifact.name,
            digest: artifact.digest,
            size_bytes: artifact.size_bytes,
            media_type: artifact.media_type,
            uri: String::new(),
        }),
        workflow_id: artifact
            .workflow_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        stage: artifact.stage.unwrap_or_default(),
        attempt: artifact.attempt,
        create_time: Some(row.create_time.into()),
    }
}

/// The one map from the store's errors to the wire's.
#[allow(clippy::needless_pass_by_value, reason = "it ends here")]
fn artifact_error(cause: ArtifactError) -> Error {
    match &cause {
        ArtifactError::TooLarge { .. } => {
            Error::invalid_field("artifact.size_bytes", cause.to_string())
        }
        ArtifactError::WrongSize { .. } | ArtifactError::WrongDigest { .. } => {
            Error::new(ErrorReason::DigestMismatch, cause.to_string())
        }
        ArtifactError::Busy => Error::new(ErrorReason::RateLimited, cause.to_string())
            .retry_after(Duration::from_secs(5)),
        // There is a row, so the bytes were there.
        ArtifactError::NotFound { .. } | ArtifactError::Damaged { .. } => {
            error!(?cause, "the artifact store has lost bytes");
            Error::internal()
        }
        ArtifactError::Open { .. } | ArtifactError::Store { .. } | ArtifactError::Slow { .. } => {
            error!(?cause, "the artifact store failed");
            let message = "the artifact store is away, full or refuses; nothing was kept";
            Error::new(ErrorReason::ArtifactStoreUnavailable, message)
                .retry_after(Duration::from_secs(5))
        }
    }
}
