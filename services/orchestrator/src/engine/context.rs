//! What an agent is told: the task as the pipeline has it, and everything the workflow knows.

use std::time::SystemTime;

use contracts::id::InstanceId;
use contracts::orchestrator::{StageTask, stage_task};
use contracts::scaffold::ScaffoldAction;
use contracts::task::{
    AgentType, AnsweredClarification, Budget, ResolvedDecision, StageInput, TaskContext,
};
use contracts::wire_time;

use super::live::{BudgetFacts, Millis};
use super::workflow::Workflow;
use crate::plan::state::{StageState, TaskKind};

/// The task of a stage, ready to be sent.
pub fn task(workflow: &Workflow, number: usize) -> StageTask {
    let definition = &workflow.submission.pipeline.stages[number];
    let planned = &workflow.live.plan.stages[number];
    let request = &workflow.submission.request;
    if planned.kind == TaskKind::Undo {
        let mut undo = definition.undo.clone().unwrap_or_default();
        fill(&mut undo, workflow);
        return undo;
    }
    let mut task = definition.task.clone();
    if let Some(over) = request.parameters.get(&definition.name) {
        task.overlay(over);
    }
    if let (TaskKind::Repair { findings_of, .. }, Some(stage_task::Task::Scaffold(scaffold))) =
        (&planned.kind, &mut task.task)
    {
        scaffold.action = ScaffoldAction::Repair.into();
        scaffold.findings = workflow
            .results
            .get(findings_of)
            .and_then(|result| result.outcome())
            .map(|outcome| outcome.findings.clone())
            .unwrap_or_default();
    }
    fill(&mut task, workflow);
    task
}

// What the workflow says once and its stages need not repeat.
fn fill(task: &mut StageTask, workflow: &Workflow) {
    let request = &workflow.submission.request;
    match &mut task.task {
        Some(stage_task::Task::Scaffold(scaffold)) => {
            if scaffold.name.is_empty() {
                scaffold.name.clone_from(&request.name);
            }
            if scaffold.requirements.is_empty() {
                scaffold.requirements = workflow.requirements();
            }
        }
        Some(stage_task::Task::Deployment(deployment)) => {
            if deployment.app.is_empty() {
                deployment.app = slug(&request.name);
            }
            if deployment.environment.is_empty() {
                deployment.environment.clone_from(&request.environment);
            }
        }
        Some(
            stage_task::Task::Validation(_)
            | stage_task::Task::E2e(_)
            | stage_task::Task::Integration(_),
        )
        | None => {}
    }
}

/// Everything else that the agent is told.
pub fn context(
    workflow: &Workflow,
    number: usize,
    epoch: i64,
    instance_id: InstanceId,
    now: SystemTime,
) -> TaskContext {
    let definition = &workflow.submission.pipeline.stages[number];
    let planned = &workflow.live.plan.stages[number];
    let facts = &workflow.live.stages[number];
    let request = &workflow.submission.request;
    let mut repository: contracts::task::Repository = (&workflow.live.repository).into();
    // What is deployed is what was merged, not what was proposed.
    if definition.agent_type == AgentType::Deployment && !workflow.live.merged_commit.is_empty() {
        repository
            .head_commit
            .clone_from(&workflow.live.merged_commit);
        repository
            .branch
            .clone_from(&workflow.live.repository.target_branch);
    }
    let own = now + definition.timeout;
    let deadline = if planned.kind == TaskKind::Undo {
        // Also of a workflow whose time is over.
        own
    } else {
        own.min(workflow.deadline.max(now))
    };
    TaskContext {
        workflow_id: workflow.id().to_string(),
        stage: definition.name.clone(),
        task_id: facts.task_id.map_or_else(String::new, |id| id.to_string()),
        attempt: i32::try_from(planned.attempt).unwrap_or(i32::MAX),
        lease_epoch: epoch,
        deadline: Some(wire_time::timestamp(deadline)),
        resume_after_sequence: facts.event_sequence,
        checkpoint: facts.checkpoint.clone(),
        repository: if repository == contracts::task::Repository::default() {
            None
        } else {
            Some(repository)
        },
        inputs: inputs(workflow),
        budget: left(workflow),
        labels: request.labels.clone(),
        agent_instance_id: instance_id.to_string(),
        reattach_only: false,
        decisions: facts.decisions.iter().map(ResolvedDecision::from).collect(),
        namespace: workflow.submission.namespace.clone(),
        workflow_name: request.name.clone(),
        environment: request.environment.clone(),
        clarifications: workflow
            .live
            .answers
            .iter()
            .map(AnsweredClarification::from)
            .collect(),
        time_left: deadline
            .duration_since(now)
            .ok()
            .map(wire_time::wire_duration),
    }
}

// Results of stages that are over, in the order they ended.
fn inputs(workflow: &Workflow) -> Vec<StageInput> {
    let mut ended: Vec<_> = workflow
        .live
        .plan
        .stages
        .iter()
        .enumerate()
        .filter(|(_, planned)| {
            matches!(
                planned.state,
                StageState::Succeeded | StageState::Failed | StageState::Repairing
            )
        })
        .collect();
    ended.sort_by_key(|(number, _)| {
        workflow.live.stages[*number]
            .end
            .map_or(i64::MAX, |Millis(end)| end)
    });
    ended
        .into_iter()
        .filter_map(|(number, planned)| {
            let result = workflow.results.get(&planned.name)?;
            Some(StageInput {
                stage: planned.name.clone(),
                agent_type: workflow.submission.pipeline.stages[number]
                    .agent_type
                    .into(),
                outcome: result.outcome().cloned(),
                result: result.to_any(),
            })
        })
        .collect()
}

// The budget less what was spent. Zero means no limit, so what is used up stays at one.
fn left(workflow: &Workflow) -> Option<Budget> {
    let budget = workflow.budget()?;
    let used = workflow.spent();
    let less = |whole: i64, spent: i64| if whole > 0 { (whole - spent).max(1) } else { 0 };
    let left = BudgetFacts {
        token_count: less(budget.token_count, used.token_count()),
        cost_micros: less(budget.cost_micros, used.cost_micros),
        wall_millis: less(budget.wall_millis, workflow.live.wall_millis),
    };
    Some(left.into())
}

/// A name for machines from a name for people.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars() {
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_lowercase() || (lower.is_ascii_digit() && !slug.is_empty()) {
            slug.push(lower);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(63);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "app".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_a_name_for_machines() {
        for (name, expected) in [
            ("shop", "shop"),
            ("Fix the cart!", "fix-the-cart"),
            ("42 things", "things"),
            ("../../etc", "etc"),
            ("äöü", "app"),
            ("", "app"),
        ] {
            assert_eq!(slug(name), expected);
            assert!(contracts::parse::is_slug(&slug(name)));
        }
        assert!(contracts::parse::is_slug(&slug(&"a b".repeat(100))));
    }
}
