//! What was merged is taken back by one more commit, over gRPC.

use contracts::{
    error_reason::ErrorReason,
    integration::{IntegrationResult, Merge, MergeStrategy, Revert, integration_task::Action},
    orchestrator::{StageResult, stage_result},
    task::{AgentType, StageInput, TaskContext, Verdict},
};

use crate::{
    serving::{Project, Serving, context, report, rung, summary, verdict},
    world::{World, try_git},
};

const UNDO: &str = "0190163d-8694-739b-aea5-966c26f8ad99";

/// What a workflow says when the stage that gave `merged` is undone.
fn undo_of(project: &Project, merged: &IntegrationResult) -> TaskContext {
    let result = StageResult {
        result: Some(stage_result::Result::Integration(merged.clone())),
    };
    TaskContext {
        task_id: UNDO.to_owned(),
        stage: "integration".to_owned(),
        inputs: vec![StageInput {
            stage: "integration".to_owned(),
            agent_type: AgentType::Integration.into(),
            outcome: result.outcome().cloned(),
            result: result.to_any(),
        }],
        ..context(&project.path)
    }
}

fn context_of(project: &Project) -> TaskContext {
    context(&project.path)
}

async fn undo(agent: &Serving, project: &Project, merged: &IntegrationResult) -> IntegrationResult {
    let action = Action::Revert(Revert::default());
    agent.run(undo_of(project, merged), action).await.unwrap()
}

async fn merge_by(
    agent: &Serving,
    project: &Project,
    strategy: MergeStrategy,
) -> IntegrationResult {
    let merge = Merge {
        strategy: strategy.into(),
        ..Merge::default()
    };
    let merged = agent.merge(context(&project.path), merge).await;
    assert_eq!(verdict(&merged), Verdict::Passed, "{}", summary(&merged));
    merged
}

fn later(project: &Project, path: &str, content: &str) {
    project.git(&["checkout", "-q", "main"]);
    project.write(path, content);
    project.commit("Later");
    project.git(&["checkout", "-q", "--detach"]);
}

