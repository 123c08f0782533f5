//! Clean merges by every strategy, over gRPC.

use contracts::{
    integration::{Merge, MergeStrategy},
    task::Verdict,
};

use crate::{
    serving::{Project, Serving, TASK, context, report, rung, summary, verdict},
    world::World,
};

const MERGED: &str = "ONE\ntwo\nthree\nfour\nfive\nsix\nSEVEN";

fn by(strategy: MergeStrategy) -> Merge {
    Merge {
        strategy: strategy.into(),
        ..Merge::default()
    }
}

#[tokio::test]
async fn a_merge_has_two_parents_and_tells_its_task() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let (before, topic) = (project.tip(), project.git(&["rev-parse", "topic"]));
    let result = agent.merge(context(&project.path), Merge::default()).await;

    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.on_main("values"), MERGED);
    let parents = project.git(&["show", "-s", "--format=%P", "main"]);
    assert_eq!(parents, format!("{before} {topic}"));
    let message = project.git(&["show", "-s", "--format=%B", "main"]);
    assert!(
        message.starts_with("Merge topic into main\n\nAdd a basket\n\n"),
        "{message}"
    );
    assert!(
        message.contains(&format!("Agentic-Task: {TASK}")),
        "{message}"
    );
    let merge = report(&result);
    assert_eq!(merge.merge_commit, project.tip());
    assert_eq!(merge.target_before, before);
    assert_eq!(merge.changed_files, ["values"]);
    assert_eq!(merge.rollback, format!("git revert -m 1 {}", project.tip()));
    for name in ["markers", "regions", "checks", "publish"] {
        assert_eq!(rung(&result, name), Verdict::Passed, "{name}");
    }
    // Of a merge that git calls clean this is evidence, and nobody looked.
    assert_eq!(rung(&result, "hunks"), Verdict::NotProven);
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.merged_commit, project.tip());
    assert_eq!(outcome.repository.unwrap().head_commit, project.tip());
    assert_eq!(outcome.artifacts[0].name, "merge.diff");
    let sides: Vec<_> = result.checks.iter().map(|run| run.side.as_str()).collect();
    assert_eq!(sides, ["target", "source"]);
    assert_eq!(result.checks[0].passed_count, 1);
}

#[tokio::test]
async fn a_squash_is_one_commit_by_the_change_s_author() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let before = project.tip();
    let result = agent
        .merge(context(&project.path), by(MergeStrategy::Squash))
        .await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.on_main("values"), MERGED);
    assert_eq!(project.git(&["show", "-s", "--format=%P", "main"]), before);
    let people = project.git(&["show", "-s", "--format=%an/%cn", "main"]);
    assert_eq!(people, "T/Agentic");
}

#[tokio::test]
async fn a_rebase_carries_each_commit_over() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    project.git(&["checkout", "-q", "topic"]);
    project.write("more", "more\n");
    project.commit("Second on topic");
    project.git(&["checkout", "-q", "--detach"]);
    let before = project.tip();
    let result = agent
        .merge(context(&project.path), by(MergeStrategy::Rebase))
        .await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.on_main("values"), MERGED);
    let subjects = project.git(&[
        "log",
        "--reverse",
        "--format=%s",
        &format!("{before}..main"),
    ]);
    assert_eq!(subjects, "Change on topic\nSecond on topic");
    assert_eq!(
        project.git(&["rev-list", "--count", "--merges", "main"]),
        "0"
    );
}

#[tokio::test]
async fn a_fast_forward_moves_the_branch_and_refuses_anything_else() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let before = project.tip();
    let apart = agent
        .merge(context(&project.path), by(MergeStrategy::FastForward))
        .await;
    assert_eq!(verdict(&apart), Verdict::Failed);
    assert!(
        summary(&apart).contains("does not contain main"),
        "{}",
        summary(&apart)
    );
    assert_eq!(project.tip(), before);

    project.git(&["checkout", "-q", "-b", "ahead", "main"]);
    project.write("new", "x\n");
    let ahead = project.commit("Ahead").to_string();
    project.git(&["checkout", "-q", "--detach"]);
    let mut context = context(&project.path);
    context.repository.as_mut().unwrap().branch = "ahead".to_owned();
    context.task_id = String::new();
    let result = agent.merge(context, by(MergeStrategy::FastForward)).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.tip(), ahead);
}

#[tokio::test]
async fn doing_it_twice_is_doing_it_once() {
    for strategy in [
        MergeStrategy::Merge,
        MergeStrategy::Squash,
        MergeStrategy::Rebase,
        MergeStrategy::FastForward,
    ] {
        let world = World::new();
        let project = Project::new(&world);
        project.part_cleanly();
        if strategy == MergeStrategy::FastForward {
            project.git(&["branch", "-f", "main", "main~1"]);
        }
        let first = Serving::start().await;
        let one = first.merge(context(&project.path), by(strategy)).await;
        assert_eq!(verdict(&one), Verdict::Passed, "{}", summary(&one));
        let tip = project.tip();
        // Another agent, which knows nothing of the first, after somebody else's commit.
        project.git(&["checkout", "-q", "main"]);
        project.write("later", "x\n");
        project.commit("Later");
        project.git(&["checkout", "-q", "--detach"]);
        let later = project.tip();
        let second = Serving::start().await;
        let two = second.merge(context(&project.path), by(strategy)).await;
        assert_eq!(
            verdict(&two),
            Verdict::Passed,
            "{strategy:?}: {}",
            summary(&two)
        );
        assert!(report(&two).already_contained, "{strategy:?}");
        assert_eq!(project.tip(), later, "{strategy:?}");
        if strategy != MergeStrategy::FastForward {
            assert_eq!(report(&two).merge_commit, tip, "{strategy:?}");
        }
    }
}

#[tokio::test]
async fn nothing_to_merge_is_already_contained() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.git(&["branch", "topic"]);
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed);
    assert!(report(&result).already_contained);
    assert_eq!(project.tip(), before);
    let repository = result.outcome.unwrap().repository.unwrap();
    assert_eq!(repository.head_commit, before);
}

#[tokio::test]
async fn a_default_branch_without_a_commit_begins_with_the_change() {
    let (world, agent) = (World::new(), Serving::start().await);
    let path = world.path("new.git");
    agent_runtime::repository::create_bare(&path, "main")
        .await
        .unwrap();
    let project = Project::new(&world);
    project.git(&["push", "-q", path.to_str().unwrap(), "main:topic"]);
    let result = agent.merge(context(&path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(
        crate::world::git(&path, &["rev-parse", "main"]),
        project.tip()
    );
}
