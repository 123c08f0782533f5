//! Decisions and clarifications: who is asked, what is printed for scripts, what is sent.

use anyhow::Result;
use contracts::id::{ClarificationId, DecisionId};
use contracts::orchestrator::{Clarification, Decision, WorkflowState};
use contracts::task::{DecisionRequest, Resolution, Verdict};
use serde_json::json;

use crate::command::{Running, run};
use crate::scripted::{Scripted, Story, resolved};

fn waiting() -> (Scripted, String) {
    let id = DecisionId::new().to_string();
    let story = Story::waiting(&id);
    let decision = Decision {
        decision_id: id.clone(),
        workflow_id: story.workflow.workflow_id.clone(),
        stage: "integration".into(),
        request: Some(DecisionRequest {
            question: "Merge without proof?".into(),
            subject_digest: "sha256:abc".into(),
            ..DecisionRequest::default()
        }),
        ..Decision::default()
    };
    let scripted = Scripted::new(story);
    scripted.know().decisions.push(decision);
    (scripted, id)
}

#[tokio::test]
async fn without_input_a_waiting_workflow_ends_the_command_with_10() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--no-input"]).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("Merge without proof?"), "{}", ended.err);
    for verb in ["approve", "reject"] {
        let command = format!("agentic {verb} {id} --digest sha256:abc");
        assert!(ended.err.contains(&command), "{}", ended.err);
    }
    assert!(scripted.know().resolutions.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_decision_that_was_made_long_ago_stops_nobody() -> Result<()> {
    let mut story = Story::waiting("d1");
    story.workflow.set_state(WorkflowState::Running);
    let story = story
        .then("integration", resolved("d1", Resolution::Approve))
        .stage("integration", Verdict::Passed)
        .end(WorkflowState::Succeeded, Verdict::Passed);
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--no-input"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_state_that_comes_before_its_question_does_not_end_the_watch() -> Result<()> {
    let (scripted, id) = waiting();
    // The end of a stage and the question after it are one commit: both carry its state.
    let waits = scripted.know().workflow.state;
    for event in &mut scripted.know().events {
        event.state = waits;
    }
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--no-input"]).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(
        ended.err.contains(&format!("agentic approve {id}")),
        "{}",
        ended.err
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_that_begins_after_the_question_knows_it_all_the_same() -> Result<()> {
    let (scripted, id) = waiting();
    let last = scripted.know().events.len().to_string();
    let server = scripted.serve().await?;
    let arguments = ["watch", "shop", "--no-input", "--after", &last];
    let ended = run(&server.url(), &arguments).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(
        ended.err.contains(&format!("agentic approve {id}")),
        "{}",
        ended.err
    );
    Ok(())
}

#[tokio::test]
async fn a_paused_workflow_waits_for_a_person_too() -> Result<()> {
    use contracts::orchestrator::WorkflowPaused;
    use contracts::orchestrator::workflow_event::Payload;
    let mut story = Story::begin();
    story.workflow.set_state(WorkflowState::Paused);
    let story = story.then("", Payload::Paused(WorkflowPaused::default()));
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--no-input"]).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("agentic resume "), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn in_a_pipe_the_commands_are_printed_and_the_watch_goes_on() -> Result<()> {
    let (scripted, id) = waiting();
    let count = scripted.know().events.len();
    let server = scripted.serve().await?;
    let url = server.url();
    let mut watch = Running::start(&["--orchestrator", &url, "watch", "shop", "--json"])?;
    for _ in 0..count {
        watch.line().await?;
    }
    let ended = run(
        &url,
        &["approve", &id, "--digest", "sha256:abc", "--as", "ada"],
    )
    .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let rest = {
        let mut knowledge = scripted.know();
        let mut story = Story {
            workflow: knowledge.workflow.clone(),
            events: knowledge.events.clone(),
        };
        story.workflow.set_state(WorkflowState::Running);
        let story = story
            .then("integration", resolved(&id, Resolution::Approve))
            .end(WorkflowState::Succeeded, Verdict::Passed);
        knowledge.workflow = story.workflow;
        story.events[count..].to_vec()
    };
    scripted.append(rest);
    let ended = watch.end().await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.err.contains(&format!("agentic approve {id}")),
        "{}",
        ended.err
    );
    let sent = scripted.know().resolutions[0].clone();
    assert_eq!(sent.resolution(), Resolution::Approve);
    assert_eq!(sent.subject_digest, "sha256:abc");
    assert_eq!(sent.actor, "ada");
    Ok(())
}

#[tokio::test]
async fn an_answer_to_something_else_is_not_sent() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["approve", &id, "--digest", "sha256:old"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.err.contains("not what you were shown"),
        "{}",
        ended.err
    );
    assert!(scripted.know().resolutions.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_only_open_decision_may_be_named_by_its_workflow() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let workflow = scripted.know().workflow.workflow_id.clone();
    let ended = run(
        &server.url(),
        &["revise", &workflow, "--reason", "keep both"],
    )
    .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = run(&server.url(), &["reject", "shop", "-m", "no"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let sent = scripted.know().resolutions.clone();
    assert_eq!(sent[0].resolution(), Resolution::Revise);
    assert_eq!(sent[0].rationale, "keep both");
    assert_eq!(sent[1].resolution(), Resolution::Reject);
    assert!(
        sent.iter()
            .all(|one| one.decision_id == id && one.actor == "tester")
    );
    let another = Decision {
        decision_id: DecisionId::new().to_string(),
        ..scripted.know().decisions[0].clone()
    };
    scripted.know().decisions.push(another);
    let ended = run(&server.url(), &["approve", "shop"]).await?;
    assert_eq!(ended.code, 2, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn what_waits_for_a_person_is_listed_and_answered() -> Result<()> {
    let (scripted, id) = waiting();
    let question = ClarificationId::new().to_string();
    scripted.know().clarifications.push(Clarification {
        clarification_id: question.clone(),
        question: "Which currency?".into(),
        ..Clarification::default()
    });
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["decisions"]).await?;
    for expected in [&id, &question, "Merge without proof?", "Which currency?"] {
        assert!(ended.out.contains(expected), "{expected}: {}", ended.out);
    }
    let ended = run(&server.url(), &["decisions", "--json"]).await?;
    assert_eq!(ended.json()?[0]["decisionId"], json!(id));
    let ended = run(&server.url(), &["decisions", "show", &id]).await?;
    assert!(ended.out.contains("sha256:abc"), "{}", ended.out);
    let ended = run(&server.url(), &["answer", &question, "euros"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = run(&server.url(), &["answer", "shop", "dollars"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let asked = scripted.know().clarifications[0].clone();
    assert_eq!(
        (asked.answer.as_str(), asked.actor.as_str()),
        ("dollars", "tester")
    );
    Ok(())
}
