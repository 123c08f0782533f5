//! The router between real sockets: shares, switches, retries, streams, upgrades, HTTP/2.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use deployment_agent::router::{Limits, Router};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::load::{Load, loopback};

type Body = BoxBody<Bytes, Infallible>;

/// A server that answers every request with the given function.
async fn serve<F, A>(answer: F) -> (SocketAddr, JoinSet<()>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, tasks)
}

fn text(text: &'static str) -> Response<Body> {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed())
}

async fn open(router: &Router) -> SocketAddr {
    router.listen(loopback(0)).await.unwrap()
}

async fn client(address: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection.with_upgrades());
    sender
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header(header::HOST, "shop.test")
        .body(Full::default())
        .unwrap()
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let response = client(address).await.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn without_a_backend_clients_are_told_why() {
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    router.set_vacant_reason("revision 3 was given up: it answered 500");
    let (status, body) = ask(address, get("/")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("revision 3 was given up"), "{body}");
    assert_eq!(router.totals().vacant, 1);
}

#[tokio::test]
async fn a_dead_backend_costs_nothing_while_another_one_lives() {
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    let dead = TcpListener::bind(loopback(0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (alive, _serving) = serve(|_| async { text("alive") }).await;
    router.attach(1, dead);
    router.attach(1, alive);
    router.set_shares(&[(1, 1)]);
    for _ in 0..20 {
        assert_eq!(
            ask(address, get("/")).await,
            (StatusCode::OK, "alive".to_owned())
        );
    }
    assert_eq!(router.totals().failed, 0);
    assert!(router.group_sample(1).unreachable > 0);
}

#[tokio::test]
async fn with_only_dead_backends_clients_get_502_and_a_reason() {
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    let dead = TcpListener::bind(loopback(0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    router.attach(1, dead);
    router.set_shares(&[(1, 1)]);
    let (status, body) = ask(address, get("/")).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(body.contains("no instance could be reached"), "{body}");
    assert_eq!(router.totals().failed, 1);
}

#[tokio::test]
async fn a_port_that_somebody_has_is_named() {
    let taken = TcpListener::bind(loopback(0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Router::new(Limits::default())
        .listen(address)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&address.port().to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("already taken"), "{error}");
}

#[tokio::test]
async fn no_request_fails_while_backends_are_switched_under_load() {
    let router = Arc::new(Router::new(Limits::default()));
    let address = open(&router).await;
    let slow = |name: &'static str| {
        move |_| async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            text(name)
        }
    };
    let (first, serving) = serve(slow("blue")).await;
    let mut backend = router.attach(1, first);
    let mut serving = Some(serving);
    router.set_shares(&[(1, 1)]);
    let load = Load::start(address, 16);
    for group in 2..=12 {
        load.wait_for(200).await;
        let (next, next_serving) = serve(slow("green")).await;
        let next = router.attach(group, next);
        router.set_shares(&[(group, 1)]);
        router.detach(&backend);
        assert_eq!(backend.drain(Duration::from_secs(10)).await.cut_count, 0);
        // The old server and all its connections are gone at once.
        drop(serving.replace(next_serving));
        backend = next;
    }
    let seen = load.stop().await;
    assert_eq!(seen.failures, Vec::<String>::new());
    assert!(seen.count > 2000, "{}", seen.count);
    assert_eq!(router.totals().failed, 0);
}

#[tokio::test]
async fn a_kept_connection_that_the_backend_closed_costs_no_safe_request() {
    // Answers one request per connection and closes it without announcing that it will.
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let backend = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or(0) > 0 {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            }
        }
    });
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let mut sender = client(address).await;
    for _ in 0..300 {
        sender.ready().await.unwrap();
        let response = sender.send_request(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(router.totals().failed, 0);
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_never_sent_again() {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let backend = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    router.attach(1, backend);
    router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let order = Request::post("/orders")
        .header(header::HOST, "shop.test")
        .body(Full::new(Bytes::from_static(b"one shoe")))
        .unwrap();
    let (status, body) = ask(address, order).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(body.contains("broke off"), "{body}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(router.group_sample(1).transport_errors, 1);
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let (backend, _serving) = serve(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body).boxed())
    })
    .await;
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let sent = Bytes::from(vec![7_u8; 8 * 1024 * 1024]);
    let request = Request::put("/big")
        .header(header::HOST, "shop.test")
        .body(Full::new(sent.clone()))
        .unwrap();
    let response = client(address).await.send_request(request).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        sent
    );
}

