//! A certificate that was revoked is refused at once where that was said and soon by every replica: for new
//! connections, for open ones, and for whatever was renewed from it.

use std::time::{Duration, Instant};

use contracts::client::ClientChannel;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::enrolment_service_client::EnrolmentServiceClient;
use contracts::orchestrator::revoke_certificates_request::Which;
use contracts::orchestrator::{
    ConnectRequest, ConnectResponse, CreateEnrolmentTokenRequest, Hello, IssueCertificateRequest,
    RevokeCertificatesRequest, RevokeCertificatesResponse, connect_request,
};
use contracts::task::AgentType;
use service_runtime::tls::authority::{self, Issued};
use service_runtime::tls::{Identity, Tls};
use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};

use super::bed::Bed;
use crate::mesh::{PATIENCE, eventually};

// Two seconds to hear of it, two to look at open streams, and a busy machine.
const SOON: Duration = Duration::from_secs(12);

fn identity(name: &str) -> Identity {
    format!("spiffe://agentic/agent/e2e/{name}")
        .parse()
        .unwrap()
}

// With a token of its own.
async fn enrol(bed: &Bed, name: &str) -> Issued {
    let request = CreateEnrolmentTokenRequest {
        agent_type: AgentType::E2e.into(),
        name: name.to_owned(),
        lifetime: None,
    };
    let mut enrolment = bed.enrolment(&bed.person());
    let token = enrolment.create_enrolment_token(request).await.unwrap();
    let token = token.into_inner().token;
    issue(enrolment, &identity(name), token).await.unwrap()
}

// By the certificate that the connection was opened with.
async fn renew(bed: &Bed, tls: &Tls, name: &str) -> Result<Issued, Status> {
    issue(bed.enrolment(tls), &identity(name), String::new()).await
}

async fn issue(
    mut enrolment: EnrolmentServiceClient<ClientChannel>,
    identity: &Identity,
    token: String,
) -> Result<Issued, Status> {
    let (key, certificate_request) = authority::request(identity).unwrap();
    let request = IssueCertificateRequest {
        certificate_request,
        token,
    };
    let answer = enrolment.issue_certificate(request).await?;
    let certificate = answer.into_inner().certificate;
    Ok(Issued { certificate, key })
}

async fn revoke(bed: &Bed, which: Which) -> Result<RevokeCertificatesResponse, Status> {
    let request = RevokeCertificatesRequest { which: Some(which) };
    let answer = bed
        .enrolment(&bed.person())
        .revoke_certificates(request)
        .await?;
    Ok(answer.into_inner())
}

async fn connect(channel: ClientChannel) -> Result<Streaming<ConnectResponse>, Status> {
    let hello = Hello {
        instance_id: uuid::Uuid::now_v7().to_string(),
        agent_type: AgentType::E2e.into(),
        address: "https://127.0.0.1:9".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        slot_count: 1,
        ..Hello::default()
    };
    let first = ConnectRequest {
        payload: Some(connect_request::Payload::Hello(hello)),
    };
    let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let mut client = AgentRegistryServiceClient::new(channel);
    let mut answers = client.connect(requests).await?.into_inner();
    assert!(answers.message().await?.is_some(), "a welcome");
    Ok(answers)
}

async fn assert_ends(mut session: Streaming<ConnectResponse>, place: &str) {
    let begun = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            match session.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        }
    });
    let status = ended.await.expect("it ends").expect("with a reason");
    let error = Error::from_status(&status).expect("in the shape of the contract");
    assert_eq!(error.reason, ErrorReason::Unauthenticated, "{error}");
    assert!(error.message.contains("revoked"), "{error}");
    assert!(begun.elapsed() < SOON, "{place}: {:?}", begun.elapsed());
}

// A new connection each time.
async fn is_refused(bed: &Bed, address: &str, certificate: &Issued) -> bool {
    let channel = Bed::channel_at(address, &bed.with(certificate));
    match connect(channel).await {
        Ok(_) => false,
        Err(status) => {
            assert!(
                Error::from_status(&status).is_none(),
                "no call gets through: {status:?}"
            );
            true
        }
    }
}

