//! The table of who may call what, as people agreed on it, against what is really answered.

use std::collections::BTreeSet;

use contracts::client;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::Role;
use tonic::Code;

use super::bed::{Bed, admitted, call};

/// V: viewer, O: operator, P: approver, A: admin, G: agent.
const EXPECTED: &str = "
WorkflowService/CreateWorkflow           -O-A-
WorkflowService/GetWorkflow              VOPA-
WorkflowService/ListWorkflows            VOPA-
WorkflowService/WatchWorkflow            VOPA-
WorkflowService/WatchWorkflows           VOPA-
WorkflowService/ListWorkflowEvents       VOPA-
WorkflowService/WatchWorkflowLogs        VOPA-
WorkflowService/CancelWorkflow           -O-A-
WorkflowService/PauseWorkflow            -O-A-
WorkflowService/ResumeWorkflow           -O-A-
WorkflowService/RetryWorkflow            -O-A-
WorkflowService/GetStatistics            VOPA-
PipelineService/CreatePipeline           -O-A-
PipelineService/GetPipeline              VOPA-
PipelineService/ListPipelines            VOPA-
PipelineService/DeletePipeline           -O-A-
DecisionService/ListDecisions            VOPA-
DecisionService/GetDecision              VOPA-
DecisionService/ResolveDecision          --PA-
ClarificationService/ListClarifications  VOPA-
ClarificationService/AnswerClarification -O-A-
ArtifactService/UploadArtifact           -O-AG
ArtifactService/DownloadArtifact         VOPAG
ArtifactService/ListArtifacts            VOPAG
AgentRegistryService/Connect             ----G
AgentRegistryService/ListAgents          VOPA-
AgentRegistryService/GetAgent            VOPA-
AgentRegistryService/DrainAgent          ---A-
EnrolmentService/CreateEnrolmentToken    ---A-
EnrolmentService/IssueCertificate        VOPAG
EnrolmentService/RevokeCertificates      ---A-
TokenService/CreateToken                 ---A-
TokenService/ListTokens                  ---A-
TokenService/RevokeToken                 ---A-
AuditService/ListAuditEntries            ---A-
";

const ROLES: [(char, Role); 5] = [
    ('V', Role::Viewer),
    ('O', Role::Operator),
    ('P', Role::Approver),
    ('A', Role::Admin),
    ('G', Role::Agent),
];

const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// It wants a token of one use, or the certificate that is to be renewed.
const ASKS_BY_ITSELF: &str = "EnrolmentService/IssueCertificate";

fn expected() -> Vec<(String, &'static str)> {
    let rows = EXPECTED.lines().filter_map(|line| line.split_once(' '));
    rows.map(|(method, letters)| (format!("agentic.orchestrator.v1.{method}"), letters.trim()))
        .chain(REFLECTION.map(|method| (method.to_owned(), "VOPAG")))
        .collect()
}

#[tokio::test]
async fn every_method_answers_each_role_as_the_table_says_and_nobody_without_a_credential() {
    let contract: BTreeSet<_> = contracts::json::pool()
        .unwrap()
        .services()
        .filter(|service| service.full_name().starts_with("agentic.orchestrator."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .chain(REFLECTION.map(str::to_owned))
        .collect();
    let table: BTreeSet<_> = expected().into_iter().map(|(method, _)| method).collect();
    assert_eq!(table, contract, "the table names every method");

    let bed = Bed::start().await;
    let mut calls = 0;
    for (letter, role) in ROLES {
        let channel = bed.with(&bed.token(role).await);
        for (method, letters) in expected() {
            let answer = call(channel.clone(), &method).await;
            assert_eq!(
                admitted(&answer),
                letters.contains(letter),
                "{role:?} {method}: {answer:?}"
            );
            if let Err(status) = answer
                && status.code() == Code::PermissionDenied
            {
                let error = Error::from_status(&status).unwrap();
                assert_eq!(error.reason, ErrorReason::PermissionDenied);
                assert!(error.message.contains(&method), "{error}");
            }
            calls += 1;
        }
    }
    let nobody = client::channel(&bed.replica.url, None).unwrap();
    for (method, _) in expected() {
        let answer = call(nobody.clone(), &method).await;
        calls += 1;
        if method.ends_with(ASKS_BY_ITSELF) {
            assert!(admitted(&answer), "{method}: {answer:?}");
            continue;
        }
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{method}: {status:?}");
        let error = Error::from_status(&status).unwrap();
        assert_eq!(error.reason, ErrorReason::Unauthenticated);
    }
    assert_eq!(calls, 6 * table.len());
}

#[tokio::test]
async fn health_needs_no_credential_and_what_is_in_no_table_is_nobodys() {
    let bed = Bed::start().await;
    let nobody = client::channel(&bed.replica.url, None).unwrap();
    for open in ["Check", "List", "Watch"] {
        let answer = call(nobody.clone(), &format!("grpc.health.v1.Health/{open}")).await;
        assert!(admitted(&answer), "{open}: {answer:?}");
    }
    for unknown in [
        "agentic.orchestrator.v1.WorkflowService/DropWorkflow",
        "x/y",
    ] {
        let status = call(bed.admin(), unknown).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{unknown}");
        let status = call(nobody.clone(), unknown).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{unknown}");
    }
}
