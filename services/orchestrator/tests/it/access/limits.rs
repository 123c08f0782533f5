//! What is too often or too much at once, over real gRPC.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateTokenRequest, GetWorkflowRequest, Role, WatchWorkflowsRequest,
};
use tonic::{Code, Status};

use super::bed::{Bed, call};
use crate::mesh::{app, eventually};

const CREATE: &str = "agentic.orchestrator.v1.WorkflowService/CreateWorkflow";
const LIST: &str = "agentic.orchestrator.v1.WorkflowService/ListWorkflows";

fn limited(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let error = Error::from_status(status).unwrap();
    assert_eq!(error.reason, ErrorReason::RateLimited);
    error.retry_after.expect("it says when to come back")
}

async fn operator(bed: &Bed, name: &str) -> String {
    let request = CreateTokenRequest {
        name: name.to_owned(),
        roles: vec![Role::Operator.into()],
        ..CreateTokenRequest::default()
    };
    bed.create(request).await.unwrap().secret
}

#[tokio::test]
async fn who_submits_too_often_is_told_truly_when_to_come_back_and_nobody_else_is_refused() {
    let bed = Bed::start_with(|config| {
        config.access.rates.create = NonZeroU32::new(2).unwrap();
    })
    .await;
    let ada = bed.with(&operator(&bed, "ada").await);
    let mut workflows = WorkflowServiceClient::new(ada.clone());
    let refused = loop {
        if let Err(status) = workflows.create_workflow(app("shop")).await {
            break status;
        }
    };
    let delay = limited(&refused);
    assert!(delay <= Duration::from_millis(500), "{delay:?}");
    assert!(call(ada.clone(), LIST).await.is_ok(), "reads go on");
    let bob = bed.with(&operator(&bed, "bob").await);
    let mut others = WorkflowServiceClient::new(bob);
    others.create_workflow(app("shop")).await.unwrap();

    let begun = Instant::now();
    // Reads took a moment of the delay: the budget is there no later than it was said.
    tokio::time::sleep(delay).await;
    workflows.create_workflow(app("shop")).await.unwrap();
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn watches_are_counted_until_they_end() {
    let bed = Bed::start_with(|config| config.access.bounds.watches = 2).await;
    let channel = bed.with(&operator(&bed, "ada").await);
    let watch = || {
        let mut workflows = WorkflowServiceClient::new(channel.clone());
        async move {
            workflows
                .watch_workflows(WatchWorkflowsRequest::default())
                .await
        }
    };
    let first = watch().await.unwrap();
    let _second = watch().await.unwrap();
    limited(&watch().await.unwrap_err());
    assert!(call(channel.clone(), LIST).await.is_ok());
    drop(first);
    let again = eventually(
        || async { watch().await.map(drop).map_err(|status| status.code()) },
        Result::is_ok,
    )
    .await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn calls_beyond_the_bound_are_shed_while_watches_and_health_go_on() {
    let bed = Bed::start_with(|config| config.access.bounds.calls = 3).await;
    let mut workflows = WorkflowServiceClient::new(bed.admin());
    let workflow = workflows.create_workflow(app("shop")).await.unwrap();
    let workflow_id = workflow.into_inner().workflow.unwrap().workflow_id;
    let get = || {
        let mut workflows = WorkflowServiceClient::new(bed.admin());
        let workflow_id = workflow_id.clone();
        async move {
            workflows
                .get_workflow(GetWorkflowRequest { workflow_id })
                .await
        }
    };
    let _watch = workflows
        .watch_workflows(WatchWorkflowsRequest::default())
        .await
        .unwrap();
    // Reads wait for the lock, and hold their room meanwhile.
    let lock = bed.database.connect().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE workflows IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut waiting: tokio::task::JoinSet<_> = (0..3).map(|_| get()).collect();
    let held = bed.database.connect().await.unwrap();
    let blocked =
        "SELECT count(*) FROM pg_locks WHERE relation = 'workflows'::regclass AND NOT granted";
    eventually(
        async || held.query_one(blocked, &[]).await.unwrap().get::<_, i64>(0),
        |count| *count >= 3,
    )
    .await;
    let delay = limited(&get().await.unwrap_err());
    assert!(delay > Duration::ZERO);
    assert!(
        call(bed.admin(), "grpc.health.v1.Health/Check")
            .await
            .is_ok()
    );
    lock.batch_execute("ROLLBACK").await.unwrap();
    let mut served = 0;
    while let Some(answer) = waiting.join_next().await {
        served += usize::from(answer.unwrap().is_ok());
    }
    assert_eq!(served, 3, "what was let in was served");
    get().await.unwrap();
}

#[tokio::test]
async fn whoever_guesses_tokens_is_slowed_down_and_those_who_have_one_are_not() {
    let bed = Bed::start().await;
    let mut refused = 0;
    let slowed = loop {
        let guess = orchestrator::access::secret::Secret::random();
        let status = call(bed.with(guess.reveal()), CREATE).await.unwrap_err();
        if status.code() != Code::Unauthenticated {
            break status;
        }
        refused += 1;
        assert!(refused < 1000, "nobody stops it");
    };
    limited(&slowed);
    assert!(refused >= 50, "{refused}");
    assert!(call(bed.admin(), LIST).await.is_ok());
}
