//! A merge that git calls clean must still prove itself.

use std::time::Duration;

use contracts::{
    error_reason::ErrorReason,
    integration::{Merge, RunIntegrationTests, integration_task::Action},
    task::{Repository, Resolution, ResolvedDecision, StageInput, Verdict, task_event},
    wire_time,
};

use crate::{
    serving::{Project, Serving, TASK, context, rung, summary, verdict},
    world::World,
};

/// Fits each side alone, and not both.
fn semantic_conflict(world: &World) -> Project {
    let project = Project::new(world);
    project.write_check("[ -e left ] && [ -e right ] && { echo '1 failed in 0.1s'; exit 1; }\n");
    project.commit("A check of both");
    project.part(
        |here| here.write("left", "x\n"),
        |here| here.write("right", "x\n"),
    );
    project
}

#[tokio::test]
async fn a_clean_merge_whose_tests_fail_stays_unmerged() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = semantic_conflict(&world);
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
    assert_eq!(rung(&result, "checks"), Verdict::Failed);
    assert_eq!(project.tip(), before);
    let question = result.outcome.unwrap().decision.unwrap();
    assert_eq!(question.choices, ["as-it-is"]);
    for shown in ["+++ b/right", "1 failed in 0.1s"] {
        assert!(question.detail.contains(shown), "{}", question.detail);
    }

    let mut waived = context(&project.path);
    waived.task_id = String::new();
    waived.decisions = vec![ResolvedDecision {
        category: question.category,
        subject_digest: question.subject_digest,
        resolution: Resolution::Approve.into(),
        choice: "as-it-is".to_owned(),
        actor: "ada".to_owned(),
        ..ResolvedDecision::default()
    }];
    let result = agent.merge(waived, Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert!(
        summary(&result).contains("waived by ada"),
        "{}",
        summary(&result)
    );
    assert_eq!(rung(&result, "checks"), Verdict::Failed);
    assert_ne!(project.tip(), before);
}

#[tokio::test]
async fn a_failure_that_the_target_has_already_is_told_from_one_that_the_merge_brings() {
    for (broken_before, note) in [
        (true, "it fails on main alone too"),
        (false, "it passes on main alone"),
    ] {
        let (world, agent) = (World::new(), Serving::start().await);
        let project = if broken_before {
            let project = Project::new(&world);
            project.write("values", "broken\n");
            project.commit("Break it");
            project.part(
                |here| here.write("left", "x\n"),
                |here| here.write("right", "x\n"),
            );
            project
        } else {
            semantic_conflict(&world)
        };
        let result = agent.merge(context(&project.path), Merge::default()).await;
        assert_eq!(verdict(&result), Verdict::Failed);
        assert!(summary(&result).contains(note), "{}", summary(&result));
    }
}

#[tokio::test]
async fn tests_that_do_not_end_are_stopped_and_fail() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.write_check("sleep 1000\n");
    project.commit("Endless");
    project.part_cleanly();
    let before = project.tip();
    let merge = Merge {
        check_timeout: Some(wire_time::wire_duration(Duration::from_millis(300))),
        ..Merge::default()
    };
    let result = agent.merge(context(&project.path), merge).await;
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
    assert!(
        summary(&result).contains("stopped after its limit"),
        "{}",
        summary(&result)
    );
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn what_nobody_tests_is_not_proven() {
    for script in [
        "echo '0 passed in 0.1s'; exit 0\n",
        "echo done; exit 0\n",
        "exec /no/such/program\n",
    ] {
        let (world, agent) = (World::new(), Serving::start().await);
        let project = Project::new(&world);
        project.write_check(script);
        project.commit("No tests");
        project.part_cleanly();
        let before = project.tip();
        let result = agent.merge(context(&project.path), Merge::default()).await;
        assert_ne!(verdict(&result), Verdict::Passed, "{script}");
        assert_eq!(project.tip(), before);
    }
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.git(&["rm", "-q", "-r", ".agentic", "check"]);
    project.commit("No checks at all");
    project.part_cleanly();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven, "{}", summary(&result));
    // Unless the task does without.
    let mut context = context(&project.path);
    context.task_id = String::new();
    let merge = Merge {
        run_checks: Some(false),
        ..Merge::default()
    };
    let result = agent.merge(context, merge).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(rung(&result, "checks"), Verdict::NotProven);
}

