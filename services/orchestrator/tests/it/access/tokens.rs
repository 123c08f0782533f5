//! Tokens from their making to their end.

use std::time::Duration;

use contracts::client;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::token_service_client::TokenServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateTokenRequest, ListTokensRequest, ListWorkflowsRequest, RevokeTokenRequest, Role,
    workflow_event,
};
use orchestrator::access::secret::{PREFIX, Secret};
use tonic::{Code, Request};

use super::bed::{Bed, admitted, call};
use crate::mesh::{app, eventually};

const LIST: &str = "agentic.orchestrator.v1.WorkflowService/ListWorkflows";

fn operator(name: &str) -> CreateTokenRequest {
    CreateTokenRequest {
        request_id: name.to_owned(),
        name: name.to_owned(),
        roles: vec![Role::Operator.into()],
        ..CreateTokenRequest::default()
    }
}

#[tokio::test]
async fn a_secret_is_shown_once_and_only_its_hash_is_kept() {
    let bed = Bed::start().await;
    let made = bed.create(operator("ada")).await.unwrap();
    assert!(made.secret.starts_with(PREFIX) && Secret::parse(&made.secret).is_ok());

    let again = bed.create(operator("ada")).await.unwrap();
    assert_eq!(
        (again.token, again.secret.as_str()),
        (made.token.clone(), "")
    );
    let other = CreateTokenRequest {
        name: "eve".to_owned(),
        ..operator("ada")
    };
    let status = bed.create(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);

    let listed = TokenServiceClient::new(bed.admin())
        .list_tokens(ListTokensRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.total_count, 3, "and the two of the settings");
    assert_eq!(listed.tokens[0], made.token.unwrap());
    assert!(!format!("{listed:?}").contains(&made.secret[PREFIX.len()..]));

    let client = bed.database.connect().await.unwrap();
    let rows = client
        .query("SELECT tokens::text FROM tokens", &[])
        .await
        .unwrap();
    let kept: String = rows.iter().map(|row| row.get::<_, String>(0)).collect();
    let hash = orchestrator::access::secret::hash(&made.secret);
    assert!(kept.contains(&hex::encode(hash.0)));
    assert!(!kept.contains(&made.secret[PREFIX.len()..]));
    assert!(!kept.contains(&hex::encode(&made.secret)));
}

#[tokio::test]
async fn a_revoked_token_is_refused_here_at_once_and_soon_by_every_replica() {
    let bed = Bed::start().await;
    let other = bed.another().await;
    let made = bed.create(operator("ada")).await.unwrap();
    let here = bed.with(&made.secret);
    let there = client::channel(&other.url, Some(&made.secret)).unwrap();
    assert!(call(here.clone(), LIST).await.is_ok());
    assert!(call(there.clone(), LIST).await.is_ok());

    let token_id = made.token.unwrap().token_id;
    let mut tokens = TokenServiceClient::new(bed.admin());
    let request = RevokeTokenRequest { token_id };
    let ended = tokens.revoke_token(request.clone()).await.unwrap();
    let status = call(here, LIST).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let begun = std::time::Instant::now();
    let refused = eventually(|| call(there.clone(), LIST), |answer| !admitted(answer)).await;
    assert!(refused.is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );

    let again = tokens.revoke_token(request).await.unwrap();
    assert_eq!(
        ended.into_inner(),
        again.into_inner(),
        "the first time holds"
    );
    other.stop().await;
}

#[tokio::test]
async fn a_token_that_ran_out_is_refused() {
    let bed = Bed::start().await;
    let made = bed.create(operator("ada")).await.unwrap();
    let client = bed.database.connect().await.unwrap();
    client
        .execute(
            "UPDATE tokens SET expire_time = now() - interval '1 second' WHERE name = 'ada'",
            &[],
        )
        .await
        .unwrap();
    let status = call(bed.with(&made.secret), LIST).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let error = Error::from_status(&status).unwrap();
    assert_eq!(error.reason, ErrorReason::Unauthenticated);
    assert!(!error.message.contains(&made.secret));
}

