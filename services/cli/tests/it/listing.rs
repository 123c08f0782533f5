//! Looking and changing: list, show, events, logs, agents, pipelines, cancel and their like.

use anyhow::Result;
use contracts::task::Verdict;
use serde_json::json;

use crate::command::run;
use crate::scripted::{Scripted, Story};

#[tokio::test]
async fn lists_are_tables_for_people_and_lines_for_programs() -> Result<()> {
    let scripted = Scripted::new(Story::failure(Verdict::NotProven));
    let id = scripted.know().workflow.workflow_id.clone();
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["list"]).await?;
    assert!(ended.out.starts_with("ID "), "{}", ended.out);
    assert!(ended.out.contains("not proven"), "{}", ended.out);
    let ended = run(&server.url(), &["ls", "--json"]).await?;
    assert_eq!(ended.json()?[0]["workflowId"], json!(id));
    let ended = run(&server.url(), &["agents", "--json"]).await?;
    assert_eq!(ended.json()?[0]["instanceId"], json!("instance-1"));
    Ok(())
}

#[tokio::test]
async fn events_are_read_over_all_pages() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let count = scripted.know().events.len();
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["events", "shop"]).await?;
    assert_eq!(ended.out.lines().count(), count, "{}", ended.out);
    let ended = run(&server.url(), &["events", "shop", "--json", "--limit", "4"]).await?;
    assert_eq!(ended.json()?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_workflow_is_shown_with_its_stages_and_each_stage_with_its_result() -> Result<()> {
    let server = Scripted::new(Story::failure(Verdict::Failed))
        .serve()
        .await?;
    let ended = run(&server.url(), &["show", "shop"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("FAILED  shop"), "{}", ended.out);
    let ended = run(&server.url(), &["show", "shop", "--stage", "validation"]).await?;
    assert!(ended.out.contains("shop.py:12"), "{}", ended.out);
    let ended = run(&server.url(), &["show", "shop", "--stage", "validaton"]).await?;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("did you mean \"validation\"?"),
        "{}",
        ended.err
    );
    Ok(())
}

#[tokio::test]
async fn logs_are_lines_without_their_escape_sequences() -> Result<()> {
    let server = Scripted::new(Story::success()).serve().await?;
    let ended = run(&server.url(), &["logs", "shop", "--stage", "validation"]).await?;
    assert_eq!(ended.out, "collected 14 items\n[31mFAILED[0m shop.py\n");
    Ok(())
}

#[tokio::test]
async fn changes_are_sent_to_the_workflow_that_is_meant() -> Result<()> {
    let scripted = Scripted::new(Story::begin());
    let server = scripted.serve().await?;
    for arguments in [
        vec!["cancel", "shop", "--reason", "wrong branch"],
        vec!["pause", "shop"],
        vec!["resume", "shop", "--budget-cost", "2.5"],
        vec!["retry", "shop", "--from", "validation"],
        vec!["agents", "drain", "instance-1"],
    ] {
        let ended = run(&server.url(), &arguments).await?;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(
        scripted.know().changes,
        [
            "cancel wrong branch",
            "pause",
            "resume 2500000",
            "retry validation",
            "drain instance-1"
        ]
    );
    let ended = run(&server.url(), &["cancel", "shpo"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("agentic list"), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn pipelines_are_created_from_yaml_shown_and_deleted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nightly.yaml");
    std::fs::write(
        &file,
        "name: nightly\nstages: [{name: checks, task: {validation: {}}}]\n",
    )?;
    let file = file.to_str().unwrap();
    let scripted = Scripted::new(Story::begin());
    let server = scripted.serve().await?;
    let ended = run(
        &server.url(),
        &["pipelines", "create", file, "--validate-only"],
    )
    .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(scripted.know().pipelines.len(), 2);
    run(&server.url(), &["pipelines", "create", file]).await?;
    let ended = run(&server.url(), &["pipelines"]).await?;
    assert!(ended.out.contains("nightly"), "{}", ended.out);
    let ended = run(&server.url(), &["pipelines", "show", "nightly", "--json"]).await?;
    assert_eq!(ended.json()?[0]["stages"][0]["name"], json!("checks"));
    let ended = run(&server.url(), &["pipelines", "delete", "nightly"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = run(&server.url(), &["pipelines", "show", "nightly"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    std::fs::write(file, "name: nightly\nstags: []\n")?;
    let ended = run(&server.url(), &["pipelines", "create", file]).await?;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("did you mean \"stages\"?"),
        "{}",
        ended.err
    );
    Ok(())
}
