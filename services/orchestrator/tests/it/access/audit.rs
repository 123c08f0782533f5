//! What is on record, and that nobody changes it unnoticed.

use contracts::audit::{Broken, Chain};
use contracts::orchestrator::audit_service_client::AuditServiceClient;
use contracts::orchestrator::decision_service_client::DecisionServiceClient;
use contracts::orchestrator::pipeline_service_client::PipelineServiceClient;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    AuditEntry, CancelWorkflowRequest, GetPipelineRequest, ListAuditEntriesRequest,
    ResolveDecisionRequest, Role,
};
use contracts::task::Resolution;
use tonic::{Code, Request};

use super::bed::{Bed, call};
use crate::mesh::{app, eventually};

const CANCEL: &str = "agentic.orchestrator.v1.WorkflowService/CancelWorkflow";
const CREATE: &str = "agentic.orchestrator.v1.WorkflowService/CreateWorkflow";
const RESOLVE: &str = "agentic.orchestrator.v1.DecisionService/ResolveDecision";

// Reads all of it, page by page, and checks the chain.
async fn read(bed: &Bed, page_size: i32) -> (Vec<AuditEntry>, Result<(), Broken>) {
    let mut entries = Vec::new();
    let mut chain = Chain::default();
    let mut page_token = String::new();
    loop {
        let request = ListAuditEntriesRequest {
            page_size,
            page_token,
            ..ListAuditEntriesRequest::default()
        };
        let page = AuditServiceClient::new(bed.admin())
            .list_audit_entries(request)
            .await
            .unwrap()
            .into_inner();
        for entry in page.entries {
            let checked = chain.check(&entry);
            entries.push(entry);
            if checked.is_err() {
                return (entries, checked);
            }
        }
        if page.next_page_token.is_empty() {
            let ended = chain.check_end(page.total_count, &page.head_hash);
            return (entries, ended);
        }
        page_token = page.next_page_token;
    }
}

fn last<'a>(entries: &'a [AuditEntry], method: &str) -> &'a AuditEntry {
    let mut of_method = entries.iter().rev().filter(|entry| entry.method == method);
    of_method
        .next()
        .unwrap_or_else(|| panic!("no {method} in {entries:?}"))
}

