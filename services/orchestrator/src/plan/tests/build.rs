//! Short ways to write pipelines in tests.

use contracts::deployment::{DeploymentTask, Status, deployment_task};
use contracts::e2e::E2eTask;
use contracts::integration::{IntegrationTask, RunIntegrationTests, integration_task};
use contracts::orchestrator::{
    self, Need, NeedCondition, RepairPolicy, RetryPolicy, StageCondition, StageDefinition,
    StageTask, stage_task::Task,
};
use contracts::scaffold::ScaffoldTask;
use contracts::task::{AgentType, DecisionCategory};
use contracts::validation::ValidationTask;

use super::Run;
use crate::plan::pipeline::Pipeline;

pub fn task(agent_type: AgentType) -> StageTask {
    let task = match agent_type {
        AgentType::Unspecified => None,
        AgentType::Scaffold => Some(Task::Scaffold(ScaffoldTask::default())),
        AgentType::Validation => Some(Task::Validation(ValidationTask::default())),
        AgentType::E2e => Some(Task::E2e(E2eTask::default())),
        AgentType::Integration => Some(Task::Integration(IntegrationTask {
            action: Some(integration_task::Action::RunIntegrationTests(
                RunIntegrationTests::default(),
            )),
        })),
        AgentType::Deployment => Some(Task::Deployment(DeploymentTask {
            action: Some(deployment_task::Action::Status(Status {})),
            ..DeploymentTask::default()
        })),
    };
    StageTask { task }
}

/// A stage whose type follows from its first letter, as in `scaffold`, `validation`, `e2e`,
/// `integration`, `deployment`; anything else is validation.
pub fn stage(name: &str, after: &[&str]) -> StageDefinition {
    let agent_type = match name.chars().next() {
        Some('s') => AgentType::Scaffold,
        Some('e') => AgentType::E2e,
        Some('i') => AgentType::Integration,
        Some('d') => AgentType::Deployment,
        _ => AgentType::Validation,
    };
    StageDefinition {
        name: name.into(),
        task: Some(task(agent_type)),
        needs: after
            .iter()
            .map(|name| need(name, NeedCondition::Succeeded))
            .collect(),
        ..StageDefinition::default()
    }
}

pub fn need(stage: &str, condition: NeedCondition) -> Need {
    Need {
        stage: stage.into(),
        condition: condition.into(),
    }
}

/// A stage with needs of one condition.
pub fn stage_when(name: &str, after: &[&str], condition: NeedCondition) -> StageDefinition {
    StageDefinition {
        needs: after.iter().map(|name| need(name, condition)).collect(),
        ..stage(name, &[])
    }
}

/// Short changes to a stage.
pub trait But {
    fn optional(self) -> Self;
    fn only_for_apps(self) -> Self;
    fn repaired_by(self, stage: &str, max_rounds: i32) -> Self;
    fn undone(self) -> Self;
    fn retried(self, max_attempts: i32, max_lost: i32) -> Self;
    fn approved(self, category: DecisionCategory) -> Self;
    fn weighing(self, weight: i32) -> Self;
}

impl But for StageDefinition {
    fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    fn only_for_apps(self) -> Self {
        Self {
            when: StageCondition::ProjectIsApp.into(),
            ..self
        }
    }

    fn repaired_by(self, stage: &str, max_rounds: i32) -> Self {
        Self {
            repair: Some(RepairPolicy {
                stage: stage.into(),
                max_rounds,
            }),
            ..self
        }
    }

    fn undone(self) -> Self {
        Self {
            undo: Some(task(AgentType::Deployment)),
            ..self
        }
    }

    fn retried(self, max_attempts: i32, max_lost: i32) -> Self {
        Self {
            retry: Some(RetryPolicy {
                max_attempts,
                max_lost,
                ..RetryPolicy::default()
            }),
            ..self
        }
    }

    fn approved(self, category: DecisionCategory) -> Self {
        Self {
            decision: category.into(),
            ..self
        }
    }

    fn weighing(self, weight: i32) -> Self {
        Self { weight, ..self }
    }
}

pub fn proto(stages: Vec<StageDefinition>) -> orchestrator::Pipeline {
    orchestrator::Pipeline {
        name: "test".into(),
        stages,
        ..orchestrator::Pipeline::default()
    }
}

#[track_caller]
pub fn pipeline(stages: Vec<StageDefinition>) -> Pipeline {
    Pipeline::parse(&proto(stages)).unwrap()
}

#[track_caller]
pub fn run(stages: Vec<StageDefinition>) -> Run {
    Run::of(pipeline(stages))
}