#[tokio::test]
async fn what_was_merged_by_any_strategy_is_taken_back_by_one_commit() {
    for strategy in [
        MergeStrategy::Merge,
        MergeStrategy::Squash,
        MergeStrategy::Rebase,
        MergeStrategy::FastForward,
    ] {
        let (world, agent) = (World::new(), Serving::start().await);
        let project = Project::new(&world);
        project.part_cleanly();
        project.git(&["checkout", "-q", "topic"]);
        project.write("second", "x\n");
        project.commit("Second");
        project.git(&["checkout", "-q", "--detach"]);
        if strategy == MergeStrategy::FastForward {
            project.git(&["branch", "-f", "main", "main~1"]);
        }
        let tree = project.git(&["rev-parse", "main^{tree}"]);
        let merged = merge_by(&agent, &project, strategy).await;
        let tip = project.tip();
        let undone = undo(&agent, &project, &merged).await;
        assert_eq!(
            verdict(&undone),
            Verdict::Passed,
            "{strategy:?}: {}",
            summary(&undone)
        );
        assert_eq!(
            project.git(&["rev-parse", "main^{tree}"]),
            tree,
            "{strategy:?}"
        );
        assert_eq!(
            project.git(&["rev-parse", "main^"]),
            tip,
            "history stays: {strategy:?}"
        );
        let told = report(&undone);
        assert_eq!(told.strategy(), MergeStrategy::Revert);
        assert_eq!(told.merge_commit, project.tip());
        assert_eq!((&told.target_before, &told.source_commit), (&tip, &tip));
        assert_eq!(told.rollback, format!("git revert {}", project.tip()));
        for name in ["markers", "regions", "checks", "publish"] {
            assert_eq!(rung(&undone, name), Verdict::Passed, "{strategy:?}: {name}");
        }
        let message = project.git(&["show", "-s", "--format=%B", "main"]);
        assert!(message.starts_with("Revert \""), "{message}");
        assert!(
            message.contains(&format!("This reverts commit {tip}")),
            "{message}"
        );
        assert!(
            message.contains(&format!("Agentic-Task: {UNDO}")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_revert_is_what_git_would_make_of_it() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let merged = merge_by(&agent, &project, MergeStrategy::Merge).await;
    later(&project, "later", "x\n");
    project.git(&["branch", "ours", "main"]);
    let undone = undo(&agent, &project, &merged).await;
    assert_eq!(verdict(&undone), Verdict::Passed, "{}", summary(&undone));
    project.git(&["checkout", "-q", "ours"]);
    project.git(&[
        "revert",
        "--no-edit",
        "-m",
        "1",
        &report(&merged).merge_commit,
    ]);
    assert_eq!(
        project.git(&["rev-parse", "main^{tree}"]),
        project.git(&["rev-parse", "ours^{tree}"])
    );
    assert_eq!(project.on_main("later"), "x");
    // It is no state that was there before, so its checks ran.
    assert_eq!(undone.checks[0].passed_count, 1);
}

#[tokio::test]
async fn taking_back_twice_is_taking_back_once() {
    let world = World::new();
    let project = Project::new(&world);
    project.part_cleanly();
    let first = Serving::start().await;
    let merged = merge_by(&first, &project, MergeStrategy::Merge).await;
    let one = undo(&first, &project, &merged).await;
    later(&project, "later", "x\n");
    let tip = project.tip();
    // Another agent, which knows nothing of the first.
    let second = Serving::start().await;
    let two = undo(&second, &project, &merged).await;
    assert_eq!(verdict(&two), Verdict::Passed, "{}", summary(&two));
    assert_eq!(report(&two).merge_commit, report(&one).merge_commit);
    assert!(report(&two).already_contained);
    assert!(summary(&two).contains("already"), "{}", summary(&two));
    assert_eq!(project.tip(), tip);
}

#[tokio::test]
async fn what_a_person_took_back_is_not_taken_back_again() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let merged = merge_by(&agent, &project, MergeStrategy::Merge).await;
    project.git(&["checkout", "-q", "main"]);
    project.git(&["revert", "--no-edit", "-m", "1", "main"]);
    project.git(&["checkout", "-q", "--detach"]);
    let tip = project.tip();
    let undone = undo(&agent, &project, &merged).await;
    assert_eq!(verdict(&undone), Verdict::Passed);
    assert!(report(&undone).already_contained);
    assert!(
        summary(&undone).contains("nothing to take back"),
        "{}",
        summary(&undone)
    );
    assert_eq!(project.tip(), tip);
}

#[tokio::test]
async fn what_others_built_upon_is_not_taken_back_over_their_heads() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let merged = merge_by(&agent, &project, MergeStrategy::Merge).await;
    later(
        &project,
        "values",
        "ONE\ntwo\nthree\nfour\nfive\nsix\nSEVEN!\n",
    );
    let tip = project.tip();
    let undone = undo(&agent, &project, &merged).await;
    assert_eq!(verdict(&undone), Verdict::NotProven, "{}", summary(&undone));
    assert!(summary(&undone).contains("values"), "{}", summary(&undone));
    assert_eq!(report(&undone).remaining_count, 1);
    let question = undone.outcome.as_ref().unwrap().decision.as_ref().unwrap();
    for side in ["SEVEN!", "seven"] {
        assert!(
            question.detail.contains(side),
            "{side}: {}",
            question.detail
        );
    }
    assert_eq!(project.tip(), tip);
}

#[tokio::test]
async fn a_revert_that_breaks_what_came_later_is_not_published() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.write_check(
        "[ -e needs ] && { grep -q SEVEN values || { echo '1 failed in 0.1s'; exit 1; }; }\n",
    );
    project.commit("A check");
    project.part_cleanly();
    let merged = merge_by(&agent, &project, MergeStrategy::Merge).await;
    later(&project, "needs", "the change\n");
    let tip = project.tip();
    let undone = undo(&agent, &project, &merged).await;
    assert_eq!(verdict(&undone), Verdict::Failed, "{}", summary(&undone));
    assert_eq!(rung(&undone, "checks"), Verdict::Failed);
    assert!(
        undone.checks[0].reason.contains("passes on main alone"),
        "{:?}",
        undone.checks
    );
    assert_eq!(project.tip(), tip);
}

#[tokio::test]
async fn a_stage_that_merged_nothing_has_nothing_to_be_taken_back() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.git(&["branch", "topic"]);
    later(&project, "later", "x\n");
    let tip = project.tip();
    let merged = merge_by(&agent, &project, MergeStrategy::Merge).await;
    let undone = undo(&agent, &project, &merged).await;
    assert_eq!(verdict(&undone), Verdict::Passed, "{}", summary(&undone));
    // A branch that was just moved does not tell by whom.
    // Other tasks: by the same name they would be the first ones, whose results may be kept still.
    let merge = Merge {
        strategy: MergeStrategy::FastForward.into(),
        ..Merge::default()
    };
    let mut context = context_of(&project);
    context.task_id = "another-merge".to_owned();
    let merged = agent.merge(context, merge).await;
    let mut context = undo_of(&project, &merged);
    context.task_id = "another-undo".to_owned();
    let action = Action::Revert(Revert::default());
    let undone = agent.run(context, action).await.unwrap();
    assert_eq!(verdict(&undone), Verdict::NotProven, "{}", summary(&undone));
    assert_eq!(project.tip(), tip);
}