#[tokio::test]
async fn every_change_is_on_record_with_who_what_from_where_and_what_came_of_it() {
    let bed = Bed::start().await;
    let operator = bed.token(Role::Operator).await;
    let mut workflows = WorkflowServiceClient::new(bed.with(&operator));
    let mut request = Request::new(app("shop"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", trace.parse().unwrap());
    let made = workflows.create_workflow(request).await.unwrap();
    let workflow_id = made.into_inner().workflow.unwrap().workflow_id;
    let cancel = CancelWorkflowRequest {
        workflow_id: workflow_id.clone(),
        ..CancelWorkflowRequest::default()
    };
    workflows.cancel_workflow(cancel.clone()).await.unwrap();
    let again = workflows.cancel_workflow(cancel).await;
    // A decision that this one may not make, on a digest that is to be on record.
    let decision = ResolveDecisionRequest {
        decision_id: workflow_id.clone(),
        subject_digest: "sha256:feed".to_owned(),
        resolution: Resolution::Approve.into(),
        ..ResolveDecisionRequest::default()
    };
    let status = DecisionServiceClient::new(bed.with(&operator))
        .resolve_decision(decision)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    // Reads leave no trace.
    PipelineServiceClient::new(bed.with(&operator))
        .get_pipeline(GetPipelineRequest {
            pipeline_id: "app".to_owned(),
            version: 0,
        })
        .await
        .unwrap();

    let (entries, whole) = read(&bed, 2).await;
    assert_eq!(whole, Ok(()));
    let created = last(&entries, CREATE);
    assert_eq!(created.actor, "operator");
    assert!(created.credential.starts_with("token:"), "{created:?}");
    assert_eq!(created.address, "127.0.0.1");
    assert_eq!(created.namespace, "default");
    assert_eq!(created.subject, format!("workflow/{workflow_id}"));
    assert!(created.content_digest.starts_with("sha256:"));
    assert_eq!(
        (created.outcome.as_str(), created.reason.as_str()),
        ("OK", "")
    );
    let cancels: Vec<_> = entries.iter().filter(|it| it.method == CANCEL).collect();
    assert_eq!(cancels.len(), 2);
    assert_eq!(cancels[0].outcome, "OK");
    assert_eq!(
        cancels[1].outcome == "OK",
        again.is_ok(),
        "{:?}",
        cancels[1]
    );
    let denied = last(&entries, RESOLVE);
    assert_eq!(denied.subject, format!("decision/{workflow_id}"));
    assert_eq!(denied.decision_digest, "sha256:feed");
    assert_eq!(denied.outcome, "PERMISSION_DENIED");
    assert_eq!(denied.reason, "PERMISSION_DENIED");
    assert!(entries.iter().all(|entry| !entry.method.contains("/Get")));
    let all = format!("{entries:?}");
    assert!(!all.contains(&operator) && !all.contains(bed.admin.reveal()));
}

#[tokio::test]
async fn changes_that_strangers_tried_are_on_record_too() {
    let bed = Bed::start().await;
    let nobody = contracts::client::channel(&bed.replica.url, None).unwrap();
    let status = call(nobody, CANCEL).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let (entries, whole) = read(&bed, 1000).await;
    assert_eq!(whole, Ok(()));
    let tried = last(&entries, CANCEL);
    assert_eq!(tried.outcome, "UNAUTHENTICATED");
    assert_eq!((tried.actor.as_str(), tried.credential.as_str()), ("", ""));
    assert_eq!(tried.address, "127.0.0.1");
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_database_is_named() {
    let bed = Bed::start().await;
    let mut workflows = WorkflowServiceClient::new(bed.admin());
    for _ in 0..5 {
        workflows.create_workflow(app("shop")).await.unwrap();
    }
    let client = bed.database.connect().await.unwrap();
    for forbidden in [
        "UPDATE audit SET actor = 'eve' WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
        "TRUNCATE audit",
    ] {
        let error = client.execute(forbidden, &[]).await.unwrap_err();
        let said = error.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("append-only"), "{forbidden}: {said}");
    }
    let (entries, whole) = read(&bed, 1000).await;
    assert_eq!((entries.len(), whole), (5, Ok(())));

    // Who owns the database can switch the triggers off, and is found out all the same.
    let tamper = async |statement: &str| {
        let statement = format!(
            "ALTER TABLE audit DISABLE TRIGGER ALL; {statement}; ALTER TABLE audit ENABLE TRIGGER ALL"
        );
        client.batch_execute(&statement).await.unwrap();
        read(&bed, 2).await.1
    };
    let changed = tamper("UPDATE audit SET actor = 'eve' WHERE sequence = 3").await;
    assert_eq!(changed, Err(Broken::Changed(3)));
    let back = "UPDATE audit SET actor = 'administrator' WHERE sequence = 3";
    assert_eq!(tamper(back).await, Ok(()));
    let cut = tamper("DELETE FROM audit WHERE sequence = 5").await;
    assert_eq!(
        cut,
        Err(Broken::Cut {
            last: 4,
            expected: 5
        })
    );
    let removed = tamper("DELETE FROM audit WHERE sequence = 2").await;
    assert_eq!(removed, Err(Broken::Gap { after: 1, found: 3 }));
}

#[tokio::test]
async fn many_callers_of_two_replicas_write_one_chain() {
    let bed = Bed::start().await;
    let other = bed.another().await;
    let there = contracts::client::channel(&other.url, Some(bed.admin.reveal())).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..60 {
        let channel = if n % 2 == 0 {
            bed.admin()
        } else {
            there.clone()
        };
        calls.spawn(async move {
            let mut workflows = WorkflowServiceClient::new(channel);
            workflows.create_workflow(app("shop")).await.map(drop)
        });
    }
    while let Some(made) = calls.join_next().await {
        made.unwrap().unwrap();
    }
    let (entries, whole) = read(&bed, 7).await;
    assert_eq!((entries.len(), whole), (60, Ok(())));
    other.stop().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_keep_the_change_off_the_record() {
    let bed = Bed::start().await;
    // The change is made, and its entry waits for the lock.
    let lock = bed.database.connect().await.unwrap();
    lock.batch_execute("BEGIN; SELECT 1 FROM audit_head FOR UPDATE")
        .await
        .unwrap();
    let mut workflows = WorkflowServiceClient::new(bed.admin());
    let call = tokio::task::JoinSet::from_iter([async move {
        workflows.create_workflow(app("shop")).await.map(drop)
    }]);
    let other = bed.database.connect().await.unwrap();
    let count = || async {
        let row = other.query_one("SELECT count(*) FROM workflows", &[]).await;
        row.unwrap().get::<_, i64>(0)
    };
    eventually(count, |count| *count == 1).await;
    // Hangs up.
    drop(call);
    lock.batch_execute("ROLLBACK").await.unwrap();
    let seen = eventually(|| read(&bed, 1000), |(entries, _)| !entries.is_empty()).await;
    assert_eq!(seen.1, Ok(()));
    assert_eq!(last(&seen.0, CREATE).outcome, "OK");
}
