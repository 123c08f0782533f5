//! The quota of live workflows: exact, over all replicas, for each namespace.

use std::time::Duration;

use orchestrator::Config;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{CancelWorkflowRequest, CreateWorkflowRequest};

use crate::database;
use crate::mesh::{Replica, app};

const QUOTA: usize = 12;

async fn create(
    replica: &Replica,
    namespace: &'static str,
    request: CreateWorkflowRequest,
) -> Result<String, Status> {
    let mut request = Request::new(request);
    let named = namespace.parse().unwrap();
    request.metadata_mut().insert("agentic-namespace", named);
    let created = replica.workflows().create_workflow(request).await?;
    Ok(created.into_inner().workflow.unwrap().workflow_id)
}

fn requested(request_id: &str) -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        request_id: request_id.to_owned(),
        ..app("counted")
    }
}

fn assert_reached(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let error = Error::from_status(status).unwrap();
    assert_eq!(error.reason, ErrorReason::QuotaReached);
    assert!(error.retry_after.unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn replicas_together_take_in_as_many_as_may_live_and_not_one_more() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(
            Replica::start_as(Config {
                live_workflows: u32::try_from(QUOTA).unwrap(),
                ..Replica::config(database.connection_string(), folder.path())
            })
            .await,
        );
    }
    // Each request twice, at two replicas: together they are one.
    let mut asked = JoinSet::new();
    for number in 0..2 * QUOTA {
        for replica in [number % 3, (number + 1) % 3] {
            let mut client = replicas[replica].workflows();
            let request_id = format!("request-{number}");
            asked.spawn(async move {
                let answer = client.create_workflow(requested(&request_id)).await;
                let id = answer.map(|got| got.into_inner().workflow.unwrap().workflow_id);
                (request_id, id)
            });
        }
    }
    let mut taken = std::collections::BTreeMap::new();
    for (request_id, answer) in asked.join_all().await {
        match answer {
            Ok(id) => {
                let first = taken.entry(request_id).or_insert(id.clone());
                assert_eq!(*first, id, "a repeated request is answered as the first");
            }
            Err(status) => assert_reached(&status),
        }
    }
    assert_eq!(taken.len(), QUOTA);
    let connection = database.connect().await.unwrap();
    let count = "SELECT count(*) FROM workflows";
    let count: i64 = connection.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(count).unwrap(), QUOTA);

    // While there is no room, what was taken in is still answered, and others have room of their own.
    let (request_id, id) = taken.first_key_value().unwrap();
    let again = create(&replicas[0], "default", requested(request_id)).await;
    assert_eq!(again.unwrap(), *id);
    create(&replicas[1], "elsewhere", app("other"))
        .await
        .unwrap();
    assert_reached(
        &create(&replicas[2], "default", app("more"))
            .await
            .unwrap_err(),
    );
    // One that ends makes room for one.
    let cancel = CancelWorkflowRequest {
        workflow_id: id.clone(),
        ..CancelWorkflowRequest::default()
    };
    replicas[0]
        .workflows()
        .cancel_workflow(cancel)
        .await
        .unwrap();
    create(&replicas[2], "default", app("more")).await.unwrap();
    assert_reached(
        &create(&replicas[1], "default", app("more"))
            .await
            .unwrap_err(),
    );
}
