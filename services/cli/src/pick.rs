//! What a person means by an id or a name.

use contracts::id::WorkflowId;
use contracts::orchestrator::{
    Decision, GetDecisionRequest, GetWorkflowRequest, ListDecisionsRequest, ListWorkflowsRequest,
    Workflow, WorkflowFilter,
};

use crate::error::Error;
use crate::mesh::{Mesh, call};

/// The workflow of an id, or the newest one of a name.
pub async fn workflow(mesh: &Mesh, id_or_name: &str) -> Result<Workflow, Error> {
    let id = if id_or_name.parse::<WorkflowId>().is_ok() {
        id_or_name.to_owned()
    } else {
        newest_id(mesh, id_or_name).await?
    };
    let request = GetWorkflowRequest {
        workflow_id: id.clone(),
    };
    let workflow = call!(mesh, workflows.get_workflow(request))?
        .workflow
        .ok_or_else(|| Error::Answer("a workflow was asked for, and none came".to_owned()))?;
    // Ids compare as ids: their letters may be upper or lower case.
    if workflow.workflow_id.parse::<WorkflowId>().ok() != id.parse().ok() {
        return Err(Error::Answer(format!(
            "workflow {id} was asked for, and {:?} came",
            workflow.workflow_id
        )));
    }
    Ok(workflow)
}

/// The id that an id or a name means.
pub async fn workflow_id(mesh: &Mesh, id_or_name: &str) -> Result<String, Error> {
    if id_or_name.parse::<WorkflowId>().is_ok() {
        return Ok(id_or_name.to_owned());
    }
    newest_id(mesh, id_or_name).await
}

async fn newest_id(mesh: &Mesh, name: &str) -> Result<String, Error> {
    let request = ListWorkflowsRequest {
        page_size: 1,
        filter: Some(WorkflowFilter {
            name: name.to_owned(),
            ..WorkflowFilter::default()
        }),
        ..ListWorkflowsRequest::default()
    };
    call!(mesh, workflows.list_workflows(request))?
        .workflows
        .into_iter()
        .next()
        .map(|workflow| workflow.workflow_id)
        .ok_or_else(|| {
            Error::NotFound(format!(
                "{name:?} is neither the id nor the name of a workflow; `agentic list` shows them"
            ))
        })
}

/// The decision of an id, or the only open one of a workflow.
pub async fn decision(mesh: &Mesh, id_or_workflow: &str) -> Result<Decision, Error> {
    if id_or_workflow.parse::<WorkflowId>().is_ok() {
        let request = GetDecisionRequest {
            decision_id: id_or_workflow.to_owned(),
        };
        match call!(mesh, decisions.get_decision(request)) {
            Ok(answer) => {
                return answer.decision.ok_or_else(|| {
                    Error::Answer("a decision was asked for, and none came".to_owned())
                });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let workflow_id = workflow_id(mesh, id_or_workflow).await?;
    let request = ListDecisionsRequest {
        page_size: 2,
        workflow_id: workflow_id.clone(),
        ..ListDecisionsRequest::default()
    };
    let mut open = call!(mesh, decisions.list_decisions(request))?.decisions;
    match (open.pop(), open.pop()) {
        (Some(decision), None) => Ok(decision),
        (None, _) => Err(Error::NotFound(format!(
            "workflow {workflow_id} has no open decision, and there is no decision of that id"
        ))),
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "workflow {workflow_id} has several open decisions: name one of `agentic decisions {workflow_id}`"
        ))),
    }
}