#[tokio::test]
async fn what_was_taken_back_is_merged_again_by_the_next_task() {
    for strategy in [
        MergeStrategy::Merge,
        MergeStrategy::Squash,
        MergeStrategy::Rebase,
    ] {
        let (world, agent) = (World::new(), Serving::start().await);
        let project = Project::new(&world);
        project.part_cleanly();
        let merge = Merge {
            strategy: strategy.into(),
            ..Merge::default()
        };
        let before = project.git(&["rev-parse", "main^{tree}"]);
        let mut merged = merge_by(&agent, &project, strategy).await;
        let with_the_change = project.git(&["rev-parse", "main^{tree}"]);
        // Over and over, as somebody would who tries again after each failure.
        for round in 0..3 {
            let mut context = undo_of(&project, &merged);
            context.task_id = format!("undo-{round}");
            let action = Action::Revert(Revert::default());
            let undone = agent.run(context, action).await.unwrap();
            assert_eq!(verdict(&undone), Verdict::Passed, "{}", summary(&undone));
            assert_eq!(
                project.git(&["rev-parse", "main^{tree}"]),
                before,
                "{strategy:?}"
            );
            let mut context = context_of(&project);
            context.task_id = format!("merge-{round}");
            merged = agent.merge(context.clone(), merge.clone()).await;
            assert_eq!(verdict(&merged), Verdict::Passed, "{}", summary(&merged));
            assert!(!report(&merged).already_contained, "{strategy:?}");
            let tip = project.tip();
            assert_eq!(report(&merged).merge_commit, tip, "{strategy:?}");
            let tree = project.git(&["rev-parse", "main^{tree}"]);
            assert_eq!(tree, with_the_change, "{strategy:?} {round}");
            let again = agent.merge(context, merge.clone()).await;
            assert_eq!(report(&again).merge_commit, tip, "twice is once");
            assert_eq!(project.tip(), tip);
        }
        // And what the source got since then comes with it.
        undo(&agent, &project, &merged).await;
        project.git(&["checkout", "-q", "topic"]);
        project.write("second", "x\n");
        project.commit("Second");
        project.git(&["checkout", "-q", "--detach"]);
        let mut context = context_of(&project);
        context.task_id = "merge-more".to_owned();
        let merged = agent.merge(context, merge).await;
        assert_eq!(verdict(&merged), Verdict::Passed, "{}", summary(&merged));
        assert!(project.on_main("values").ends_with("SEVEN"), "{strategy:?}");
        assert_eq!(project.on_main("second"), "x", "{strategy:?}");
    }
}

#[tokio::test]
async fn a_commit_is_taken_back_without_a_workflow() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    later(&project, "values", "wrong\n");
    let wrong = project.tip();
    let revert = Revert {
        commit: wrong.clone(),
        reason: "It was wrong".to_owned(),
        ..Revert::default()
    };
    let action = Action::Revert(revert);
    let undone = agent.run(context(&project.path), action).await.unwrap();
    assert_eq!(verdict(&undone), Verdict::Passed, "{}", summary(&undone));
    assert!(project.on_main("values").starts_with("one"));
    let message = project.git(&["show", "-s", "--format=%B", "main"]);
    assert!(message.contains("It was wrong"), "{message}");
    // The first commit has nothing before it.
    let root = project.git(&["rev-list", "--max-parents=0", "main"]);
    let action = Action::Revert(Revert {
        commit: root,
        ..Revert::default()
    });
    let tip = project.tip();
    let undone = agent.run(context(&project.path), action).await.unwrap();
    assert_eq!(verdict(&undone), Verdict::NotProven, "{}", summary(&undone));
    assert_eq!(project.tip(), tip);
    assert!(
        try_git(&project.path, &["fsck", "--strict"])
            .status
            .success()
    );
}

#[tokio::test]
async fn a_revert_of_nothing_known_is_refused_by_field() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    let action = Action::Revert(Revert {
        reason: "r".repeat(1001),
        target: "refs/tags/v1".to_owned(),
        ..Revert::default()
    });
    let error = agent.run(context(&project.path), action).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::InvalidField);
    let fields: Vec<_> = error
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    for field in ["commit", "reason", "target"] {
        let field = format!("task.revert.{field}");
        assert!(
            fields.contains(&field.as_str()),
            "{field} is missing in {fields:?}"
        );
    }
    let action = Action::Revert(Revert {
        commit: "main".to_owned(),
        ..Revert::default()
    });
    let context = TaskContext {
        task_id: UNDO.to_owned(),
        ..context(&project.path)
    };
    let error = agent.run(context, action).await.unwrap_err();
    assert_eq!(error.fields[0].0, "task.revert.commit");
}