#[tokio::test]
async fn a_missing_tool_is_not_proven() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.write(
        ".agentic/project.yaml",
        "version: 1\nchecks:\n  tests: {command: [no-such-tool-anywhere]}\n",
    );
    project.commit("A tool that nobody has");
    project.part_cleanly();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven, "{}", summary(&result));
    assert!(
        summary(&result).contains("not installed"),
        "{}",
        summary(&result)
    );
}

#[tokio::test]
async fn a_change_cannot_replace_the_checks_that_judge_it() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = semantic_conflict(&world);
    project.git(&["checkout", "-q", "topic"]);
    project.write(
        ".agentic/project.yaml",
        "version: 1\nchecks:\n  tests: {command: [echo, 1 passed in 0.1s]}\n",
    );
    project.commit("A kinder judge");
    project.git(&["checkout", "-q", "--detach"]);
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
}

#[tokio::test]
async fn structured_files_must_load_after_a_clean_merge() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    let json = |top: &str, bottom: &str| {
        format!(
            "{{\n{top}  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n  \"d\": 4,\n{bottom}  \"e\": 5\n}}\n"
        )
    };
    project.write("data.json", &json("", ""));
    project.commit("Data");
    project.part(
        |here| here.write("data.json", &json("  \"new\": 1,\n", "")),
        |here| here.write("data.json", &json("", "  \"new\": 2,\n")),
    );
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
    assert_eq!(rung(&result, "markers"), Verdict::Failed);
    assert!(summary(&result).contains("twice"), "{}", summary(&result));
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn what_validation_saw_is_not_run_again() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.git(&["checkout", "-q", "-b", "topic"]);
    project.write("values", "only topic\n");
    let head = project.commit("Change on topic").to_string();
    project.git(&["checkout", "-q", "--detach"]);
    let base = project.tip();
    let mut seen = context(&project.path);
    let mut outcome = contracts::task::Outcome {
        repository: Some(Repository {
            base_commit: base,
            head_commit: head,
            ..Repository::default()
        }),
        ..contracts::task::Outcome::default()
    };
    for (task_id, judged) in [
        ("0190163d-8694-739b-aea5-966c26f8ad93", Verdict::NotProven),
        ("0190163d-8694-739b-aea5-966c26f8ad94", Verdict::Passed),
    ] {
        let target = project.tip();
        outcome.verdict = judged.into();
        seen.task_id = task_id.to_owned();
        seen.inputs = vec![StageInput {
            stage: "validation".to_owned(),
            agent_type: contracts::task::AgentType::Validation.into(),
            outcome: Some(outcome.clone()),
            result: None,
        }];
        let result = agent.merge(seen.clone(), Merge::default()).await;
        assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
        assert_eq!(result.checks.is_empty(), judged == Verdict::Passed);
        project.git(&["branch", "-f", "main", &target]);
    }
}

#[tokio::test]
async fn checks_can_be_run_alone() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.git(&["branch", "topic"]);
    let run = |revision: &str| {
        Action::RunIntegrationTests(RunIntegrationTests {
            revision: revision.to_owned(),
        })
    };
    let mut context = context(&project.path);
    context.task_id = String::new();
    let result = agent.run(context.clone(), run("")).await.unwrap();
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(result.checks[0].passed_count, 1);
    project.write("values", "broken\n");
    project.commit("Break it");
    let result = agent.run(context.clone(), run("main")).await.unwrap();
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
    project.write(".agentic/project.yaml", "version: 1\nchekcs: {}\n");
    project.commit("Misspelt");
    let error = agent.run(context, run("main")).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::ProjectInvalid);
    assert!(error.message.contains("checks"), "{}", error.message);
}

#[tokio::test]
async fn cancelling_ends_the_checks_and_merges_nothing() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    let pid = world.path("pid");
    project.write_check(&format!(
        "echo $$ > {}; echo running; sleep 1000\n",
        pid.display()
    ));
    project.commit("Endless");
    project.part_cleanly();
    let before = project.tip();
    let (tell, running) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let work = agent.watch(
        context(&project.path),
        Action::Merge(Merge::default()),
        |event| {
            if let Some(task_event::Payload::Log(log)) = &event.payload
                && log.text == "running"
                && let Some(tell) = tell.take()
            {
                tell.send(()).unwrap();
            }
        },
    );
    let cancel = async {
        running.await.unwrap();
        assert!(agent.cancel(TASK).await, "it did not stop");
    };
    let (result, ()) = tokio::join!(work, cancel);
    assert_eq!(result.unwrap_err().reason, ErrorReason::Cancelled);
    assert_eq!(project.tip(), before);
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}
