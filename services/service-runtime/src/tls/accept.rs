//! Takes in connections, in clear text or with TLS, and knows who is on the other side.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpIncoming};

use super::identity::{Identity, IdentityError, Peer};
use super::revoked::serial;
use super::{CallerCertificate, Tls};

// A round trip to the other side of the world several times over; longer is somebody who holds the door.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
// Handshakes at once, so that callers who do not finish theirs cost bounded memory.
const HANDSHAKES: usize = 1024;

static FAILURES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("agentic")
        .u64_counter("agentic.tls.handshake.failures")
        .with_description("Connections that did not agree on TLS")
        .build()
});

/// A connection that was taken in.
pub struct Connection {
    stream: Stream,
    peer: Peer,
}

enum Stream {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// Connections of a listener. With a certificate, only those that agreed on TLS.
pub fn incoming(
    listener: TcpListener,
    tls: Tls,
    callers: CallerCertificate,
) -> BoxStream<'static, io::Result<Connection>> {
    // Small messages must not wait for the other side's delayed acknowledgement (40 ms).
    let accepted = TcpIncoming::from(listener).with_nodelay(Some(true));
    if !tls.can_serve() {
        return accepted
            .map_ok(|stream| Connection {
                peer: Peer {
                    address: stream.peer_addr().ok(),
                    ..Peer::default()
                },
                stream: Stream::Clear(stream),
            })
            .boxed();
    }
    accepted
        .map(move |stream| {
            let tls = tls.clone();
            async move {
                match stream {
                    Ok(stream) => shake_hands(stream, &tls, callers).await.map(Ok),
                    Err(error) => Some(Err(error)),
                }
            }
        })
        .buffer_unordered(HANDSHAKES)
        .filter_map(std::future::ready)
        .boxed()
}

// `None`: it was said why not.
async fn shake_hands(
    stream: TcpStream,
    tls: &Tls,
    callers: CallerCertificate,
) -> Option<Connection> {
    let address = stream.peer_addr().ok();
    let failed = |kind: &'static str, reason: String| {
        FAILURES.add(1, &[KeyValue::new("reason", kind)]);
        if kind == "closed" {
            // A probe that asks whether the port is open.
            tracing::debug!(?address, reason, "no TLS handshake");
        } else {
            tracing::warn!(?address, reason, "no TLS handshake");
        }
        None
    };
    let acceptor = TlsAcceptor::from(tls.server(callers)?);
    let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let (kind, reason) = explain(&error);
            return failed(kind, reason);
        }
        Err(_) => return failed("timeout", format!("not within {HANDSHAKE_WITHIN:?}")),
    };
    let certificate = stream.get_ref().1.peer_certificates();
    let (identity, serial) = match certificate
        .and_then(|chain| chain.first())
        .map(|first| Ok::<_, IdentityError>((Identity::of(first)?, serial(first)?)))
    {
        None => (None, None),
        Some(Ok((identity, serial))) => (identity, Some(serial)),
        Some(Err(error)) => return failed("certificate", error.to_string()),
    };
    Some(Connection {
        peer: Peer {
            address,
            secure: true,
            identity,
            serial,
        },
        stream: Stream::Secure(Box::new(stream)),
    })
}

fn explain(error: &io::Error) -> (&'static str, String) {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => (
            "clear_text",
            "the caller does not speak TLS: this port takes nothing else".to_owned(),
        ),
        Some(rustls::Error::NoCertificatesPresented) => {
            ("certificate", "the caller showed no certificate".to_owned())
        }
        Some(rustls::Error::InvalidCertificate(problem)) => (
            "certificate",
            format!("the caller's certificate is refused: {problem}"),
        ),
        Some(rustls::Error::AlertReceived(alert)) => (
            "refused",
            format!("the caller refuses our certificate: {alert:?}"),
        ),
        Some(other) => ("other", other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => ("closed", error.to_string()),
        None => ("other", error.to_string()),
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Clear(stream) => stream.is_write_vectored(),
            Stream::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The same connections for a server of HTTP.
pub struct HttpListener {
    incoming: BoxStream<'static, io::Result<Connection>>,
    address: SocketAddr,
}

impl HttpListener {
    /// Takes over a listener; callers show no certificate.
    pub fn new(listener: TcpListener, tls: Tls) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self {
            incoming: incoming(listener, tls, CallerCertificate::None),
            address,
        })
    }
}

impl axum::serve::Listener for HttpListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.incoming.next().await {
                Some(Ok(connection)) => {
                    let address = connection.peer.address.unwrap_or(self.address);
                    return (connection, address);
                }
                Some(Err(error)) => {
                    // Such as too many open files: others must close theirs first.
                    tracing::warn!(%error, "a connection could not be taken in");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
