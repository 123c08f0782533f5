//! One port of a router: accepts connections while there is room and serves HTTP/1.1, upgrades and
//! HTTP/2 with prior knowledge on them. Knows nothing about where requests go.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Error, Inner, forward::forward};

/// Pause after the system refuses a connection (file descriptors used up), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams at once on one HTTP/2 client connection.
const STREAM_LIMIT: u32 = 256;

/// An open port; dropping it closes the port.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    _closing: DropGuard,
}

impl Listener {
    pub(super) async fn open(address: SocketAddr, inner: &Arc<Inner>) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                Error::PortTaken(address)
            } else {
                Error::Listen { address, source }
            }
        })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Listen { address, source })?;
        let closing = CancellationToken::new();
        inner
            .clients_at_work
            .run(accept(listener, Arc::clone(inner), closing.clone()));
        Ok(Self {
            address,
            _closing: closing.drop_guard(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>, closing: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            accepted = next(&listener, &inner) => accepted,
        };
        match accepted {
            Ok((stream, peer, room)) => {
                let serving = serve(stream, peer, Arc::clone(&inner), closing.clone());
                inner.clients_at_work.run(async move {
                    serving.await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn next(
    listener: &TcpListener,
    inner: &Inner,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let room = Arc::clone(&inner.clients)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, room))
}

async fn serve(stream: TcpStream, peer: SocketAddr, inner: Arc<Inner>, closing: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot turn off delay");
    }
    let mut builder = auto::Builder::new(inner.runner.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(inner.limits.head_within);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAM_LIMIT);
    let service = service_fn(move |request| forward(Arc::clone(&inner), peer, request));
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = &mut connection => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "client connection ended badly");
    }
}