#[tokio::test]
async fn tokens_of_the_settings_stay_ended_once_an_administrator_ended_them() {
    let bed = Bed::start().await;
    let mut tokens = TokenServiceClient::new(bed.admin());
    let listed = tokens.list_tokens(ListTokensRequest::default()).await;
    let listed = listed.unwrap().into_inner().tokens;
    let agents = listed.iter().find(|token| token.name == "agents").unwrap();
    let token_id = agents.token_id.clone();
    tokens
        .revoke_token(RevokeTokenRequest { token_id })
        .await
        .unwrap();
    let restarted = bed.another().await;
    let agent = client::channel(&restarted.url, Some(bed.agent.reveal())).unwrap();
    let status = call(agent, LIST).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    restarted.stop().await;
}

#[tokio::test]
async fn wrong_tokens_are_refused_even_where_nobody_needs_one() {
    let bed = Bed::start_with(|config| {
        config.access.mode = orchestrator::access::Mode::Open;
    })
    .await;
    let nobody = client::channel(&bed.replica.url, None).unwrap();
    assert!(call(nobody, LIST).await.is_ok());
    for wrong in ["x", Secret::random().reveal(), "eyJhbGciOiJub25lIn0.e30."] {
        let status = call(bed.with(wrong), LIST).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{wrong}");
    }
    let viewer = bed.with(&bed.token(Role::Viewer).await);
    let create = "agentic.orchestrator.v1.WorkflowService/CreateWorkflow";
    let status = call(viewer, create).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::PermissionDenied,
        "a role holds here, too"
    );
}

#[tokio::test]
async fn a_token_is_good_for_its_namespaces_only() {
    let bed = Bed::start().await;
    let mut request = operator("ada");
    request.namespaces = vec!["team-a".to_owned()];
    let made = bed.create(request).await.unwrap();
    let mut workflows = WorkflowServiceClient::new(bed.with(&made.secret));
    for (namespace, code) in [
        (Some("team-a"), Code::Ok),
        (Some("team-b"), Code::PermissionDenied),
        (Some("*"), Code::PermissionDenied),
        (None, Code::PermissionDenied),
    ] {
        let mut request = Request::new(ListWorkflowsRequest::default());
        if let Some(namespace) = namespace {
            let metadata = request.metadata_mut();
            metadata.insert("agentic-namespace", namespace.parse().unwrap());
        }
        let answer = workflows.list_workflows(request).await;
        let found = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(found, code, "{namespace:?}");
    }
}

#[tokio::test]
async fn bad_requests_for_tokens_name_every_field() {
    let bed = Bed::start().await;
    let request = CreateTokenRequest {
        name: "automatic".to_owned(),
        roles: vec![Role::Operator.into(), 77],
        namespaces: vec!["*".to_owned(), "Team".to_owned()],
        lifetime: Some(prost_types::Duration {
            seconds: 400 * 24 * 3600,
            nanos: 0,
        }),
        ..CreateTokenRequest::default()
    };
    let error = Error::from_status(&bed.create(request).await.unwrap_err()).unwrap();
    let mut fields: Vec<_> = error.fields.iter().map(|(name, _)| name.as_str()).collect();
    fields.dedup();
    assert_eq!(fields, ["name", "roles", "namespaces", "lifetime"]);
    let error = Error::from_status(
        &bed.create(CreateTokenRequest {
            name: "ada".to_owned(),
            ..CreateTokenRequest::default()
        })
        .await
        .unwrap_err(),
    );
    assert_eq!(error.unwrap().fields[0].0, "roles");
}

#[tokio::test]
async fn the_name_on_record_is_that_of_the_token_whatever_the_call_says() {
    let bed = Bed::start().await;
    let made = bed.create(operator("ada")).await.unwrap();
    let mut request = Request::new(app("shop"));
    let metadata = request.metadata_mut();
    metadata.insert("agentic-actor", "somebody else".parse().unwrap());
    let channel = bed.with(&made.secret);
    let workflow = WorkflowServiceClient::new(channel)
        .create_workflow(request)
        .await
        .unwrap()
        .into_inner()
        .workflow
        .unwrap();
    let events = bed
        .replica
        .watch_until(&workflow.workflow_id, 0, |payload| {
            matches!(payload, workflow_event::Payload::Created(_))
        })
        .await;
    assert_eq!(events[0].actor, "ada");
}
