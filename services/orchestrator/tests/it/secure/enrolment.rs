//! One token, one agent; then each certificate gets the next.

use std::time::Duration;

use tonic::{Code, Status};

use contracts::orchestrator::{
    CreateEnrolmentTokenRequest, CreateEnrolmentTokenResponse, IssueCertificateRequest,
    IssueCertificateResponse,
};
use contracts::task::AgentType;
use contracts::wire_time;
use service_runtime::tls::authority::{self, Issued};
use service_runtime::tls::{Identity, Tls};

use super::bed::Bed;

async fn token(bed: &Bed, name: &str) -> CreateEnrolmentTokenResponse {
    create(bed, &bed.person(), name).await.unwrap()
}

async fn create(bed: &Bed, tls: &Tls, name: &str) -> Result<CreateEnrolmentTokenResponse, Status> {
    let request = CreateEnrolmentTokenRequest {
        agent_type: AgentType::E2e.into(),
        name: name.to_owned(),
        lifetime: Some(wire_time::wire_duration(Duration::from_mins(2))),
    };
    let answer = bed.enrolment(tls).create_enrolment_token(request).await?;
    Ok(answer.into_inner())
}

async fn issue(
    bed: &Bed,
    tls: &Tls,
    token: &str,
    request: &[u8],
) -> Result<IssueCertificateResponse, Status> {
    let request = IssueCertificateRequest {
        certificate_request: request.to_vec(),
        token: token.to_owned(),
    };
    let answer = bed.enrolment(tls).issue_certificate(request).await?;
    Ok(answer.into_inner())
}

fn one() -> Identity {
    "spiffe://agentic/agent/e2e/one".parse().unwrap()
}

fn refused(answer: Result<IssueCertificateResponse, Status>, code: Code, word: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{}", status.message());
    assert!(status.message().contains(word), "{}", status.message());
}

#[tokio::test]
async fn a_token_gets_one_agent_its_certificate_and_no_other() {
    let bed = Bed::start().await;
    let made = token(&bed, "one").await;
    assert_eq!(made.identity, one().to_string());
    let person = bed.person();
    let (key, request) = authority::request(&one()).unwrap();
    let answer = issue(&bed, &person, &made.token, &request).await.unwrap();
    let tls = bed.with(&Issued {
        certificate: answer.certificate,
        key,
    });
    assert_eq!(tls.identity(), Some(one()));
    // The answer may have been lost: the same key is answered again.
    issue(&bed, &person, &made.token, &request).await.unwrap();
    let (_, other) = authority::request(&one()).unwrap();
    let again = issue(&bed, &person, &made.token, &other).await;
    refused(again, Code::Unauthenticated, "used already");
}

#[tokio::test]
async fn of_many_who_use_a_token_at_once_one_wins() {
    let bed = Bed::start().await;
    let made = token(&bed, "one").await;
    let person = bed.person();
    let tries = (0..20).map(|_| async {
        let (_, request) = authority::request(&one()).unwrap();
        issue(&bed, &person, &made.token, &request).await
    });
    let answers = futures::future::join_all(tries).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(won, 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, Code::Unauthenticated, "used already");
    }
}

#[tokio::test]
async fn a_token_outlives_a_restart_of_the_orchestrator_and_not_its_time() {
    let mut bed = Bed::start().await;
    let (first, second) = (token(&bed, "one").await, token(&bed, "one").await);
    bed.restart().await;
    let person = bed.person();
    let (_, request) = authority::request(&one()).unwrap();
    issue(&bed, &person, &first.token, &request).await.unwrap();
    let client = bed.database.connect().await.unwrap();
    client
        .batch_execute("UPDATE enrolment_tokens SET expire_time = now() - interval '1 second'")
        .await
        .unwrap();
    let late = issue(&bed, &person, &second.token, &request).await;
    refused(late, Code::Unauthenticated, "has expired");
    let unknown = issue(&bed, &person, "e2e/one:00", &request).await;
    refused(unknown, Code::Unauthenticated, "no such enrolment token");
}

#[tokio::test]
async fn a_request_for_somebody_else_or_with_a_bad_signature_costs_no_token() {
    let bed = Bed::start().await;
    let made = token(&bed, "one").await;
    let person = bed.person();
    for other in [
        Identity::Orchestrator,
        Identity::agent(AgentType::Deployment),
        Identity::agent(AgentType::E2e),
        "spiffe://agentic/agent/e2e/two".parse().unwrap(),
    ] {
        let (_, request) = authority::request(&other).unwrap();
        let answer = issue(&bed, &person, &made.token, &request).await;
        refused(answer, Code::PermissionDenied, &one().to_string());
    }
    let (_, request) = authority::request(&one()).unwrap();
    let mut altered = request.clone();
    *altered.last_mut().unwrap() ^= 1;
    for bad in [&altered[..], b"", &[0x30; 9000]] {
        let answer = issue(&bed, &person, &made.token, bad).await;
        refused(answer, Code::InvalidArgument, "certificate_request");
    }
    issue(&bed, &person, &made.token, &request).await.unwrap();
}

#[tokio::test]
async fn a_certificate_gets_the_next_one_for_the_same_name_only() {
    let bed = Bed::start().await;
    let tls = bed.service(&one());
    let (_, request) = authority::request(&one()).unwrap();
    issue(&bed, &tls, "", &request).await.unwrap();
    let (_, other) = authority::request(&Identity::agent(AgentType::Deployment)).unwrap();
    let answer = issue(&bed, &tls, "", &other).await;
    refused(answer, Code::PermissionDenied, "agent/e2e/one");
    let nobody = issue(&bed, &bed.person(), "", &request).await;
    refused(nobody, Code::Unauthenticated, "enrolment token");
    let orchestrator = bed.service(&Identity::Orchestrator);
    let (_, request) = authority::request(&Identity::Orchestrator).unwrap();
    let answer = issue(&bed, &orchestrator, "", &request).await;
    refused(answer, Code::Unauthenticated, "enrolment token");
}

#[tokio::test]
async fn agents_enrol_nobody_and_tokens_are_kept_as_digests() {
    let bed = Bed::start().await;
    let agent = bed.service(&one());
    let status = create(&bed, &agent, "two").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = create(&bed, &bed.person(), "No/Name").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let made = token(&bed, "one").await;
    let client = bed.database.connect().await.unwrap();
    let rows = client
        .query("SELECT enrolment_tokens::text FROM enrolment_tokens", &[])
        .await
        .unwrap();
    let secret = made.token.split_once(':').unwrap().1;
    for row in rows {
        let text: String = row.get(0);
        assert!(!text.contains(secret), "{text}");
    }
}