#[tokio::test]
async fn an_agent_whose_certificate_was_revoked_is_put_out_by_every_replica_and_others_stay() {
    let bed = Bed::start().await;
    let other = bed.another().await;
    let (one, two) = (enrol(&bed, "one").await, enrol(&bed, "two").await);
    let (tls, others) = (bed.with(&one), bed.with(&two));
    let here = connect(bed.channel(&tls)).await.unwrap();
    let there = connect(Bed::channel_at(&other.address, &tls))
        .await
        .unwrap();
    let mut stays = connect(Bed::channel_at(&other.address, &others))
        .await
        .unwrap();
    let open = bed.channel(&tls);
    issue(
        EnrolmentServiceClient::new(open.clone()),
        &identity("one"),
        String::new(),
    )
    .await
    .unwrap();

    let revoked = revoke(&bed, Which::Identity(identity("one").to_string()))
        .await
        .unwrap();
    assert_eq!(revoked.serials.len(), 2, "it was renewed once: {revoked:?}");
    // An open connection is of no use, from the first call on.
    let renewed = issue(
        EnrolmentServiceClient::new(open),
        &identity("one"),
        String::new(),
    )
    .await;
    assert_eq!(renewed.err().unwrap().code(), Code::Unauthenticated);
    assert!(is_refused(&bed, bed.address(), &one).await);
    assert_ends(here, "where it was revoked").await;
    assert_ends(there, "on another replica").await;
    assert!(
        eventually(
            || is_refused(&bed, &other.address, &one),
            |refused| *refused
        )
        .await
    );

    // Somebody else, and the agent with a new token.
    let still = tokio::time::timeout(Duration::from_millis(500), stays.message()).await;
    assert!(!matches!(still, Ok(Err(_) | Ok(None))), "{still:?}");
    connect(bed.channel(&others)).await.unwrap();
    let again = enrol(&bed, "one").await;
    connect(bed.channel(&bed.with(&again))).await.unwrap();
    assert!(is_refused(&bed, bed.address(), &one).await);
}

#[tokio::test]
async fn whoever_renewed_a_stolen_certificate_first_is_put_out_with_it() {
    let mut bed = Bed::start().await;
    let stolen = enrol(&bed, "one").await;
    let renewed = renew(&bed, &bed.with(&stolen), "one").await.unwrap();
    let once_more = renew(&bed, &bed.with(&renewed), "one").await.unwrap();
    let revoked = revoke(&bed, Which::Certificate(renewed.certificate.clone()))
        .await
        .unwrap();
    assert_eq!(
        (revoked.serials.len(), revoked.identity),
        (3, identity("one").to_string())
    );
    // Nothing of it is forgotten.
    bed.restart().await;
    for certificate in [&stolen, &renewed, &once_more] {
        assert!(is_refused(&bed, bed.address(), certificate).await);
    }
    let again = revoke(&bed, Which::Certificate(renewed.certificate.clone()))
        .await
        .unwrap();
    assert_eq!(again.serials.len(), 3, "again changes nothing");
}

#[tokio::test]
async fn a_certificate_that_was_made_elsewhere_is_revoked_by_its_file() {
    let bed = Bed::start().await;
    let made = bed.issued(&identity("one"));
    let by_name = revoke(&bed, Which::Identity(identity("one").to_string())).await;
    assert_eq!(by_name.unwrap_err().code(), Code::NotFound);
    let renewed = renew(&bed, &bed.with(&made), "one").await.unwrap();
    revoke(&bed, Which::Certificate(made.certificate.clone()))
        .await
        .unwrap();
    assert!(is_refused(&bed, bed.address(), &made).await);
    assert!(is_refused(&bed, bed.address(), &renewed).await);
}

#[tokio::test]
async fn only_certificates_of_agents_are_revoked_and_only_by_people() {
    let bed = Bed::start().await;
    let own = bed.issued(&Identity::Orchestrator);
    for wrong in [
        Which::Certificate(own.certificate),
        Which::Certificate("no certificate".to_owned()),
        Which::Identity("e2e".to_owned()),
    ] {
        let status = revoke(&bed, wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let agent = bed.with(&enrol(&bed, "one").await);
    let request = RevokeCertificatesRequest {
        which: Some(Which::Identity(identity("two").to_string())),
    };
    let status = bed
        .enrolment(&agent)
        .revoke_certificates(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}
