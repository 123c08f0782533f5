//! Takes connections and carries requests to the routes, one thread per connection.

use std::{
    collections::HashMap,
    io::BufReader,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    thread,
    time::Duration,
};

use crate::{
    http::{read_request, write_response, Incoming},
    routes,
    settings::{Settings, REQUEST_LOG},
};

/// Most connections at once; each has a thread.
const CONNECTION_LIMIT: usize = 256;
/// How long a silent connection is kept, and how long an answer may take to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens from the moment it is bound; answers while it serves.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

/// Stops a server.
#[derive(Clone)]
pub struct Stop {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

/// Our side of the connections that are open.
#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Starts to listen.
    pub fn bind(settings: &Settings) -> std::io::Result<Self> {
        let listener = TcpListener::bind((settings.host.as_str(), settings.port))?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            stopping: Arc::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to stop it.
    pub fn stop(&self) -> Stop {
        Stop {
            address: self.address,
            stopping: Arc::clone(&self.stopping),
        }
    }

    /// Serves until it is stopped, and then until every request that has begun is answered.
    pub fn serve(self) {
        let connections = Connections::default();
        let stopping = &self.stopping;
        thread::scope(|scope| {
            for id in 0.. {
                let accepted = self.listener.accept();
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: let some connections end.
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                if !connections.add(id, &stream) {
                    let full = routes::problem(503, "too many connections");
                    let _ = write_response(&mut &stream, &full, true, false);
                    continue;
                }
                let connections = &connections;
                let serving = thread::Builder::new().spawn_scoped(scope, move || {
                    let _ = serve_connection(&stream, stopping);
                    connections.remove(id);
                });
                if serving.is_err() {
                    connections.remove(id);
                }
            }
            drop(self.listener);
            connections.end_reading();
        });
    }
}

impl Stop {
    /// Stops the server.
    pub fn now(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the loop that waits for a connection.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let address = SocketAddr::new(ip, self.address.port());
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: u64, stream: &TcpStream) -> bool {
        let mut open = self.lock();
        if open.len() >= CONNECTION_LIMIT {
            return false;
        }
        stream
            .try_clone()
            .map(|stream| open.insert(id, stream))
            .is_ok()
    }

    fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Whoever waits for a further request reads the end instead.
    fn end_reading(&self) {
        for stream in self.lock().values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

fn serve_connection(stream: &TcpStream, stopping: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match read_request(&mut reader) {
            Incoming::Request(request) => request,
            Incoming::End => return Ok(()),
            Incoming::Malformed(status) => {
                let problem = routes::problem(status, "not a request");
                return write_response(&mut &*stream, &problem, true, false);
            }
        };
        let keep_alive = request.keep_alive && !stopping.load(Ordering::SeqCst);
        let response = routes::answer(&request);
        if REQUEST_LOG {
            println!("{} {:?} {}", request.method, request.path, response.status);
        }
        let with_body = request.method != "HEAD";
        write_response(&mut &*stream, &response, with_body, keep_alive)?;
        if !keep_alive {
            return Ok(());
        }
    }
}
