//! What an agent is comes from its certificate, never from what it says.

use tokio_stream::StreamExt;
use tonic::{Code, Status};

use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::{ConnectRequest, Hello, Welcome, connect_request, connect_response};
use contracts::task::AgentType;
use service_runtime::tls::{Identity, Tls};

use super::bed::Bed;

async fn connect(bed: &Bed, tls: &Tls, says: AgentType, address: &str) -> Result<Welcome, Status> {
    let hello = Hello {
        instance_id: uuid::Uuid::now_v7().to_string(),
        agent_type: says.into(),
        address: address.to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        slot_count: 1,
        ..Hello::default()
    };
    let first = ConnectRequest {
        payload: Some(connect_request::Payload::Hello(hello)),
    };
    let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let mut client = AgentRegistryServiceClient::new(bed.channel(tls));
    let mut answers = client.connect(requests).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.payload) {
        Some(connect_response::Payload::Welcome(welcome)) => Ok(welcome),
        other => panic!("not a welcome: {other:?}"),
    }
}

const HERE: &str = "https://127.0.0.1:9";

#[tokio::test]
async fn an_agent_with_its_own_certificate_is_welcomed_with_the_key_of_leases() {
    let bed = Bed::start().await;
    let e2e = bed.service(&Identity::agent(AgentType::E2e));
    let welcome = connect(&bed, &e2e, AgentType::E2e, HERE).await.unwrap();
    assert_eq!(welcome.lease_public_key.len(), 32);
}

#[tokio::test]
async fn an_agent_that_says_another_type_is_refused() {
    let bed = Bed::start().await;
    let e2e = bed.service(&Identity::agent(AgentType::E2e));
    let refused = connect(&bed, &e2e, AgentType::Deployment, HERE)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for part in [
        "says that it is spiffe://agentic/agent/deployment",
        "is that of spiffe://agentic/agent/e2e",
    ] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    let orchestrator = bed.service(&Identity::Orchestrator);
    let refused = connect(&bed, &orchestrator, AgentType::E2e, HERE)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_is_an_agent_without_a_certificate() {
    let bed = Bed::start().await;
    let refused = connect(&bed, &bed.person(), AgentType::E2e, HERE)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused.message().contains("must show a certificate"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn an_agent_is_not_called_in_clear_text() {
    let bed = Bed::start().await;
    let e2e = bed.service(&Identity::agent(AgentType::E2e));
    let refused = connect(&bed, &e2e, AgentType::E2e, "http://127.0.0.1:9")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("https://"),
        "{}",
        refused.message()
    );
}
