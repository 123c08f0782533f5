//! An agent's deployments on a data folder of their own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deployment_agent::{
    account::Account,
    journal::Journal,
    ledger::Ledger,
    name::Name,
    ports::InstancePorts,
    router::Limits,
    site::{Bounds, Error, Order, RollbackOrder, RollbackSubject, Site, Source},
    sites::{Claim, Settings, Sites},
    spec::Spec,
    strategy::Strategy,
    target::{Targets, process::ProcessTarget},
};
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{apps::Files, load::loopback, ports};

/// Deployments of one app.
pub struct Bench {
    pub folder: TempDir,
    pub sites: Sites,
    tasks: AtomicUsize,
}

/// The environment of all tests.
pub fn environment() -> Name {
    Name::parse("production").unwrap()
}

/// The app of all tests.
pub fn app() -> Name {
    Name::parse("shop").unwrap()
}

/// How deployments are made on a folder.
pub fn settings(folder: &std::path::Path) -> Settings {
    Settings {
        data: folder.to_owned(),
        listen: loopback(0).ip(),
        advertise: "127.0.0.1".into(),
        router_ports: ports::claim(),
        secrets: Some(folder.join("secrets")),
        kept_releases: 5,
        router_limits: Limits::default(),
    }
}

/// Opens deployments on a folder.
pub async fn open(folder: &std::path::Path) -> Sites {
    let claim = Claim::take(folder).unwrap();
    let process = ProcessTarget::new(InstancePorts::new(20000..=29999), claim.owner());
    Sites::open(settings(folder), Targets::new(Arc::new(process)), claim)
        .await
        .unwrap()
}

/// Bounds that no test should reach.
pub fn bounds() -> Bounds {
    Bounds {
        cancel: CancellationToken::new(),
        deadline: Instant::now() + Duration::from_mins(2),
    }
}

impl Bench {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sites = open(folder.path()).await;
        Self {
            folder,
            sites,
            tasks: AtomicUsize::default(),
        }
    }

    pub fn order(&self, asked: Spec, strategy: Strategy) -> Order {
        let number = self.tasks.fetch_add(1, Ordering::SeqCst);
        Order {
            task_key: format!("task-{number}"),
            attempt: 1,
            asked,
            strategy,
            port: None,
            ports_of_others: Vec::new(),
            source: Arc::new(Files),
        }
    }

    pub async fn deploy(&self, asked: Spec, strategy: Strategy) -> Account {
        self.try_deploy(self.order(asked, strategy)).await.unwrap()
    }

    pub async fn try_deploy(&self, order: Order) -> Result<Account, Error> {
        self.deploy_within(order, &bounds()).await
    }

    pub async fn deploy_within(&self, order: Order, bounds: &Bounds) -> Result<Account, Error> {
        self.sites
            .deploy(&environment(), &app(), order, Journal::new(None), bounds)
            .await
    }

    pub async fn deploy_from(&self, asked: Spec, source: Arc<dyn Source>) -> Account {
        let order = Order {
            source,
            ..self.order(asked, Strategy::BlueGreen)
        };
        self.try_deploy(order).await.unwrap()
    }

    pub async fn rollback(&self, task_key: &str) -> Account {
        let order = RollbackOrder {
            task_key: task_key.to_owned(),
            attempt: 1,
            reason: "customers complain".to_owned(),
            subject: RollbackSubject::Live,
        };
        self.sites
            .rollback(&environment(), &app(), order, Journal::new(None), &bounds())
            .await
            .unwrap()
    }

    pub async fn site(&self) -> Arc<Site> {
        self.sites.site(&environment(), &app()).await.unwrap()
    }

    pub async fn ledger(&self) -> Ledger {
        self.site().await.ledger().await.unwrap()
    }

    /// Where the app answers.
    pub async fn address(&self) -> SocketAddr {
        loopback(self.site().await.port().unwrap())
    }

    pub async fn stop(self) {
        self.sites.shutdown(Duration::from_secs(30)).await;
    }
}

/// What an address answers to a GET: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "shop.test")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Processes whose command line contains the text.
pub fn processes_with(text: &str) -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(text))
        })
        .collect()
}
