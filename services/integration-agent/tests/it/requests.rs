//! What is asked wrongly is refused with all its faults, and what is not there is named.

use contracts::{
    error_reason::ErrorReason,
    integration::{
        ConflictStrategy, Merge, PathResolution, ResolveConflicts, UpdateDependencies,
        integration_task::Action,
    },
    task::{Repository, TaskContext},
};

use crate::{
    serving::{Project, Serving, context},
    world::World,
};

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let agent = Serving::start().await;
    let merge = Merge {
        target: "refs/tags/v1".to_owned(),
        strategy: 99,
        check_timeout: Some(contracts::wire_time::wire_duration(
            std::time::Duration::ZERO,
        )),
        ..Merge::default()
    };
    let error = agent
        .run(TaskContext::default(), Action::Merge(merge))
        .await
        .unwrap_err();
    assert_eq!(error.reason, ErrorReason::InvalidField);
    let fields: Vec<_> = error
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    for field in [
        "task.merge.source",
        "task.merge.target",
        "task.merge.strategy",
        "task.merge.check_timeout",
        "context.repository.url",
    ] {
        assert!(fields.contains(&field), "{field} is missing in {fields:?}");
    }
}

#[tokio::test]
async fn choices_must_name_a_side_and_a_path_inside() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    let resolve = ResolveConflicts {
        merge: None,
        resolutions: vec![
            PathResolution {
                path: "../outside".to_owned(),
                strategy: ConflictStrategy::Ours.into(),
            },
            PathResolution {
                path: "inside".to_owned(),
                strategy: ConflictStrategy::Model.into(),
            },
        ],
    };
    let action = Action::ResolveConflicts(resolve);
    let error = agent.run(context(&project.path), action).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::InvalidField);
    assert_eq!(error.fields.len(), 2, "{:?}", error.fields);
}

#[tokio::test]
async fn what_is_not_available_is_refused_and_not_replaced() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let before = project.tip();
    let mut actions: Vec<_> = [ConflictStrategy::Structural, ConflictStrategy::Model]
        .into_iter()
        .map(|strategy| {
            Action::Merge(Merge {
                conflict_strategy: strategy.into(),
                ..Merge::default()
            })
        })
        .collect();
    actions.push(Action::UpdateDependencies(UpdateDependencies::default()));
    for action in actions {
        let mut context = context(&project.path);
        context.task_id = String::new();
        let error = agent.run(context, action).await.unwrap_err();
        assert_eq!(error.reason, ErrorReason::CapabilityMissing, "{error:?}");
    }
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let path = project.path.to_str().unwrap();
    let nowhere = world.path("nowhere");
    for (url, branch, target, reason, named) in [
        (
            nowhere.to_str().unwrap(),
            "topic",
            "main",
            ErrorReason::RepositoryNotFound,
            "nowhere",
        ),
        (
            path,
            "no-topic",
            "main",
            ErrorReason::RefNotFound,
            "no-topic",
        ),
        (
            path,
            "topic",
            "no-main",
            ErrorReason::RefNotFound,
            "no-main",
        ),
        (
            "ext::sh -c true",
            "topic",
            "main",
            ErrorReason::InvalidField,
            "repository.url",
        ),
    ] {
        let context = TaskContext {
            repository: Some(Repository {
                url: url.to_owned(),
                branch: branch.to_owned(),
                target_branch: target.to_owned(),
                ..Repository::default()
            }),
            ..TaskContext::default()
        };
        let error = agent
            .run(context, Action::Merge(Merge::default()))
            .await
            .unwrap_err();
        assert_eq!(error.reason, reason, "{error:?}");
        assert!(error.message.contains(named), "{error:?}");
    }
}
