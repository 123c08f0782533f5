//! A network that fails on demand: a TCP proxy on the loopback whose two directions can each pass, stall or lose bytes, and whose
//! connections can be cut. It knows nothing of what is spoken over it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    task::JoinSet,
};

const BUFFER_BYTES: usize = 16 << 10;

/// What happens to bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They arrive.
    None,
    /// They wait in the sender's buffers, as behind a full link; nothing is lost, and a close is not seen.
    Stall,
    /// They are taken and lost, as in a one-way partition. A connection that lost any is reset when
    /// the fault ends: no network goes on behind a hole.
    Discard,
    /// They arrive this much later.
    Delay(Duration),
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the proxy.
    ToServer,
    /// From the server behind the proxy.
    ToClient,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    // `None`: it is not there yet.
    server: Option<SocketAddr>,
    to_server: Fault,
    to_client: Fault,
    refusing: bool,
    // Connections of an older generation are cut.
    generation: u64,
}

impl Plan {
    fn of(&self, direction: Direction) -> Fault {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// The proxy; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    plan: watch::Sender<Plan>,
    accepted: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// A proxy in front of a server, on a free port, without faults.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let proxy = Self::ahead().await?;
        proxy.lead_to(server);
        Ok(proxy)
    }

    /// A proxy in front of a server that is not there yet: connections are reset until
    /// [`Self::lead_to`].
    pub async fn ahead() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (plan, watched) = watch::channel(Plan {
            server: None,
            to_server: Fault::None,
            to_client: Fault::None,
            refusing: false,
            generation: 0,
        });
        let (counter, accepted) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, watched, counter));
        Ok(Self {
            address,
            plan,
            accepted,
            _tasks: tasks,
        })
    }

    /// Says which server later connections lead to.
    pub fn lead_to(&self, server: SocketAddr) {
        self.plan.send_modify(|plan| plan.server = Some(server));
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to connect, as gRPC clients want it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what happens to bytes of one direction, of open and of later connections.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.plan.send_modify(|plan| match direction {
            Direction::ToServer => plan.to_server = fault,
            Direction::ToClient => plan.to_client = fault,
        });
    }

    /// Changes both directions.
    pub fn set_both(&self, fault: Fault) {
        self.set(Direction::ToServer, fault);
        self.set(Direction::ToClient, fault);
    }

    /// Resets every open connection; later ones are taken again.
    pub fn cut(&self) {
        self.plan.send_modify(|plan| plan.generation += 1);
    }

    /// Resets every connection, and every later one right after it was made, until told otherwise.
    pub fn refuse(&self, refusing: bool) {
        self.plan.send_modify(|plan| {
            plan.refusing = refusing;
            plan.generation += 1;
        });
    }

    /// Waits until so many connections were made in all.
    pub async fn accepted(&self, count: u64) -> io::Result<()> {
        self.accepted
            .clone()
            .wait_for(|accepted| *accepted >= count)
            .await
            .map(|_| ())
            .map_err(|_| io::Error::other("the proxy has ended"))
    }
}

async fn accept(listener: TcpListener, plan: watch::Receiver<Plan>, counter: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // A listener that fails has no connection to give; the test sees that none is made.
                let Ok((client, _)) = accepted else { return };
                connections.spawn(connection(client, plan.clone()));
                counter.send_modify(|count| *count += 1);
            }
        }
    }
}

async fn connection(client: TcpStream, mut plan: watch::Receiver<Plan>) {
    let (generation, server) = {
        let plan = plan.borrow_and_update();
        (plan.generation, plan.server.filter(|_| !plan.refusing))
    };
    let Some(server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let Ok(upstream) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = upstream.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let mut cut = plan.clone();
    let hole = Notify::new();
    tokio::select! {
        biased;
        _ = cut.wait_for(|plan| plan.generation != generation) => {}
        () = hole.notified() => {}
        _ = async {
            tokio::join!(
                pump(&mut from_client, &mut to_server, Direction::ToServer, plan.clone(), &hole),
                pump(&mut from_server, &mut to_client, Direction::ToClient, plan.clone(), &hole),
            )
        } => return,
    }
    // With no lingering, closing is a reset: the peers learn it as from a machine that went away and came back.
    for (read, write) in [(from_client, to_client), (from_server, to_server)] {
        let _ = read.as_ref().set_zero_linger();
        // Otherwise the half says a polite goodbye first.
        write.forget();
    }
}

/// Moves bytes of one direction until its sender closes or either side fails. Tells when bytes were
/// lost and more would arrive.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    mut plan: watch::Receiver<Plan>,
    hole: &Notify,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut lost = false;
    loop {
        let fault = plan.borrow_and_update().of(direction);
        if lost && fault != Fault::Discard {
            hole.notify_one();
            return;
        }
        if fault == Fault::Stall {
            if plan.changed().await.is_err() {
                return;
            }
            continue;
        }
        let read = tokio::select! {
            biased;
            changed = plan.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(count) = read else { return };
        match fault {
            Fault::Discard if count == 0 => {
                // The close is lost like everything else, until the network is whole again.
                if plan
                    .wait_for(|plan| plan.of(direction) == Fault::None)
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Fault::Discard => {
                lost = true;
                continue;
            }
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::None | Fault::Stall => {}
        }
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        let Some(bytes) = buffer.get(..count) else {
            return;
        };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::{Direction, Fault, FaultProxy};

    async fn connected() -> (FaultProxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap())
            .await
            .unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (proxy, client, server)
    }

    async fn receives(stream: &mut TcpStream, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, expected);
    }

    async fn receives_nothing(stream: &mut TcpStream) {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn without_faults_bytes_and_closes_pass_both_ways() {
        let (_proxy, mut client, mut server) = connected().await;
        client.write_all(b"question").await.unwrap();
        receives(&mut server, b"question").await;
        server.write_all(b"answer").await.unwrap();
        receives(&mut client, b"answer").await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn stalled_bytes_arrive_when_the_stall_ends() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.set(Direction::ToServer, Fault::Stall);
        client.write_all(b"late").await.unwrap();
        receives_nothing(&mut server).await;
        server.write_all(b"other way").await.unwrap();
        receives(&mut client, b"other way").await;
        proxy.set(Direction::ToServer, Fault::None);
        receives(&mut server, b"late").await;
    }

    #[tokio::test]
    async fn discarded_bytes_never_arrive() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.set(Direction::ToServer, Fault::Discard);
        client.write_all(b"lost").await.unwrap();
        receives_nothing(&mut server).await;
        server.write_all(b"other way").await.unwrap();
        receives(&mut client, b"other way").await;
        proxy.set(Direction::ToServer, Fault::None);
        assert!(client.read(&mut [0]).await.is_err());
        assert!(server.read(&mut [0]).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_lost_nothing_outlives_the_loss() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.set(Direction::ToServer, Fault::Discard);
        receives_nothing(&mut server).await;
        proxy.set(Direction::ToServer, Fault::None);
        client.write_all(b"found").await.unwrap();
        receives(&mut server, b"found").await;
    }

    #[tokio::test]
    async fn a_cut_resets_open_connections_and_takes_new_ones() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.cut();
        assert!(client.read(&mut [0]).await.is_err());
        assert!(server.read(&mut [0]).await.is_err());
        TcpStream::connect(proxy.address()).await.unwrap();
        proxy.accepted(2).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusing_proxy_ends_new_connections() {
        let (proxy, _client, _server) = connected().await;
        proxy.refuse(true);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
    }
}
