//! `run`: what is sent, what is refused before anything is sent, and detached work.

use anyhow::Result;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{CreateWorkflowRequest, WorkflowType, stage_task::Task};
use serde_json::json;
use tonic::Status;

use crate::command::run;
use crate::scripted::{Scripted, Story};

#[tokio::test]
async fn work_is_submitted_and_followed() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let server = scripted.serve().await?;
    let ended = run(
        &server.url(),
        &[
            "run",
            "--type",
            "app",
            "--template",
            "python-http",
            "--name",
            "shop",
            "--set",
            "validation.checks=build,tests",
            "--label",
            "team=web",
        ],
    )
    .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let sent = scripted.know().created[0].clone();
    assert_eq!(sent.r#type(), WorkflowType::App);
    let Some(Task::Scaffold(task)) = &sent.parameters["scaffold"].task else {
        panic!()
    };
    assert_eq!(task.template, "python-http");
    let Some(Task::Validation(task)) = &sent.parameters["validation"].task else {
        panic!()
    };
    assert_eq!(task.checks, ["build", "tests"]);
    assert_eq!(sent.labels["team"], "web");
    assert!(ended.out.contains("SUCCEEDED  shop"), "{}", ended.out);
    Ok(())
}

#[tokio::test]
async fn all_calls_of_a_command_are_one_trace() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let server = scripted.serve().await?;
    run(&server.url(), &["run", "--name", "shop"]).await?;
    let parents = scripted.know().traceparents.clone();
    assert_eq!(parents.len(), 2);
    let traces: Vec<_> = parents
        .iter()
        .map(|parent| contracts::trace::trace_id(parent))
        .collect();
    assert_eq!(traces[0].len(), 32, "{parents:?}");
    assert_eq!(traces[0], traces[1]);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_request_id() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let away = || Status::unavailable("gone");
    scripted.know().refusals.extend([away(), away()]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["run", "--name", "shop", "--detach"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ids: Vec<_> = scripted
        .know()
        .created
        .iter()
        .map(|c| c.request_id.clone())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids.iter().all(|id| *id == ids[0] && !id.is_empty()),
        "{ids:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mesh_that_is_away_for_longer_is_waited_for_and_that_is_said_once() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let away = || Status::unavailable("no orchestrator is ready");
    // Twice as many as one call is tried.
    scripted.know().refusals.extend((0..10).map(|_| away()));
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["run", "--name", "shop", "--detach"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.err.matches("--reconnect-within").count(), 1);
    let created = scripted.know().created.clone();
    let same = |request: &CreateWorkflowRequest| request.request_id == created[0].request_id;
    assert!(created.len() == 11 && created.iter().all(same));

    scripted.know().refusals.extend((0..100).map(|_| away()));
    let short = ["run", "--name", "shop", "-d", "--reconnect-within", "100ms"];
    let ended = run(&server.url(), &short).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.err.contains("no orchestrator is ready"),
        "{}",
        ended.err
    );
    Ok(())
}

#[tokio::test]
async fn detached_work_prints_its_id_and_nothing_else() -> Result<()> {
    let story = Story::success();
    let id = story.workflow.workflow_id.clone();
    let scripted = Scripted::new(story);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["run", "--name", "shop", "--detach"]).await?;
    assert_eq!(ended.out, format!("{id}\n"));
    assert!(scripted.know().watched_after.is_empty());
    let ended = run(&server.url(), &["run", "--name", "shop", "-d", "--json"]).await?;
    assert_eq!(ended.json()?[0]["workflowId"], json!(id));
    Ok(())
}

#[tokio::test]
async fn a_plan_is_shown_and_nothing_followed() -> Result<()> {
    let scripted = Scripted::new(Story::begin());
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["run", "--name", "shop", "--validate-only"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains("would follow pipeline change version 1"),
        "{}",
        ended.out
    );
    assert!(scripted.know().created[0].validate_only);
    assert!(scripted.know().watched_after.is_empty());
    Ok(())
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_is_created() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let server = scripted.serve().await?;
    for (set, expected) in [
        ("scafold.template=x", "did you mean \"scaffold\"?"),
        ("scaffold.tempalte=x", "did you mean \"template\"?"),
        ("validation.use_cache=perhaps", "perhaps"),
    ] {
        let ended = run(&server.url(), &["run", "--name", "shop", "--set", set]).await?;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
    assert!(scripted.know().created.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_pipeline_of_ones_own_is_sent_inline() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nightly.yaml");
    std::fs::write(
        &file,
        "name: nightly\nstages: [{name: checks, task: {validation: {}}, timeout: 5m}]\n",
    )?;
    let scripted = Scripted::new(Story::success());
    let server = scripted.serve().await?;
    let given = format!("@{}", file.display());
    let arguments = [
        "run",
        "--type",
        "custom",
        "--pipeline",
        &given,
        "--repository",
        "https://example.org/a",
        "--set",
        "checks.checks=tests",
        "--detach",
    ];
    let ended = run(&server.url(), &arguments).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let sent = scripted.know().created[0].clone();
    assert_eq!(
        sent.pipeline.unwrap().stages[0].timeout.unwrap().seconds,
        300
    );
    assert!(sent.parameters.contains_key("checks"));
    Ok(())
}

#[tokio::test]
async fn a_refusal_of_the_mesh_names_the_fields_and_is_wrong_usage() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let refusal = Error::invalid_fields(vec![
        ("name".into(), "is no app's name".into()),
        ("labels".into(), "has 65 entries, at most 64".into()),
    ]);
    scripted.know().refusals.push_back(refusal.into());
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["run", "--name", "Shop!"]).await?;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("name: is no app's name"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("labels: has 65 entries"),
        "{}",
        ended.err
    );
    let reused = Error::new(
        ErrorReason::RequestIdReused,
        "used before with other content",
    );
    scripted.know().refusals.push_back(reused.into());
    let ended = run(&server.url(), &["run", "--name", "a", "--request-id", "r"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_relative_repository_is_sent_as_an_absolute_path() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("shop"))?;
    let scripted = Scripted::new(Story::success());
    let server = scripted.serve().await?;
    let mut command = crate::command::agentic(folder.path());
    command
        .current_dir(folder.path())
        .args(["--orchestrator", &server.url(), "run", "--detach"])
        .args(["--repository", "shop", "--source", "topic"]);
    let ended = crate::command::end(command).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let sent = scripted.know().created[0].clone();
    let expected = folder.path().canonicalize()?.join("shop");
    assert_eq!(sent.repository.unwrap().url, expected.to_str().unwrap());
    assert_eq!(sent.name, "shop: topic");
    Ok(())
}