/// Sends a piece every few milliseconds, for ever.
fn endless() -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    tokio_util::task::TaskTracker::new().spawn(async move {
        while sender
            .send(Ok(Frame::data(Bytes::from_static(b"tick\n"))))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    Response::new(http_body_util::BodyExt::boxed(StreamBody::new(SyncStream(
        std::sync::Mutex::new(Box::pin(stream)),
    ))))
}

/// Bodies must be `Sync`; a lock that is never contended makes the stream so.
struct SyncStream<S>(std::sync::Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures::Stream> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.get_mut()
            .0
            .get_mut()
            .unwrap()
            .as_mut()
            .poll_next(context)
    }
}

#[tokio::test]
async fn a_stream_longer_than_the_drain_is_cut_and_counted() {
    let (backend, _serving) = serve(|_| async { endless() }).await;
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    let backend = router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let response = client(address)
        .await
        .send_request(get("/stream"))
        .await
        .unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(backend.in_flight_count(), 1);
    router.detach(&backend);
    let begun = Instant::now();
    let drained = backend.drain(Duration::from_millis(300)).await;
    assert_eq!(drained.cut_count, 1);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let end = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(5), end)
        .await
        .unwrap();
    assert!(
        end.is_some_and(|end| end.is_err()),
        "a cut stream must not look finished"
    );
    assert_eq!(router.group_sample(1).cut, 1);
    assert_eq!(backend.in_flight_count(), 0);
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways_and_is_cut_at_the_deadline() {
    let (backend, _serving) = serve(|mut request: Request<Incoming>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio_util::task::TaskTracker::new().spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut piece = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                stream.write_all(&piece[..count]).await.unwrap();
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "echo")
            .body(Empty::new().boxed())
            .unwrap()
    })
    .await;
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    let backend = router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let request = Request::get("/socket")
        .header(header::HOST, "shop.test")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "echo")
        .body(Full::default())
        .unwrap();
    let response = client(address).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for _ in 0..10 {
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    }
    router.detach(&backend);
    assert_eq!(backend.drain(Duration::from_millis(100)).await.cut_count, 1);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    let _ = tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn grpc_goes_through_as_http2_with_its_trailers() {
    let (backend, _serving) = serve(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(request.headers()[header::TE], "trailers");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
        Response::new(body.boxed())
    })
    .await;
    let router = Router::new(Limits::default());
    let address = open(&router).await;
    router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    for _ in 0..3 {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}/shop.v1.Shop/Buy"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(Bytes::from_static(b"message")))
            .unwrap();
        let answer = sender
            .send_request(request)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), "message");
    }
}

#[tokio::test]
async fn an_app_that_never_answers_is_given_up_on_in_time() {
    let (backend, _serving) = serve(|_| std::future::pending()).await;
    let limits = Limits {
        answer_within: Duration::from_millis(200),
        ..Limits::default()
    };
    let router = Router::new(limits);
    let address = open(&router).await;
    router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let (status, body) = ask(address, get("/")).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(body.contains("did not answer in time"), "{body}");
}

#[tokio::test]
async fn a_shutdown_lets_open_requests_finish() {
    let (backend, _serving) = serve(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        text("done")
    })
    .await;
    let router = Arc::new(Router::new(Limits::default()));
    let address = open(&router).await;
    let backend = router.attach(1, backend);
    router.set_shares(&[(1, 1)]);
    let asking = ask(address, get("/"));
    let stopping = async {
        while backend.in_flight_count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        router.shutdown(Duration::from_secs(10)).await;
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert_eq!(answer, (StatusCode::OK, "done".to_owned()));
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port must be closed"
    );
}
