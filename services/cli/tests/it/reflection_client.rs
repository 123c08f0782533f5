//! A client that knows nothing but what reflection tells it: `buf curl`, against the mesh and
//! against one agent alone.

mod curl;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::mesh::{Place, is_equipped};
use crate::python_client::{has_peers, library};
use curl::{Refusal, Server};

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const OF_ORCHESTRATOR: [&str; 9] = [
    "AgentRegistryService",
    "ArtifactService",
    "AuditService",
    "ClarificationService",
    "DecisionService",
    "EnrolmentService",
    "PipelineService",
    "TokenService",
    "WorkflowService",
];

#[tokio::test]
async fn reflection_is_enough_to_use_the_mesh_and_an_agent_alone() -> Result<()> {
    if !is_equipped() || !has_peers() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let agents = mesh.ready["agents"].as_array().context("no agents")?;
    let validation = agents
        .iter()
        .find(|agent| agent["agentType"] == "validation")
        .context("no validation agent")?;
    let orchestrator = Server::at(&mesh.ready["address"])?;
    let validation = Server::at(&validation["address"])?;

    what_is_served_is_listed(&orchestrator, &validation).await?;
    an_agent_is_useful_alone(&validation).await?;
    work_is_created_watched_and_downloaded(&orchestrator).await?;
    refusals_name_code_reason_and_fields(&orchestrator, &validation).await?;
    mesh.stop().await
}

async fn what_is_served_is_listed(orchestrator: &Server, validation: &Server) -> Result<()> {
    for version in ["grpc-v1", "grpc-v1alpha"] {
        let reflection = format!(
            "{}.ServerReflection",
            version.replace("grpc-", "grpc.reflection.")
        );
        let around = |services: &[&str], package: &str| -> BTreeSet<String> {
            let ours = services.iter().map(|name| format!("{package}.{name}"));
            ours.chain(["grpc.health.v1.Health".to_owned(), reflection.clone()])
                .collect()
        };
        let listed = orchestrator.services(version).await?;
        assert_eq!(listed, around(&OF_ORCHESTRATOR, "agentic.orchestrator.v1"));
        let listed = validation.services(version).await?;
        assert_eq!(
            listed,
            around(&["ValidationService"], "agentic.validation.v1")
        );
    }
    Ok(())
}

// No orchestrator, no workflow, no lease: a repository, and what to do.
async fn an_agent_is_useful_alone(validation: &Server) -> Result<()> {
    let repository = library()?;
    let execute = "agentic.validation.v1.ValidationService/Execute";
    let request = json!({
        "context": {"repository": {"url": repository.url(), "branch": "good", "targetBranch": "main"}},
        "task": {},
    });
    let messages = validation.call(execute, &request).await?;
    let kinds: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["event"].as_object())
        .flat_map(|event| event.keys().map(String::as_str))
        .collect();
    assert!(
        kinds.contains(&"accepted") && kinds.contains(&"progress"),
        "{kinds:?}"
    );
    let result = &messages.last().context("no message")?["result"];
    assert_eq!(result["outcome"]["verdict"], "VERDICT_PASSED", "{result}");
    let checks = result["checks"].as_array().context("no checks")?;
    let tests = checks
        .iter()
        .find(|check| check["name"] == "tests")
        .context("no tests")?;
    assert_eq!(tests["executedCount"], 1);
    assert_eq!(tests["verdict"], "VERDICT_PASSED");
    Ok(())
}

