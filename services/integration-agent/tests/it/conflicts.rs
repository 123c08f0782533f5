//! What the sides disagree about stays unmerged until a person has chosen.

use contracts::{
    integration::{
        ConflictStrategy, ConflictType, IntegrationResult, Merge, MergeStrategy, PathResolution,
        ResolveConflicts, integration_task::Action,
    },
    task::{DecisionCategory, DecisionRequest, Resolution, ResolvedDecision, Verdict},
};

use crate::{
    serving::{Project, Serving, context, report, rung, summary, verdict},
    world::World,
};

fn with_conflict(world: &World) -> Project {
    let project = Project::new(world);
    project.part(
        |here| {
            here.write(
                "values",
                "one\ntwo\nthree\nFOUR of main\nfive\nsix\nseven\n",
            );
        },
        |here| {
            here.write(
                "values",
                "one\ntwo\nthree\nFOUR of topic\nfive\nsix\nSEVEN\n",
            );
        },
    );
    project
}

fn question(result: &IntegrationResult) -> DecisionRequest {
    result
        .outcome
        .clone()
        .unwrap()
        .decision
        .expect("no decision is asked for")
}

fn approved(question: &DecisionRequest, choice: &str) -> ResolvedDecision {
    ResolvedDecision {
        decision_id: "d1".to_owned(),
        category: question.category,
        subject_digest: question.subject_digest.clone(),
        resolution: Resolution::Approve.into(),
        choice: choice.to_owned(),
        actor: "ada".to_owned(),
        ..ResolvedDecision::default()
    }
}

#[tokio::test]
async fn a_conflict_stays_unmerged_and_shows_both_sides() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = with_conflict(&world);
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven);
    assert_eq!(project.tip(), before);
    assert!(summary(&result).contains("values"), "{}", summary(&result));
    let merge = report(&result);
    assert_eq!((merge.resolved_count, merge.remaining_count), (0, 1));
    let conflict = &merge.conflicts[0];
    assert_eq!(conflict.r#type(), ConflictType::Content);
    assert!(conflict.base.as_ref().unwrap().text.contains("\nfour\n"));
    assert!(
        conflict
            .ours
            .as_ref()
            .unwrap()
            .text
            .contains("FOUR of main")
    );
    assert!(
        conflict
            .theirs
            .as_ref()
            .unwrap()
            .text
            .contains("FOUR of topic")
    );
    let question = question(&result);
    assert_eq!(question.category(), DecisionCategory::Merge);
    assert_eq!(question.choices, ["ours", "theirs"]);
    for side in ["FOUR of main", "FOUR of topic"] {
        assert!(question.detail.contains(side), "{}", question.detail);
    }
    assert!(question.subject_digest.starts_with("sha256:"));
}

#[tokio::test]
async fn a_person_s_choice_settles_exactly_what_was_shown() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = with_conflict(&world);
    let first = agent.merge(context(&project.path), Merge::default()).await;
    let question = question(&first);

    // Somebody else's change elsewhere does not touch what was decided.
    project.git(&["checkout", "-q", "main"]);
    project.write("elsewhere", "x\n");
    project.commit("Elsewhere");
    project.git(&["checkout", "-q", "--detach"]);
    let mut again = context(&project.path);
    again.task_id = "0190163d-8694-739b-aea5-966c26f8ad92".to_owned();
    again.decisions = vec![approved(&question, "theirs")];
    let result = agent.merge(again, Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(
        project.on_main("values"),
        "one\ntwo\nthree\nFOUR of topic\nfive\nsix\nSEVEN"
    );
    let conflict = &report(&result).conflicts[0];
    assert_eq!(conflict.strategy(), ConflictStrategy::Theirs);
    assert_eq!(conflict.evidence, "chosen by ada");
    assert!(conflict.resolution.contains("FOUR of topic"));
    assert_eq!(rung(&result, "hunks"), Verdict::Passed);
}

#[tokio::test]
async fn a_choice_about_something_else_settles_nothing() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = with_conflict(&world);
    let first = agent.merge(context(&project.path), Merge::default()).await;
    let question = question(&first);
    // The same lines change again on main.
    project.git(&["checkout", "-q", "main"]);
    project.write(
        "values",
        "one\ntwo\nthree\nFOUR once more\nfive\nsix\nseven\n",
    );
    project.commit("Again");
    project.git(&["checkout", "-q", "--detach"]);
    let before = project.tip();
    let mut again = context(&project.path);
    again.task_id = String::new();
    again.decisions = vec![approved(&question, "theirs")];
    let result = agent.merge(again.clone(), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven);
    assert_eq!(project.tip(), before);
    // Nor does a no.
    let fresh = self::question(&result);
    let mut no = approved(&fresh, "theirs");
    no.resolution = Resolution::Reject.into();
    again.decisions = vec![no];
    let result = agent.merge(again, Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven);
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn a_task_may_choose_a_side_and_the_rest_of_the_file_is_merged() {
    for (strategy, line) in [
        (ConflictStrategy::Ours, "FOUR of main"),
        (ConflictStrategy::Theirs, "FOUR of topic"),
    ] {
        let (world, agent) = (World::new(), Serving::start().await);
        let project = with_conflict(&world);
        let merge = Merge {
            conflict_strategy: strategy.into(),
            ..Merge::default()
        };
        let result = agent.merge(context(&project.path), merge).await;
        assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
        let expected = format!("one\ntwo\nthree\n{line}\nfive\nsix\nSEVEN");
        assert_eq!(project.on_main("values"), expected);
        assert_eq!(report(&result).resolved_count, 1);
    }
}

