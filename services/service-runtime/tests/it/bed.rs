//! An authority, certificates in a folder, and servers that say who called them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Ready, ready};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use contracts::client::ClientChannel;
use contracts::task::AgentType;
use service_runtime::admission::Callers;
use service_runtime::server::{Server, bind};
use service_runtime::tls::authority::{Authority, Issued, Subject};
use service_runtime::tls::{Expected, Files, Identity, Peer, Tls};

/// Nothing that is refused may take longer.
pub const BOUND: Duration = Duration::from_secs(5);

/// A folder with certificates of one authority.
pub struct Bed {
    folder: TempDir,
    authority: Authority,
}

impl Bed {
    pub fn new() -> Self {
        let (authority, files) = Authority::create("test", time::Duration::HOUR).unwrap();
        let bed = Self {
            folder: TempDir::new().unwrap(),
            authority,
        };
        bed.write("ca", &files);
        bed
    }

    /// Files of a service.
    pub fn files(&self, name: &str, identity: Option<&Identity>) -> Files {
        self.files_for(name, identity, time::Duration::HOUR)
    }

    /// Files that hold for so long.
    pub fn files_for(
        &self,
        name: &str,
        identity: Option<&Identity>,
        lifetime: time::Duration,
    ) -> Files {
        self.write(name, &self.issue(identity, lifetime));
        Files {
            own: Some((self.path(name, "crt"), self.path(name, "key"))),
            authorities: Some(self.path("ca", "crt")),
        }
    }

    /// A certificate in memory.
    pub fn issue(&self, identity: Option<&Identity>, lifetime: time::Duration) -> Issued {
        let subject = Subject {
            common_name: "test".to_owned(),
            identity: identity.cloned(),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        self.authority.issue(&subject, lifetime).unwrap()
    }

    /// What a service has.
    pub fn tls(&self, name: &str, identity: &Identity) -> Tls {
        Tls::read(self.files(name, Some(identity))).unwrap()
    }

    /// What a person has: the authority, and no certificate.
    pub fn person(&self) -> Tls {
        Tls::read(Files {
            own: None,
            authorities: Some(self.path("ca", "crt")),
        })
        .unwrap()
    }

    /// Replaces both files at once, as far as there is such a thing.
    pub fn write(&self, name: &str, issued: &Issued) {
        for (kind, text) in [("crt", &issued.certificate), ("key", &issued.key)] {
            let path = self.path(name, kind);
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        }
    }

    pub fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.path_of(&format!("{name}.{kind}"))
    }

    fn path_of(&self, file: &str) -> PathBuf {
        Path::new(self.folder.path()).join(file)
    }
}

pub fn agent(agent_type: AgentType) -> Identity {
    Identity::agent(agent_type)
}

/// A server that runs until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    _guard: DropGuard,
}

impl Running {
    pub fn https(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn http(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub async fn serve(tls: Tls, callers: Callers) -> Running {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::new(false).secured(tls.clone(), callers);
    server.add(Who).await;
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    tracker.spawn(tls.watch(stop.clone()));
    tracker.spawn(server.serve(listener, stop.clone(), BOUND));
    Running {
        address,
        _guard: stop.drop_guard(),
    }
}

/// Asks whether it is healthy; whatever the answer, it must come within the bound.
pub async fn ask(channel: &ClientChannel) -> Result<(), Status> {
    let mut client = HealthClient::new(channel.clone());
    let asking = client.check(HealthCheckRequest::default());
    tokio::time::timeout(BOUND, Box::pin(asking))
        .await
        .expect("an answer within the bound")
        .map(|_| ())
}

pub async fn ask_at(tls: &Tls, address: &str, expected: Expected) -> Result<(), Status> {
    ask(&tls.channel(address, None, expected).unwrap()).await
}

/// Who the server thinks that we are.
pub async fn who(channel: &ClientChannel) -> String {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/test.Who/Ask");
    let request = Request::new(HealthCheckRequest::default());
    let answer = client.unary(request, path, codec).await;
    answer.unwrap_err().message().to_owned()
}

/// Everything that a person would read of a failed call.
pub fn told(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

/// Refuses every call, with the name of who made it.
#[derive(Clone)]
struct Who;

impl NamedService for Who {
    const NAME: &'static str = "test.Who";
}

impl tower::Service<http::Request<Body>> for Who {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = Peer::of(request.extensions());
        let name = peer
            .identity
            .map_or_else(|| "nobody".to_owned(), |identity| identity.to_string());
        assert!(peer.address.is_some());
        ready(Ok(Status::new(Code::Aborted, name).into_http()))
    }
}