async fn work_is_created_watched_and_downloaded(orchestrator: &Server) -> Result<()> {
    let repository = library()?;
    let request = json!({
        "type": "WORKFLOW_TYPE_CHANGE",
        "name": "from buf",
        "repository": {"url": repository.url(), "branch": "good", "targetBranch": "main"},
    });
    let created = orchestrator
        .call(&workflows("CreateWorkflow"), &request)
        .await?;
    let id = &created[0]["workflow"]["workflowId"];
    let request = json!({"workflowId": id});
    let watched = orchestrator
        .call(&workflows("WatchWorkflow"), &request)
        .await?;
    let sequences: Vec<i64> = watched
        .iter()
        .filter_map(|message| message["event"]["sequence"].as_str()?.parse().ok())
        .collect();
    let count = i64::try_from(sequences.len())?;
    assert_eq!(sequences, (1..=count).collect::<Vec<i64>>());
    let ended = orchestrator
        .call(&workflows("GetWorkflow"), &request)
        .await?;
    assert_eq!(
        ended[0]["workflow"]["state"], "WORKFLOW_STATE_SUCCEEDED",
        "{ended:?}"
    );

    let kept = orchestrator
        .call(&artifacts("ListArtifacts"), &request)
        .await?;
    let artifact = &kept[0]["artifacts"][0]["artifact"];
    let request = json!({"digest": artifact["digest"]});
    let mut digest = Sha256::new();
    for message in orchestrator
        .call(&artifacts("DownloadArtifact"), &request)
        .await?
    {
        let chunk = message["chunk"].as_str().context("no chunk")?;
        digest.update(curl::bytes(chunk)?);
    }
    let digest = format!("sha256:{}", hex::encode(digest.finalize()));
    assert_eq!(artifact["digest"], json!(digest));
    Ok(())
}

async fn refusals_name_code_reason_and_fields(
    orchestrator: &Server,
    validation: &Server,
) -> Result<()> {
    let app = |more: Value| {
        let mut request = json!({"type": "WORKFLOW_TYPE_APP", "name": "s"});
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        request
    };
    let create = workflows("CreateWorkflow");
    for (request, fields) in [
        (json!({}), vec!["type"]),
        (app(json!({"name": "Shop!"})), vec!["name"]),
        (app(json!({"priority": 99})), vec!["priority"]),
        (app(json!({"environment": "Prod!"})), vec!["environment"]),
        (
            app(json!({"labels": {"team": "x".repeat(64)}})),
            vec!["labels[team]"],
        ),
        (app(json!({"timeout": "2678400s"})), vec!["timeout"]),
        (
            app(json!({"budget": {"costMicros": -1}})),
            vec!["budget.cost_micros"],
        ),
        (
            app(json!({"parameters": {"e2e": {"scaffold": {}}}})),
            vec!["parameters[e2e]"],
        ),
        (
            app(json!({"type": "WORKFLOW_TYPE_CHANGE"})),
            vec!["repository.branch", "repository.url"],
        ),
    ] {
        let refusal = orchestrator.refusal(&create, &request).await?;
        assert_eq!(
            refusal,
            Refusal::of("invalid_argument", "INVALID_FIELD", &fields)
        );
    }
    for (method, request, code, reason, fields) in [
        (
            workflows("WatchWorkflow"),
            json!({"workflowId": "nope"}),
            "invalid_argument",
            "INVALID_FIELD",
            &["workflow_id"][..],
        ),
        (
            workflows("GetWorkflow"),
            json!({"workflowId": NOBODY}),
            "not_found",
            "WORKFLOW_NOT_FOUND",
            &[],
        ),
        (
            artifacts("DownloadArtifact"),
            json!({"digest": "sha256:x"}),
            "invalid_argument",
            "INVALID_FIELD",
            &["digest"],
        ),
        (
            create.clone(),
            app(json!({"pipelineId": "no-such"})),
            "not_found",
            "PIPELINE_NOT_FOUND",
            &[],
        ),
    ] {
        let refusal = orchestrator.refusal(&method, &request).await?;
        assert_eq!(refusal, Refusal::of(code, reason, fields), "{method}");
    }
    let execute = "agentic.validation.v1.ValidationService/Execute";
    let refusal = validation.refusal(execute, &json!({})).await?;
    assert_eq!(
        refusal,
        Refusal::of("invalid_argument", "INVALID_FIELD", &["task"])
    );
    Ok(())
}

fn workflows(method: &str) -> String {
    format!("agentic.orchestrator.v1.WorkflowService/{method}")
}

fn artifacts(method: &str) -> String {
    format!("agentic.orchestrator.v1.ArtifactService/{method}")
}
