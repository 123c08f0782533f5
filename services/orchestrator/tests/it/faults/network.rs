//! The four ways that lead to and from one replica: each can stall, lose what goes one way, or be cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use testkit::fault_proxy::{Direction, Fault, FaultProxy};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::fleet::{Fleet, Road};
use super::replica::Replica;

/// The way from a replica to its database.
#[derive(Debug)]
pub struct DatabaseLink {
    proxy: FaultProxy,
    url: String,
    _relay: JoinSet<()>,
}

impl DatabaseLink {
    /// A way to the same database over TCP.
    pub async fn start(database_url: &str) -> Self {
        let config = Config::from_str(database_url).unwrap();
        let [Host::Unix(folder)] = config.get_hosts() else {
            panic!("a test's database is behind a Unix socket");
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let mut relaying = JoinSet::new();
        relaying.spawn(relay(listener, folder.join(".s.PGSQL.5432")));
        let proxy = FaultProxy::start(server).await.unwrap();
        let address = proxy.address();
        let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
        let url = format!(
            "host={} port={} user={user} dbname={name}",
            address.ip(),
            address.port()
        );
        Self {
            proxy,
            url,
            _relay: relaying,
        }
    }

    /// How the replica connects.
    pub fn url(&self) -> &str {
        &self.url
    }
}

// From a port to a socket in the file system, which the proxy does not know.
async fn relay(listener: TcpListener, socket: PathBuf) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let socket = socket.clone();
        connections.spawn(async move {
            if let Ok(mut server) = UnixStream::connect(socket).await {
                // How it ends shows at both ends.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

/// All ways of one replica.
#[derive(Debug)]
pub struct Network {
    database: DatabaseLink,
    sessions: FaultProxy,
    clients: FaultProxy,
    calls: Arc<Vec<FaultProxy>>,
}

impl Network {
    /// Between a replica and everybody.
    pub async fn start(database: DatabaseLink, replica: &Replica, fleet: &Fleet) -> Self {
        let before = async |address: SocketAddr| FaultProxy::start(address).await.unwrap();
        let mut calls = Vec::new();
        for agent in fleet.addresses() {
            calls.push(before(agent).await);
        }
        Self {
            database,
            sessions: before(replica.address()).await,
            clients: before(replica.address()).await,
            calls: Arc::new(calls),
        }
    }

    /// How agents and the replica find each other.
    pub fn road(&self) -> Road {
        Road {
            orchestrator: self.sessions.url(),
            calls: Some(Arc::clone(&self.calls)),
        }
    }

    /// Where clients find the replica.
    pub fn url(&self) -> String {
        self.clients.url()
    }

    /// Between the replica and its database. To the server: what the replica asks.
    pub fn database(&self) -> &FaultProxy {
        &self.database.proxy
    }

    /// Between the replica and all agents, whoever connected: what goes to the replica, and what
    /// comes from it.
    pub fn agents(&self, to_replica: Fault, from_replica: Fault) {
        self.sessions.set(Direction::ToServer, to_replica);
        self.sessions.set(Direction::ToClient, from_replica);
        for call in self.calls.iter() {
            call.set(Direction::ToClient, to_replica);
            call.set(Direction::ToServer, from_replica);
        }
    }

    /// Between the replica and everybody.
    pub fn all(&self, fault: Fault) {
        self.database.proxy.set_both(fault);
        self.clients.set_both(fault);
        self.agents(fault, fault);
    }
}
