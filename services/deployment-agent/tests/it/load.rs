//! Clients that never stop asking, and remember every answer that a user would complain about.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;

/// A loopback address.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What the clients saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Answers.
    pub count: usize,
    /// Answers by body.
    pub bodies: BTreeMap<String, usize>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// Clients at work.
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts so many clients; every third posts, so that nothing may be sent twice.
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (count, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (seen, count, stop) = (Arc::clone(&seen), Arc::clone(&count), Arc::clone(&stop));
            tasks.spawn(async move {
                let connector = HttpConnector::new();
                let client: Client<_, Full<Bytes>> =
                    Client::builder(TokioExecutor::new()).build(connector);
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&client, address, number % 3 == 0).await;
                    let mut seen = seen.lock().unwrap();
                    seen.count += 1;
                    match answer {
                        Ok(body) => *seen.bodies.entry(body).or_default() += 1,
                        Err(failure) => seen.failures.push(failure),
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            seen,
            count,
            stop,
            clients: tasks,
        }
    }

    /// Waits for so many more answers.
    pub async fn wait_for(&self, more: usize) {
        let until = self.count.load(Ordering::Relaxed) + more;
        while self.count.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Stops after the answers that are on their way.
    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.seen()
    }
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    post: bool,
) -> Result<String, String> {
    let uri = format!("http://{address}/");
    let request = if post {
        Request::post(uri)
    } else {
        Request::get(uri)
    };
    let body = if post {
        Bytes::from_static(b"order")
    } else {
        Bytes::new()
    };
    let request = request.body(Full::new(body)).unwrap();
    let response = client
        .request(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| format!("body: {error:?}"))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if status.is_success() {
        Ok(body)
    } else {
        Err(format!("{status}: {body}"))
    }
}