#[tokio::test]
async fn sides_are_chosen_path_by_path_and_all_of_them() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part(
        |here| {
            here.write("a", "of main\n");
            here.write("b", "of main\n");
        },
        |here| {
            here.write("a", "of topic\n");
            here.write("b", "of topic\n");
        },
    );
    let before = project.tip();
    let resolve = |paths: &[(&str, ConflictStrategy)]| {
        Action::ResolveConflicts(ResolveConflicts {
            merge: Some(Merge::default()),
            resolutions: paths
                .iter()
                .map(|(path, strategy)| PathResolution {
                    path: (*path).to_owned(),
                    strategy: (*strategy).into(),
                })
                .collect(),
        })
    };
    let mut context = context(&project.path);
    context.task_id = String::new();
    let one = resolve(&[("a", ConflictStrategy::Ours)]);
    let result = agent.run(context.clone(), one).await.unwrap();
    assert_eq!(verdict(&result), Verdict::NotProven);
    assert_eq!(
        (
            report(&result).resolved_count,
            report(&result).remaining_count
        ),
        (1, 1)
    );
    assert_eq!(project.tip(), before);

    let both = resolve(&[
        ("a", ConflictStrategy::Ours),
        ("b", ConflictStrategy::Theirs),
    ]);
    let result = agent.run(context, both).await.unwrap();
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.on_main("a"), "of main");
    assert_eq!(project.on_main("b"), "of topic");
}

#[tokio::test]
async fn a_rebase_that_conflicts_half_way_leaves_nothing_behind() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part(
        |here| {
            here.write(
                "values",
                "one\ntwo\nthree\nFOUR of main\nfive\nsix\nseven\n",
            );
        },
        |here| here.write("fine", "fine\n"),
    );
    project.git(&["checkout", "-q", "topic"]);
    project.write(
        "values",
        "one\ntwo\nthree\nFOUR of topic\nfive\nsix\nseven\n",
    );
    project.commit("Conflicting");
    project.git(&["checkout", "-q", "--detach"]);
    let before = project.tip();
    let merge = Merge {
        strategy: MergeStrategy::Rebase.into(),
        ..Merge::default()
    };
    let result = agent.merge(context(&project.path), merge).await;
    assert_eq!(verdict(&result), Verdict::NotProven);
    assert_eq!(report(&result).remaining_count, 1);
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn a_file_added_to_a_folder_that_moved_is_a_conflict() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    for name in ["a", "b", "c"] {
        project.write(&format!("old/{name}"), &format!("{name}\n").repeat(10));
    }
    project.commit("A folder");
    project.part(
        |here| {
            here.git(&["mv", "old", "new"]);
        },
        |here| here.write("old/added", "added\n"),
    );
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven, "{}", summary(&result));
    assert_eq!(report(&result).conflicts[0].r#type(), ConflictType::Rename);
    assert_eq!(project.tip(), before);
    assert!(question(&result).detail.contains("old/added"));
}

#[tokio::test]
async fn attributes_are_honoured_and_an_unknown_driver_is_a_decision() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.write(
        ".gitattributes",
        "log merge=union\nlock merge=special\n*.bin -merge\n",
    );
    project.write("log", "a\n");
    project.write("lock", "a\n1\n2\n3\n4\nb\n");
    project.commit("Attributes");
    project.part(
        |here| here.write("log", "a\nof main\n"),
        |here| here.write("log", "a\nof topic\n"),
    );
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.on_main("log"), "a\nof main\nof topic");

    project.git(&["branch", "-D", "topic"]);
    project.git(&["checkout", "-q", "main"]);
    project.part(
        |here| here.write("lock", "A\n1\n2\n3\n4\nb\n"),
        |here| here.write("lock", "a\n1\n2\n3\n4\nB\n"),
    );
    let before = project.tip();
    let mut context = context(&project.path);
    context.task_id = String::new();
    let result = agent.merge(context, Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven, "{}", summary(&result));
    let conflict = &report(&result).conflicts[0];
    assert_eq!(conflict.r#type(), ConflictType::Driver);
    assert!(
        conflict.evidence.contains("special"),
        "{}",
        conflict.evidence
    );
    assert_eq!(project.tip(), before);
}
