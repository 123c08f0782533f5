//! The pipelines that come with the server. Knows which stages each kind of work passes, and nothing
//! of any particular piece of work.

use std::sync::LazyLock;
use std::time::Duration;

use contracts::deployment::{Deploy, DeploymentTask, Rollback, deployment_task};
use contracts::e2e::E2eTask;
use contracts::integration::{IntegrationTask, Merge, Revert, integration_task};
use contracts::orchestrator::{
    Need, NeedCondition, Pipeline, RepairPolicy, StageCondition, StageDefinition, StageTask,
    stage_task::Task,
};
use contracts::scaffold::{ScaffoldAction, ScaffoldTask};
use contracts::validation::ValidationTask;
use contracts::wire_time::wire_duration;

const SCAFFOLD: &str = "scaffold";
const VALIDATION: &str = "validation";
const E2E: &str = "e2e";
const INTEGRATION: &str = "integration";
const DEPLOYMENT: &str = "deployment";

const UNDO_REASON: &str = "the workflow did not succeed";

const REPAIR_ROUNDS: i32 = 3;

static BUILT_IN: LazyLock<[Pipeline; 4]> = LazyLock::new(|| {
    [
        pipeline(
            "app",
            "A new app: written, validated, tested, merged and deployed.",
            Some(ScaffoldAction::Generate),
        ),
        pipeline(
            "feature",
            "A feature in what is there: written, validated, tested, merged and deployed.",
            Some(ScaffoldAction::Implement),
        ),
        pipeline(
            "bugfix",
            "A bug fix in what is there: written, validated, tested, merged and deployed.",
            Some(ScaffoldAction::Fix),
        ),
        pipeline(
            "change",
            "A change that somebody already made: validated, tested, merged and deployed.",
            None,
        ),
    ]
});

/// All of them: `app`, `feature`, `bugfix`, `change`.
pub fn built_in() -> &'static [Pipeline] {
    &*BUILT_IN
}

fn pipeline(name: &str, description: &str, scaffold: Option<ScaffoldAction>) -> Pipeline {
    let writes = scaffold.is_some();
    let mut stages: Vec<StageDefinition> = scaffold.map(scaffold_stage).into_iter().collect();
    stages.extend([
        validation_stage(writes),
        e2e_stage(writes),
        integration_stage(),
        deployment_stage(),
    ]);
    Pipeline {
        pipeline_id: name.to_owned(),
        name: name.to_owned(),
        version: 1,
        description: description.to_owned(),
        stages,
        built_in: true,
        create_time: None,
    }
}

fn stage(name: &str, after: &[&str], task: Task, minutes: u64, weight: i32) -> StageDefinition {
    StageDefinition {
        name: name.to_owned(),
        task: Some(StageTask { task: Some(task) }),
        needs: after
            .iter()
            .map(|stage| Need {
                stage: (*stage).to_owned(),
                condition: NeedCondition::Succeeded.into(),
            })
            .collect(),
        timeout: Some(wire_duration(Duration::from_mins(minutes))),
        weight,
        ..StageDefinition::default()
    }
}

/// Only where something was written by us is there somebody to repair it.
fn repair(writes: bool) -> Option<RepairPolicy> {
    writes.then(|| RepairPolicy {
        stage: SCAFFOLD.to_owned(),
        max_rounds: REPAIR_ROUNDS,
    })
}

fn scaffold_stage(action: ScaffoldAction) -> StageDefinition {
    let task = Task::Scaffold(ScaffoldTask {
        action: action.into(),
        ..ScaffoldTask::default()
    });
    stage(SCAFFOLD, &[], task, 60, 20)
}

fn validation_stage(writes: bool) -> StageDefinition {
    let after: &[&str] = if writes { &[SCAFFOLD] } else { &[] };
    StageDefinition {
        repair: repair(writes),
        ..stage(
            VALIDATION,
            after,
            Task::Validation(ValidationTask::default()),
            60,
            30,
        )
    }
}

fn e2e_stage(writes: bool) -> StageDefinition {
    StageDefinition {
        repair: repair(writes),
        when: StageCondition::ProjectIsApp.into(),
        ..stage(E2E, &[VALIDATION], Task::E2e(E2eTask::default()), 60, 20)
    }
}

fn integration_stage() -> StageDefinition {
    let merge = Merge {
        run_checks: Some(true),
        ..Merge::default()
    };
    let revert = Revert {
        reason: UNDO_REASON.to_owned(),
        ..Revert::default()
    };
    let integrate = |action| {
        Task::Integration(IntegrationTask {
            action: Some(action),
        })
    };
    let task = integrate(integration_task::Action::Merge(merge));
    StageDefinition {
        undo: Some(StageTask {
            task: Some(integrate(integration_task::Action::Revert(revert))),
        }),
        // It needs validation itself, too: what is skipped cannot stand for it.
        ..stage(INTEGRATION, &[VALIDATION, E2E], task, 60, 15)
    }
}

fn deployment_stage() -> StageDefinition {
    let deploy = |action| {
        Task::Deployment(DeploymentTask {
            action: Some(action),
            ..DeploymentTask::default()
        })
    };
    let rollback = Rollback {
        reason: UNDO_REASON.to_owned(),
    };
    StageDefinition {
        when: StageCondition::ProjectIsApp.into(),
        undo: Some(StageTask {
            task: Some(deploy(deployment_task::Action::Rollback(rollback))),
        }),
        ..stage(
            DEPLOYMENT,
            &[INTEGRATION],
            deploy(deployment_task::Action::Deploy(Deploy::default())),
            30,
            15,
        )
    }
}
