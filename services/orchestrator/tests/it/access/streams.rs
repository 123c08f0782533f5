//! Streams end with the token that they were opened with, on every replica, and only those.

use std::time::{Duration, Instant};

use contracts::client::{self, ClientChannel};
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::token_service_client::TokenServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateTokenRequest, RevokeTokenRequest, Role, WatchWorkflowLogsRequest, WatchWorkflowRequest,
    WatchWorkflowsRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};

use super::bed::Bed;
use crate::mesh::{PATIENCE, app};

// Five for another replica to hear of it, two to look, and a busy machine.
const SOON: Duration = Duration::from_secs(15);

async fn viewer(bed: &Bed, name: &str) -> (String, String) {
    let request = CreateTokenRequest {
        name: name.to_owned(),
        roles: vec![Role::Viewer.into()],
        ..CreateTokenRequest::default()
    };
    let made = bed.create(request).await.unwrap();
    (made.token.unwrap().token_id, made.secret)
}

// How a stream ended, and how long that took.
async fn end<M>(mut stream: Streaming<M>) -> (Result<(), Status>, Duration) {
    let begun = Instant::now();
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    (ended, begun.elapsed())
}

// All that a viewer may watch of a workflow that waits.
async fn watches(
    channel: ClientChannel,
    workflow_id: &str,
) -> JoinSet<(&'static str, Result<(), Status>, Duration)> {
    let mut workflows = WorkflowServiceClient::new(channel);
    let workflow_id = workflow_id.to_owned();
    let one = workflows
        .watch_workflow(WatchWorkflowRequest {
            workflow_id: workflow_id.clone(),
            ..WatchWorkflowRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    let all = workflows
        .watch_workflows(WatchWorkflowsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let logs = workflows
        .watch_workflow_logs(WatchWorkflowLogsRequest {
            workflow_id,
            follow: true,
            ..WatchWorkflowLogsRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    let mut watches = JoinSet::new();
    watches.spawn(async {
        let (ended, after) = end(one).await;
        ("one workflow", ended, after)
    });
    watches.spawn(async {
        let (ended, after) = end(all).await;
        ("all workflows", ended, after)
    });
    watches.spawn(async {
        let (ended, after) = end(logs).await;
        ("logs", ended, after)
    });
    watches
}

async fn assert_ended(
    mut watches: JoinSet<(&'static str, Result<(), Status>, Duration)>,
    says: &str,
) {
    assert_eq!(watches.len(), 3);
    while let Some(watch) = tokio::time::timeout(PATIENCE, watches.join_next())
        .await
        .expect("it ends")
    {
        let (what, ended, after) = watch.unwrap();
        let status = ended.expect_err(what);
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        let error = Error::from_status(&status).expect("in the shape of the contract");
        assert_eq!(error.reason, ErrorReason::Unauthenticated);
        assert!(error.message.contains(says), "{what}: {error}");
        assert!(after < SOON, "{what} ended after {after:?}");
    }
}

#[tokio::test]
async fn streams_end_everywhere_when_their_token_is_ended_and_others_go_on() {
    let bed = Bed::start().await;
    let other = bed.another().await;
    let workflow = WorkflowServiceClient::new(bed.admin())
        .create_workflow(app("shop"))
        .await
        .unwrap();
    let workflow_id = workflow.into_inner().workflow.unwrap().workflow_id;
    let (ended, secret) = viewer(&bed, "ada").await;
    let (_, good) = viewer(&bed, "bob").await;
    let here = watches(bed.with(&secret), &workflow_id).await;
    let there = client::channel(&other.url, Some(&secret)).unwrap();
    let there = watches(there, &workflow_id).await;
    let mut others = watches(bed.with(&good), &workflow_id).await;

    let request = RevokeTokenRequest { token_id: ended };
    TokenServiceClient::new(bed.admin())
        .revoke_token(request)
        .await
        .unwrap();
    assert_ended(here, "ended").await;
    assert_ended(there, "ended").await;
    assert!(others.try_join_next().is_none(), "bob's are not ada's");
    other.stop().await;
}

#[tokio::test]
async fn streams_end_when_their_token_runs_out() {
    let bed = Bed::start().await;
    let workflow = WorkflowServiceClient::new(bed.admin())
        .create_workflow(app("shop"))
        .await
        .unwrap();
    let workflow_id = workflow.into_inner().workflow.unwrap().workflow_id;
    let (_, secret) = viewer(&bed, "ada").await;
    let client = bed.database.connect().await.unwrap();
    let soon = "UPDATE tokens SET expire_time = now() + interval '4 seconds' WHERE name = 'ada'";
    client.execute(soon, &[]).await.unwrap();
    let watches = watches(bed.with(&secret), &workflow_id).await;
    assert_ended(watches, "run out").await;
}
