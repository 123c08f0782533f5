//! Following a workflow: exit codes, what is shown, and watches that break.

use std::time::Duration;

use anyhow::Result;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::WorkflowState;
use contracts::task::Verdict;
use serde_json::json;
use testkit::fault_proxy::FaultProxy;
use tonic::Status;

use crate::command::{Running, run};
use crate::mesh::sequences;
use crate::scripted::{Scripted, Story, Watch};

#[tokio::test]
async fn the_exit_code_is_that_of_the_verdict() -> Result<()> {
    for (story, code) in [
        (Story::success(), 0),
        (Story::failure(Verdict::Failed), 1),
        (Story::failure(Verdict::NotProven), 3),
        (
            Story::begin().end(WorkflowState::Cancelled, Verdict::NotProven),
            1,
        ),
        (
            Story::begin().end(WorkflowState::Succeeded, Verdict::NotProven),
            3,
        ),
    ] {
        let id = story.workflow.workflow_id.clone();
        let server = Scripted::new(story).serve().await?;
        let ended = run(&server.url(), &["watch", &id]).await?;
        assert_eq!(ended.code, code, "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn json_is_every_event_and_the_workflow_last() -> Result<()> {
    let story = Story::success();
    let count = story.events.len() as i64;
    let id = story.workflow.workflow_id.clone();
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", &id, "--json"]).await?;
    let lines = ended.json()?;
    assert_eq!(sequences(&lines), (1..=count).collect::<Vec<_>>());
    let last = lines.last().unwrap();
    assert_eq!(last["workflowId"], json!(id));
    assert_eq!(last["state"], json!("WORKFLOW_STATE_SUCCEEDED"));
    assert_eq!(last["outcome"]["verdict"], json!("VERDICT_PASSED"));
    assert_eq!(lines.len() as i64, count + 1);
    Ok(())
}

#[tokio::test]
async fn a_pipe_gets_plain_lines_with_reason_finding_and_next_command() -> Result<()> {
    let story = Story::failure(Verdict::Failed);
    let id = story.workflow.workflow_id.clone();
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop"]).await?;
    assert!(!ended.out.contains('\u{1b}'), "{}", ended.out);
    for expected in [
        "validation    started",
        "validation    50 % tests",
        "FAILED  shop (change)",
        "validation: 2 of 14 tests failed",
        "shop.py:12  expected 2, got 3",
        &format!("agentic logs {id} --stage validation"),
    ] {
        assert!(ended.out.contains(expected), "{expected}: {}", ended.out);
    }
    Ok(())
}

#[tokio::test]
async fn quiet_says_nothing_of_a_success_and_the_reason_of_a_failure() -> Result<()> {
    let server = Scripted::new(Story::success()).serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--quiet"]).await?;
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (0, "", "")
    );
    let server = Scripted::new(Story::failure(Verdict::Failed))
        .serve()
        .await?;
    let ended = run(&server.url(), &["watch", "shop", "-q"]).await?;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert_eq!(ended.err, "validation: 2 of 14 tests failed\n");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_without_gap_or_repeat() -> Result<()> {
    let story = Story::success();
    let count = story.events.len() as i64;
    let scripted = Scripted::new(story);
    let draining: Status = Error::new(ErrorReason::Draining, "shutting down").into();
    scripted.script([
        Watch::Refuse(Status::unavailable("not yet")),
        Watch::BreakAfter(2, Status::unavailable("gone")),
        Watch::Refuse(draining.clone()),
        Watch::BreakAfter(0, Status::unavailable("gone")),
        Watch::BreakAfter(3, draining),
        Watch::Say(Vec::new()),
    ]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let expected: Vec<_> = (1..=count).collect();
    assert_eq!(sequences(&ended.json()?), expected);
    assert_eq!(scripted.know().watched_after, [0, 0, 2, 2, 2, 5, 5]);
    assert!(
        ended.err.contains("connection lost, trying again"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("connected again"), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() -> Result<()> {
    let begun = Story::begin().running("validation");
    let scripted = Scripted::new(begun.clone());
    let server = scripted.serve().await?;
    let proxy = FaultProxy::start(server.address()).await?;
    let url = proxy.url();
    let mut watch = Running::start(&["--orchestrator", &url, "watch", "shop", "--json"])?;
    for _ in &begun.events {
        watch.line().await?;
    }
    proxy.cut();
    scripted.watched(2).await?;
    let rest = begun.clone().end(WorkflowState::Succeeded, Verdict::Passed);
    scripted.know().workflow = rest.workflow.clone();
    scripted.append(rest.events[begun.events.len()..].iter().cloned());
    let ended = watch.end().await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let last = begun.events.len() as i64 + 1;
    assert_eq!(sequences(&ended.json()?), [last]);
    assert_eq!(scripted.know().watched_after[1], last - 1);
    Ok(())
}

#[tokio::test]
async fn a_local_mesh_that_comes_back_elsewhere_is_found_again() -> Result<()> {
    let data = tempfile::tempdir()?;
    let lock = cli::mesh::file::Lock::take(data.path())?;
    let begun = Story::begin().running("validation");
    let scripted = Scripted::new(begun.clone());
    let leave = |address: String| {
        cli::mesh::file::MeshFile {
            address,
            pid: std::process::id(),
            ..Default::default()
        }
        .write(data.path())
    };
    let first = scripted.serve().await?;
    leave(first.url())?;
    let folder = data.path().to_str().unwrap();
    let mut watch = Running::start(&["--data", folder, "watch", "shop", "--json"])?;
    for _ in &begun.events {
        watch.line().await?;
    }
    drop(first);
    let ended_story = begun.clone().end(WorkflowState::Succeeded, Verdict::Passed);
    scripted.know().workflow = ended_story.workflow.clone();
    scripted.append(ended_story.events[begun.events.len()..].iter().cloned());
    let second = scripted.serve().await?;
    leave(second.url())?;
    let ended = watch.end().await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(sequences(&ended.json()?), [begun.events.len() as i64 + 1]);
    drop(lock);
    Ok(())
}

#[tokio::test]
async fn a_mesh_that_stays_away_is_given_up_in_bounded_time() -> Result<()> {
    let story = Story::begin().running("validation");
    let id = story.workflow.workflow_id.clone();
    let scripted = Scripted::new(story);
    let server = scripted.serve().await?;
    let arguments = [
        "--orchestrator",
        &server.url(),
        "watch",
        "shop",
        "--reconnect-within",
        "300ms",
    ];
    let mut watch = Running::start(&arguments)?;
    watch.line().await?;
    scripted.watched(1).await?;
    drop(server);
    let ended = watch.end().await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.err.contains(&format!("agentic watch {id}")),
        "{}",
        ended.err
    );
    Ok(())
}

#[tokio::test]
async fn an_interrupt_leaves_the_workflow_alone_and_says_how_to_go_on() -> Result<()> {
    let story = Story::begin().running("validation");
    let id = story.workflow.workflow_id.clone();
    let scripted = Scripted::new(story);
    let server = scripted.serve().await?;
    let mut watch = Running::start(&["--orchestrator", &server.url(), "watch", "shop"])?;
    watch.line().await?;
    let pid = nix::unistd::Pid::from_raw(watch.pid()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let ended = watch.end().await?;
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(
        ended.err.contains(&format!("agentic watch {id}")),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains(&format!("agentic cancel {id}")),
        "{}",
        ended.err
    );
    assert!(scripted.know().changes.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_workflow_that_was_retried_is_followed_past_its_first_end() -> Result<()> {
    use contracts::orchestrator::WorkflowRetried;
    use contracts::orchestrator::workflow_event::Payload;
    let mut story = Story::failure(Verdict::Failed);
    story.workflow.set_state(WorkflowState::Running);
    let story = story
        .then("", Payload::Retried(WorkflowRetried::default()))
        .stage("validation", Verdict::Passed)
        .end(WorkflowState::Succeeded, Verdict::Passed);
    let count = story.events.len();
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()?.len(), count + 1);
    Ok(())
}

#[tokio::test]
async fn a_watch_may_begin_in_the_middle() -> Result<()> {
    let story = Story::success();
    let count = story.events.len() as i64;
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--json", "--after", "4"]).await?;
    assert_eq!(sequences(&ended.json()?), (5..=count).collect::<Vec<_>>());
    let all = count.to_string();
    let ended = run(&server.url(), &["watch", "shop", "--json", "--after", &all]).await?;
    assert_eq!((ended.code, ended.json()?.len()), (0, 1), "{ended:?}");
    let ended = run(&server.url(), &["watch", "shop", "--after", "999"]).await?;
    assert_eq!(ended.code, 2, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_command_quietly() -> Result<()> {
    let server = Scripted::new(Story::success()).serve().await?;
    let home = tempfile::tempdir()?;
    let mut command = crate::command::agentic(home.path());
    command.args(["--orchestrator", &server.url(), "watch", "shop", "--json"]);
    let mut child = command.spawn()?;
    drop(child.stdout.take());
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr)?, "");
    Ok(())
}
