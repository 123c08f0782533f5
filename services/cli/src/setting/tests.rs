//! Settings of the built-in stages, right and wrong.

use contracts::deployment::{Deploy, DeploymentTask, Strategy, deployment_task};
use contracts::integration::{IntegrationTask, Merge, MergeStrategy, integration_task};
use contracts::orchestrator::{Pipeline, StageDefinition, StageTask, stage_task::Task};
use contracts::scaffold::ScaffoldTask;
use contracts::validation::ValidationTask;

use super::{Setting, parameters};

fn pipeline() -> Pipeline {
    let stage = |name: &str, task| StageDefinition {
        name: name.into(),
        task: Some(StageTask { task: Some(task) }),
        ..StageDefinition::default()
    };
    Pipeline {
        stages: vec![
            stage("scaffold", Task::Scaffold(ScaffoldTask::default())),
            stage("validation", Task::Validation(ValidationTask::default())),
            stage(
                "integration",
                Task::Integration(IntegrationTask {
                    action: Some(integration_task::Action::Merge(Merge::default())),
                }),
            ),
            stage(
                "deployment",
                Task::Deployment(DeploymentTask {
                    action: Some(deployment_task::Action::Deploy(Deploy::default())),
                    ..DeploymentTask::default()
                }),
            ),
        ],
        ..Pipeline::default()
    }
}

fn set(texts: &[&str]) -> Result<std::collections::HashMap<String, StageTask>, String> {
    let settings: Vec<Setting> = texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    parameters(&settings, &pipeline()).map_err(|error| error.to_string())
}

#[test]
fn fields_maps_lists_and_nested_fields_are_set() {
    let set = set(&[
        "scaffold.template=python-http",
        "scaffold.template_parameters.colour=red=blue",
        "scaffold.templateParameters.size=2",
        "validation.checks=build,tests",
        "validation.checks=coverage",
        "validation.check_timeout=2m",
        "validation.use_cache=false",
        "integration.merge.strategy=squash",
        "deployment.app=shop",
        "deployment.deploy.canary_steps=[{\"weight_percent\": 10, \"bake\": \"2s\"}]",
    ])
    .unwrap();
    let Some(Task::Scaffold(scaffold)) = &set["scaffold"].task else {
        panic!()
    };
    assert_eq!(scaffold.template, "python-http");
    assert_eq!(scaffold.template_parameters["colour"], "red=blue");
    assert_eq!(scaffold.template_parameters["size"], "2");
    let Some(Task::Validation(validation)) = &set["validation"].task else {
        panic!()
    };
    assert_eq!(validation.checks, ["build", "tests", "coverage"]);
    assert_eq!(validation.check_timeout.unwrap().seconds, 120);
    assert_eq!(validation.use_cache, Some(false));
    let Some(Task::Integration(integration)) = &set["integration"].task else {
        panic!()
    };
    let Some(integration_task::Action::Merge(merge)) = &integration.action else {
        panic!()
    };
    assert_eq!(merge.strategy(), MergeStrategy::Squash);
    let Some(Task::Deployment(deployment)) = &set["deployment"].task else {
        panic!()
    };
    assert_eq!(deployment.app, "shop");
    let Some(deployment_task::Action::Deploy(deploy)) = &deployment.action else {
        panic!()
    };
    assert_eq!(deploy.canary_steps[0].weight_percent, 10);
}

#[test]
fn the_action_of_the_pipeline_may_be_left_out() {
    let set = set(&["deployment.strategy=canary", "integration.strategy=rebase"]).unwrap();
    let Some(Task::Deployment(deployment)) = &set["deployment"].task else {
        panic!()
    };
    let Some(deployment_task::Action::Deploy(deploy)) = &deployment.action else {
        panic!()
    };
    assert_eq!(deploy.strategy(), Strategy::Canary);
}

#[test]
fn wrong_names_are_refused_with_the_nearest() {
    for (text, expected) in [
        ("scafold.template=x", "did you mean \"scaffold\"?"),
        ("scaffold.tempalte=x", "did you mean \"template\"?"),
        (
            "integration.merge.stratgey=squash",
            "did you mean \"strategy\"?",
        ),
        ("deployment.stratgey=canary", "did you mean \"strategy\"?"),
        (
            "integration.merge.strategy=sqaush",
            "did you mean \"squash\"?",
        ),
    ] {
        let error = set(&[text]).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn values_that_would_be_lost_or_do_not_fit_are_refused() {
    for text in [
        "deployment.deploy.desired_count=0",
        "scaffold.template=",
        "scaffold.template.x=y",
        "deployment.deploy=canary",
        "deployment.deploy.port=many",
        "deployment.deploy.canary_steps={",
        "validation.use_cache=perhaps",
        "integration.merge.strategy=unspecified",
        "deployment.deploy.port=99999999999",
        "scaffold.findings.0.rule=x",
    ] {
        assert!(set(&[text]).is_err(), "{text}");
    }
    for text in ["scaffold", "scaffold=x", ".template=x", "scaffold.=x", ""] {
        assert!(text.parse::<Setting>().is_err(), "{text}");
    }
}
