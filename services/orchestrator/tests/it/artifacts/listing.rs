//! Lists of artifacts: complete, in order, page by page.

use contracts::{error_reason::ErrorReason, id::WorkflowId, orchestrator::ListArtifactsRequest};

use super::bed::{Bed, description, read_error};

async fn with_seven() -> (Bed, WorkflowId) {
    let mut bed = Bed::new().await;
    let workflow_id = bed.workflow().await;
    for number in 0..7 {
        let text = number.to_string();
        let mut artifact = description(&format!("file-{number}"), text.as_bytes());
        artifact.workflow_id = workflow_id.to_string();
        artifact.stage = if number % 2 == 0 { "even" } else { "odd" }.into();
        bed.send(artifact, text.as_bytes()).await.unwrap();
    }
    bed.upload("of-nobody", b"x").await;
    (bed, workflow_id)
}

fn list(workflow_id: WorkflowId) -> ListArtifactsRequest {
    ListArtifactsRequest {
        workflow_id: workflow_id.to_string(),
        ..ListArtifactsRequest::default()
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let (mut bed, workflow_id) = with_seven().await;
    let mut names = Vec::new();
    let mut request = ListArtifactsRequest {
        page_size: 3,
        ..list(workflow_id)
    };
    loop {
        let page = bed
            .client
            .list_artifacts(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.total_count, 7);
        names.extend(
            page.artifacts
                .into_iter()
                .map(|stored| stored.artifact.unwrap().name),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected: Vec<_> = (0..7).map(|number| format!("file-{number}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_last_full_page_has_no_next_one() {
    let (mut bed, workflow_id) = with_seven().await;
    let request = ListArtifactsRequest {
        page_size: 7,
        ..list(workflow_id)
    };
    let page = bed
        .client
        .list_artifacts(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (page.artifacts.len(), page.next_page_token.as_str()),
        (7, "")
    );
}

#[tokio::test]
async fn a_stage_lists_its_own() {
    let (mut bed, workflow_id) = with_seven().await;
    let request = ListArtifactsRequest {
        stage: "odd".into(),
        ..list(workflow_id)
    };
    let page = bed
        .client
        .list_artifacts(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.total_count, 3);
    assert!(page.artifacts.iter().all(|stored| stored.stage == "odd"));
}

#[tokio::test]
async fn bad_lists_are_refused_by_field() {
    let (mut bed, workflow_id) = with_seven().await;
    for (request, field) in [
        (ListArtifactsRequest::default(), "workflow_id"),
        (
            ListArtifactsRequest {
                workflow_id: "x".into(),
                ..list(workflow_id)
            },
            "workflow_id",
        ),
        (
            ListArtifactsRequest {
                page_size: 1001,
                ..list(workflow_id)
            },
            "page_size",
        ),
        (
            ListArtifactsRequest {
                page_size: -1,
                ..list(workflow_id)
            },
            "page_size",
        ),
        (
            ListArtifactsRequest {
                page_token: "zz".into(),
                ..list(workflow_id)
            },
            "page_token",
        ),
        (
            ListArtifactsRequest {
                stage: "\0".into(),
                ..list(workflow_id)
            },
            "stage",
        ),
    ] {
        let error = read_error(bed.client.list_artifacts(request).await);
        assert_eq!(error.fields[0].0, field);
    }
    let error = read_error(bed.client.list_artifacts(list(WorkflowId::new())).await);
    assert_eq!(error.reason, ErrorReason::WorkflowNotFound);
}
