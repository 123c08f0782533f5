//! A served artifact store in a folder of its own.

use std::{fs, path::Path};

use contracts::{
    CHUNK_BYTES,
    client::{self, ClientChannel},
    error::Error,
    id::WorkflowId,
    orchestrator::{
        ArtifactDescription, DownloadArtifactRequest, StoredArtifact, UploadArtifactRequest,
        artifact_service_client::ArtifactServiceClient,
        artifact_service_server::ArtifactServiceServer, upload_artifact_request::Payload,
    },
    task::Artifact,
};
use orchestrator::{
    artifacts::{ArtifactStore, Digest, Location},
    grpc::artifact_service::ArtifactService,
    store::Store,
};
use tempfile::TempDir;
use testkit::{database::Database, loopback::LoopbackServer};
use tokio_util::task::TaskTracker;
use tonic::{Status, service::Routes};

use crate::database::database;

/// The store, its database, and a client.
pub struct Bed {
    pub client: ArtifactServiceClient<ClientChannel>,
    pub folder: TempDir,
    pub database: Database,
    pub server: LoopbackServer,
}

impl Bed {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder(folder.path().to_path_buf());
        let artifacts = ArtifactStore::open(&location, TaskTracker::new()).unwrap();
        Self::serving(artifacts, folder).await
    }

    pub async fn serving(artifacts: ArtifactStore, folder: TempDir) -> Self {
        let (database, store) = database().await;
        let (client, server) = serve(artifacts, store).await;
        Self {
            client,
            folder,
            database,
            server,
        }
    }

    pub async fn upload(&mut self, name: &str, bytes: &[u8]) -> StoredArtifact {
        self.send(description(name, bytes), bytes).await.unwrap()
    }

    /// Sends a description and bytes, which need not fit each other.
    pub async fn send(
        &mut self,
        description: ArtifactDescription,
        bytes: &[u8],
    ) -> Result<StoredArtifact, Status> {
        let mut messages = vec![Payload::Description(description)];
        messages.extend(
            bytes
                .chunks(CHUNK_BYTES)
                .map(|chunk| Payload::Chunk(chunk.to_vec())),
        );
        self.send_raw(messages).await
    }

    pub async fn send_raw(&mut self, messages: Vec<Payload>) -> Result<StoredArtifact, Status> {
        let messages = messages
            .into_iter()
            .map(|payload| UploadArtifactRequest {
                payload: Some(payload),
            })
            .collect::<Vec<_>>();
        let response = self
            .client
            .upload_artifact(tokio_stream::iter(messages))
            .await?;
        Ok(response.into_inner().artifact.unwrap())
    }

    pub async fn download(&mut self, digest: &str) -> Result<Vec<u8>, Status> {
        self.download_range(digest, 0, 0).await
    }

    pub async fn download_range(
        &mut self,
        digest: &str,
        offset_bytes: i64,
        limit_bytes: i64,
    ) -> Result<Vec<u8>, Status> {
        let request = DownloadArtifactRequest {
            digest: digest.to_owned(),
            offset_bytes,
            limit_bytes,
        };
        let mut stream = self.client.download_artifact(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            assert!(
                message.chunk.len() <= CHUNK_BYTES,
                "a chunk of {}",
                message.chunk.len()
            );
            bytes.extend(message.chunk);
        }
        Ok(bytes)
    }

    /// A workflow for artifacts to belong to.
    pub async fn workflow(&self) -> WorkflowId {
        let workflow_id = WorkflowId::new();
        self.database
            .connect()
            .await
            .unwrap()
            .execute(
                "INSERT INTO workflows (workflow_id, namespace, version, state, type, name, \
                     priority, labels, environment, create_time, deadline, last_sequence, live) \
                 VALUES ($1, 'default', 1, 1, 1, 'shop', 1, '{}', '', now(), now(), 0, '')",
                &[&workflow_id.0],
            )
            .await
            .unwrap();
        workflow_id
    }

    /// Every file in the store, staged ones included.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found
    }
}

pub async fn serve(
    artifacts: ArtifactStore,
    store: Store,
) -> (ArtifactServiceClient<ClientChannel>, LoopbackServer) {
    let service = ArtifactService::new(artifacts, store);
    let server = LoopbackServer::start(Routes::new(ArtifactServiceServer::new(service)))
        .await
        .unwrap();
    let channel = client::channel(&server.url(), None).unwrap();
    (ArtifactServiceClient::new(channel), server)
}

/// A truthful description of bytes.
pub fn description(name: &str, bytes: &[u8]) -> ArtifactDescription {
    ArtifactDescription {
        artifact: Some(Artifact {
            name: name.to_owned(),
            digest: Digest::of(bytes).to_string(),
            size_bytes: i64::try_from(bytes.len()).unwrap(),
            media_type: "application/octet-stream".to_owned(),
            uri: String::new(),
        }),
        ..ArtifactDescription::default()
    }
}

/// Bytes without a short period, so that pieces in the wrong order show.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// The error as clients read it.
pub fn read_error<T: std::fmt::Debug>(result: Result<T, Status>) -> Error {
    let status = result.unwrap_err();
    Error::from_status(&status).expect("an error of the contract")
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path.display().to_string());
        }
    }
}
