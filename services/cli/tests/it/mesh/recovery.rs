//! `kill -9` of the whole mesh in the middle of each stage: started again, the workflow finishes,
//! its log has no gap, and nothing outside happened twice.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Place, finished, get, git, is_equipped, sequences};
use crate::command::Running;

async fn survives_in(stage: &str) -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let data = place.data();
    let data = data.to_str().context("path")?;
    // The watch is of before the kill, and goes on over it.
    let mut run = Running::start(&[
        "--data",
        data,
        "run",
        "--type",
        "app",
        "--template",
        "python-http",
        "--name",
        "shop",
        "--json",
    ])?;
    let mut before = Vec::new();
    loop {
        let line: serde_json::Value = serde_json::from_str(&run.line().await?)?;
        let started = line["stage"] == json!(stage) && line.get("stageStarted").is_some();
        before.push(line);
        if started {
            break;
        }
    }
    mesh.kill().await?;
    let mesh = place.start().await?;
    let ended = run.end().await?;
    assert_eq!(ended.code, 0, "{ended:?}");

    let workflow = finished(&ended)?;
    let count = workflow["lastSequence"]
        .as_str()
        .context("no sequence")?
        .parse()?;
    before.extend(ended.json()?);
    assert_eq!(sequences(&before), (1..=count).collect::<Vec<i64>>());

    let outcome = &workflow["outcome"];
    let repository = workflow["repository"]["url"]
        .as_str()
        .context("no repository")?;
    let tip = git(repository.as_ref(), &["rev-parse", "refs/heads/main"])?;
    assert_eq!(outcome["mergedCommit"], json!(tip));
    let merges = git(
        repository.as_ref(),
        &[
            "rev-list",
            "--count",
            "--first-parent",
            &format!("{}..main", base(&workflow)),
        ],
    )?;
    assert_eq!(merges, "1", "merged once");
    let branches = git(repository.as_ref(), &["branch", "--list", "agentic/*"])?;
    assert_eq!(branches.lines().count(), 1, "{branches}");
    let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
    let (status, _) = get(&format!("{endpoint}/health")).await?;
    assert_eq!(status, 200);
    mesh.stop().await
}

fn base(workflow: &serde_json::Value) -> String {
    workflow["repository"]["baseCommit"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn a_kill_while_scaffolding_is_survived() -> Result<()> {
    survives_in("scaffold").await
}

#[tokio::test]
async fn a_kill_while_validating_is_survived() -> Result<()> {
    survives_in("validation").await
}

#[tokio::test]
async fn a_kill_while_testing_is_survived() -> Result<()> {
    survives_in("e2e").await
}

#[tokio::test]
async fn a_kill_while_merging_is_survived() -> Result<()> {
    survives_in("integration").await
}

#[tokio::test]
async fn a_kill_while_deploying_is_survived() -> Result<()> {
    survives_in("deployment").await
}
