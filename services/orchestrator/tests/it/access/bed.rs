//! An orchestrator that asks for credentials, and callers with one each.

use std::time::Duration;

use http::uri::PathAndQuery;
use orchestrator::Config;
use orchestrator::access::Mode;
use orchestrator::access::config::{AccessConfig, BootstrapToken};
use orchestrator::access::secret::Secret;
use tempfile::TempDir;
use testkit::database::Database;
use tonic::{Code, Request, Status};

use contracts::client::{self, ClientChannel};
use contracts::orchestrator::token_service_client::TokenServiceClient;
use contracts::orchestrator::{CreateTokenRequest, CreateTokenResponse, Role};

use crate::database::migrated;
use crate::mesh::Replica;

/// One replica, restricted.
pub struct Bed {
    pub database: Database,
    pub replica: Replica,
    pub admin: Secret,
    pub agent: Secret,
    folder: TempDir,
}

impl Bed {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (admin, agent) = (Secret::random(), Secret::random());
        let database = migrated().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            access: restricted(&admin, &agent),
            ..Replica::config(database.connection_string(), folder.path())
        };
        change(&mut config);
        let mut replica = Replica::start_as(config).await;
        replica.channel = client::channel(&replica.url, Some(admin.reveal())).unwrap();
        Self {
            database,
            replica,
            admin,
            agent,
            folder,
        }
    }

    /// Another replica of the same mesh.
    pub async fn another(&self) -> Replica {
        self.another_with(|_| {}).await
    }

    /// Another one with other settings.
    pub async fn another_with(&self, change: impl FnOnce(&mut Config)) -> Replica {
        let mut config = Config {
            access: restricted(&self.admin, &self.agent),
            ..Replica::config(self.database.connection_string(), self.folder.path())
        };
        change(&mut config);
        Replica::start_as(config).await
    }

    /// Calls with this token.
    pub fn with(&self, secret: &str) -> ClientChannel {
        client::channel(&self.replica.url, Some(secret)).unwrap()
    }

    pub fn admin(&self) -> ClientChannel {
        self.with(self.admin.reveal())
    }

    /// A token of somebody with that role, in the default namespace.
    pub async fn token(&self, role: Role) -> String {
        let request = CreateTokenRequest {
            name: format!("{role:?}").to_lowercase(),
            roles: vec![role.into()],
            ..CreateTokenRequest::default()
        };
        self.create(request).await.unwrap().secret
    }

    pub async fn create(&self, request: CreateTokenRequest) -> Result<CreateTokenResponse, Status> {
        TokenServiceClient::new(self.admin())
            .create_token(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

fn restricted(admin: &Secret, agent: &Secret) -> AccessConfig {
    AccessConfig {
        mode: Mode::Restricted,
        bootstrap: vec![
            BootstrapToken {
                name: "administrator",
                role: Role::Admin,
                secret: admin.clone(),
            },
            BootstrapToken {
                name: "agents",
                role: Role::Agent,
                secret: agent.clone(),
            },
        ],
        ..AccessConfig::default()
    }
}

/// Makes a call of any kind with an empty message. `Ok`: it was let in, and is open.
pub async fn call(channel: ClientChannel, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path: PathAndQuery = format!("/{path}").parse().unwrap();
    // On the wire, a call with one message is a stream of one message.
    let mut request = Request::new(tokio_stream::once(()));
    request.set_timeout(Duration::from_secs(20));
    grpc.streaming(request, path, codec).await.map(drop)
}

/// Whether a call was let in, whatever came of it then.
pub fn admitted(answer: &Result<(), Status>) -> bool {
    !matches!(
        answer.as_ref().map_err(Status::code),
        Err(Code::Unauthenticated | Code::PermissionDenied)
    )
}
