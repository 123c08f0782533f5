//! gRPC servers for tests: on a free loopback port, or in memory without any port. It knows nothing of what they serve.

mod severable;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context;
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server, Uri},
};

use self::severable::Severable;

/// A server that does not end by then has a stuck call, which is what the test should say.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// As much as a socket would take.
const PIPE_BYTES: usize = 64 << 10;

/// Connections that wait to be taken.
const BACKLOG: usize = 8;

/// A running server; dropping it breaks every connection, as a kill would.
#[derive(Debug)]
pub struct LoopbackServer {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinSet<Result<(), tonic::transport::Error>>,
    _sever: DropGuard,
}

impl LoopbackServer {
    /// Serves on a free port; whoever connects from now on is served.
    pub async fn start(routes: Routes) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let sever = CancellationToken::new();
        let severed = sever.clone();
        let connections = TcpListenerStream::new(listener).map(move |stream| {
            let stream = stream?;
            // As real servers do: small messages do not wait.
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(Severable::new(stream, &severed))
        });
        let mut serving = JoinSet::new();
        serving.spawn(
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned()),
        );
        Ok(Self {
            address,
            stop,
            serving,
            _sever: sever.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as gRPC clients want it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A connection to it.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?.connect().await?)
    }

    /// Stops taking calls and waits for the open ones.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        timeout(STOP_WITHIN, self.serving.join_next())
            .await
            .context("a call did not end")?
            .context("the server has no task")???;
        Ok(())
    }
}

/// A server without a port.
#[derive(Debug)]
pub struct InMemoryServer {
    channel: Channel,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
    _sever: DropGuard,
}

impl InMemoryServer {
    /// Serves, and connects to it. Must be called within a runtime.
    pub fn start(routes: Routes) -> Self {
        let (connecting, connections) = mpsc::channel::<io::Result<DuplexStream>>(BACKLOG);
        let sever = CancellationToken::new();
        let severed = sever.clone();
        let connections = ReceiverStream::new(connections)
            .map(move |stream| stream.map(|stream| Severable::new(stream, &severed)));
        let mut serving = JoinSet::new();
        serving.spawn(
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming(connections),
        );
        let connector = tower::service_fn(move |_: Uri| {
            let connecting = connecting.clone();
            async move {
                let (near, far) = tokio::io::duplex(PIPE_BYTES);
                connecting
                    .send(Ok(far))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok::<_, io::Error>(TokioIo::new(near))
            }
        });
        // The connector ignores the address.
        let channel =
            Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector);
        Self {
            channel,
            _serving: serving,
            _sever: sever.drop_guard(),
        }
    }

    /// A connection to it; it ends with the server.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}
