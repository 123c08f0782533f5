//! An orchestrator that serves with TLS and issues certificates, on a database of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use contracts::client::ClientChannel;
use contracts::orchestrator::enrolment_service_client::EnrolmentServiceClient;
use orchestrator::access::Mode;
use orchestrator::access::config::AccessConfig;
use orchestrator::artifacts::Location;
use orchestrator::config::{Enrolment, Retention};
use orchestrator::serve::OrchestratorError;
use orchestrator::{Bound, Config};
use service_runtime::tls::authority::{Authority, Issued, Subject};
use service_runtime::tls::{Expected, Files, Identity, Tls};
use testkit::database::Database;

use crate::database;

/// Certificates, a database, and an orchestrator that can be replaced.
pub struct Bed {
    pub database: Database,
    folder: TempDir,
    authority: Arc<Authority>,
    serving: Option<Serving>,
    address: String,
}

/// Another replica; dropping it stops it.
pub struct Other {
    pub address: String,
    _serving: Serving,
}

struct Serving {
    stop: CancellationToken,
    done: JoinHandle<Result<(), OrchestratorError>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bed {
    pub async fn start() -> Self {
        let (authority, files) = Authority::create("test", time::Duration::HOUR).unwrap();
        let mut bed = Self {
            database: database::migrated().await,
            folder: TempDir::new().unwrap(),
            authority: Arc::new(authority),
            serving: None,
            address: String::new(),
        };
        bed.write("ca", &files);
        bed.serve().await;
        bed
    }

    /// Another orchestrator in the place of this one.
    pub async fn restart(&mut self) {
        let mut serving = self.serving.take().unwrap();
        serving.stop.cancel();
        (&mut serving.done).await.unwrap().unwrap();
        self.serve().await;
    }

    /// One more on the same database.
    pub async fn another(&self) -> Other {
        let (address, serving) = self.launch().await;
        Other {
            address,
            _serving: serving,
        }
    }

    async fn serve(&mut self) {
        let (address, serving) = self.launch().await;
        self.address = address;
        self.serving = Some(serving);
    }

    async fn launch(&self) -> (String, Serving) {
        let config = Config {
            address: "127.0.0.1:0".parse().unwrap(),
            http_address: None,
            tls: self.service(&Identity::Orchestrator),
            http_tls: false,
            enrolment: Some(Enrolment {
                authority: self.authority.clone(),
                lifetime: Duration::from_mins(1),
            }),
            database_url: self.database.connection_string().to_owned(),
            redis: None,
            connections: 8,
            artifacts: Location::Folder(self.folder.path().join("artifacts")),
            retention: Retention(None),
            live_workflows: 100_000,
            shutdown_grace: Duration::from_secs(5),
            access: AccessConfig {
                mode: Mode::Open,
                ..AccessConfig::default()
            },
            reflection: true,
            agents_are_ours: false,
            registry: None,
        };
        let stop = CancellationToken::new();
        let (sender, bound) = oneshot::channel();
        let mut done = TaskTracker::new().spawn(orchestrator::serve(config, stop.clone(), sender));
        let bound: Bound = tokio::select! {
            biased;
            bound = bound => bound.unwrap(),
            ended = &mut done => panic!("it did not start: {ended:?}"),
        };
        (format!("https://{}", bound.grpc), Serving { stop, done })
    }

    /// What a service has.
    pub fn service(&self, identity: &Identity) -> Tls {
        self.with(&self.issued(identity))
    }

    /// Made by the authority, without the mesh.
    pub fn issued(&self, identity: &Identity) -> Issued {
        let subject = Subject {
            common_name: "test".to_owned(),
            identity: Some(identity.clone()),
            hosts: vec!["127.0.0.1".to_owned()],
        };
        let issued = self.authority.issue(&subject, time::Duration::HOUR);
        issued.unwrap()
    }

    /// What somebody has who was given these.
    pub fn with(&self, issued: &Issued) -> Tls {
        let name = uuid::Uuid::now_v7().to_string();
        self.write(&name, issued);
        Tls::read(Files {
            own: Some((self.path(&name, "crt"), self.path(&name, "key"))),
            authorities: Some(self.path("ca", "crt")),
        })
        .unwrap()
    }

    /// What a person has.
    pub fn person(&self) -> Tls {
        Tls::read(Files {
            own: None,
            authorities: Some(self.path("ca", "crt")),
        })
        .unwrap()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn channel(&self, tls: &Tls) -> ClientChannel {
        Self::channel_at(&self.address, tls)
    }

    /// To a replica.
    pub fn channel_at(address: &str, tls: &Tls) -> ClientChannel {
        tls.channel(address, None, Expected::Orchestrator).unwrap()
    }

    pub fn enrolment(&self, tls: &Tls) -> EnrolmentServiceClient<ClientChannel> {
        EnrolmentServiceClient::new(self.channel(tls))
    }

    fn write(&self, name: &str, issued: &Issued) {
        std::fs::write(self.path(name, "crt"), &issued.certificate).unwrap();
        std::fs::write(self.path(name, "key"), &issued.key).unwrap();
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{kind}"))
    }
}
