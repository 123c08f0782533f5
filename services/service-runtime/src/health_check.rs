//! `SERVICE healthcheck`: asks the service that runs with the same settings whether it serves. For
//! container engines and process managers, so that no image needs a client of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Subcommand;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use contracts::client::{self, ClientError};

use crate::tls::{Expected, Identity, Tls};

/// Below the second that container engines give a check at the least.
const DEADLINE: Duration = Duration::from_millis(900);

/// What a service does when it is not asked to serve.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Verb {
    /// Asks the service that runs with these settings whether it serves; ends with 0 when it does.
    Healthcheck,
}

/// Why a service is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// Its address.
    #[error("address")]
    Address(#[from] ClientError),
    /// It does not answer.
    #[error("{address} does not answer: {reason}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What came instead.
        reason: String,
    },
    /// It answers that it does not serve.
    #[error("{address} says that it does not serve")]
    NotServing {
        /// Where it was asked.
        address: SocketAddr,
    },
}

impl Verb {
    /// Does it for the service that listens on `address`, as itself.
    pub async fn run(self, address: SocketAddr, tls: &Tls) -> Result<(), Unhealthy> {
        match self {
            Self::Healthcheck => ask(reachable(address), tls).await,
        }
    }
}

// The process as a whole: whether an agent gets work depends on others, and restarting it would not help.
async fn ask(address: SocketAddr, tls: &Tls) -> Result<(), Unhealthy> {
    // Its own certificate names the host that others know it by, not the address that it is asked at.
    let expected = match tls.identity() {
        Some(Identity::Orchestrator) => Expected::Orchestrator,
        Some(Identity::Agent { agent_type, .. }) => Expected::Agent(agent_type),
        None => Expected::Host,
    };
    let scheme = if tls.can_serve() { "https" } else { "http" };
    let channel = tls.channel(&format!("{scheme}://{address}"), None, expected)?;
    let asking = async {
        HealthClient::new(channel)
            .check(client::request(HealthCheckRequest::default(), DEADLINE))
            .await
            .map_err(|status| status.message().to_owned())
    };
    let answer = tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| Err(format!("nothing within {} ms", DEADLINE.as_millis())))
        .map_err(|reason| Unhealthy::Silent { address, reason })?;
    if answer.into_inner().status() == ServingStatus::Serving {
        Ok(())
    } else {
        Err(Unhealthy::NotServing { address })
    }
}

/// An address on this machine at which a service that listens on `address` answers.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::server::{Server, bind};

    #[tokio::test]
    async fn a_service_is_healthy_while_it_serves_and_not_after() {
        let listener = bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(false);
        let health = server.health();
        let stop = CancellationToken::new();
        let serving = TaskTracker::new().spawn(server.serve(listener, stop.clone(), DEADLINE));

        Verb::Healthcheck
            .run(address, &Tls::default())
            .await
            .unwrap();
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        let refused = Verb::Healthcheck.run(address, &Tls::default()).await;
        assert!(
            matches!(refused, Err(Unhealthy::NotServing { .. })),
            "{refused:?}"
        );
        stop.cancel();
        serving.await.unwrap().unwrap();
        let gone = Verb::Healthcheck.run(address, &Tls::default()).await;
        assert!(matches!(gone, Err(Unhealthy::Silent { .. })), "{gone:?}");
    }

    #[tokio::test]
    async fn a_port_that_accepts_and_says_nothing_is_not_healthy() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let silent = Verb::Healthcheck
            .run(listener.local_addr().unwrap(), &Tls::default())
            .await;
        let said = silent.unwrap_err().to_string();
        assert!(said.contains("does not answer"), "{said}");
    }

    #[test]
    fn an_address_that_stands_for_all_is_asked_on_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:50051"), "127.0.0.1:50051");
        assert_eq!(asked("[::]:50051"), "[::1]:50051");
        assert_eq!(asked("10.1.2.3:50051"), "10.1.2.3:50051");
    }
}
