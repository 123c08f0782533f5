//! Both kinds of servers answer a real call.

use testkit::loopback::{InMemoryServer, LoopbackServer};
use tonic::{service::Routes, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn routes() -> Routes {
    let (_, service) = tonic_health::server::health_reporter();
    Routes::new(service)
}

async fn is_healthy(channel: Channel) -> bool {
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .is_ok()
}

#[tokio::test]
async fn a_loopback_server_answers_and_then_stops() {
    let server = LoopbackServer::start(routes()).await.unwrap();
    let url = server.url();
    assert!(is_healthy(server.connect().await.unwrap()).await);
    server.stop().await.unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
    assert!(endpoint.connect().await.is_err());
}

#[tokio::test]
async fn an_in_memory_server_answers_without_a_port() {
    let server = InMemoryServer::start(routes());
    assert!(is_healthy(server.channel()).await);
}
