//! The mesh where callers need a credential: its own people find theirs, others are made and ended.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Place, finished, is_equipped};
use crate::command::run;

#[tokio::test]
async fn a_restricted_mesh_works_for_its_own_and_for_those_it_gave_a_token_and_tells_who_did_what()
-> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place
        .start_as(place.up(&["--json", "--access", "restricted"]))
        .await?;
    for name in ["admin.token", "agent.token"] {
        let mode = std::fs::metadata(place.data().join(name))?
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let url = mesh.ready["address"].as_str().context("no address")?;
    let stranger = run(url, &["list"]).await?;
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(stranger.err.contains("no credential"), "{}", stranger.err);

    let ada = place.data().join("ada.token");
    let ada = ada.to_str().context("path")?;
    let create = [
        "token", "create", "ada", "--role", "operator", "--output", ada,
    ];
    let made = place.run(&create).await?;
    assert_eq!(made.code, 0, "{made:?}");
    let secret = std::fs::read_to_string(ada)?;
    assert!(!made.err.contains(secret.trim()) && !made.out.contains(secret.trim()));
    let again = place.run(&create).await?;
    assert_eq!(again.code, 1, "a secret is never overwritten: {again:?}");

    // The agents have a token of their own: all five stages run.
    let work = [
        "--token-file",
        ada,
        "run",
        "--type",
        "app",
        "--template",
        "python-http",
        "--name",
        "shop",
        "--no-input",
        "--json",
    ];
    let ended = place.run(&work).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let workflow = finished(&ended)?;
    let refused = place.run(&["--token-file", ada, "token", "list"]).await?;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("ada may not call"), "{}", refused.err);

    let listed = place.run(&["token", "list", "--json"]).await?.json()?;
    let token = listed.iter().find(|token| token["name"] == json!("ada"));
    let id = token.context("no token of ada")?["tokenId"].clone();
    let revoked = place
        .run(&["token", "revoke", id.as_str().context("id")?])
        .await?;
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let ended = place.run(&["--token-file", ada, "list"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");

    let exported = place.run(&["audit", "export"]).await?;
    assert_eq!(exported.code, 0, "{exported:?}");
    let entries = exported.json()?;
    let did = |actor: &str, method: &str, outcome: &str| {
        let method = format!("agentic.orchestrator.v1.{method}");
        entries.iter().find(|entry| {
            entry["actor"] == json!(actor)
                && entry["method"] == json!(method)
                && entry["outcome"] == json!(outcome)
        })
    };
    let submitted = did("ada", "WorkflowService/CreateWorkflow", "OK").context("submitted")?;
    let subject = format!(
        "workflow/{}",
        workflow["workflowId"].as_str().context("id")?
    );
    assert_eq!(submitted["subject"], json!(subject));
    assert!(did("administrator", "TokenService/CreateToken", "OK").is_some());
    assert!(did("administrator", "TokenService/RevokeToken", "OK").is_some());
    assert!(did("ada", "TokenService/ListTokens", "PERMISSION_DENIED").is_some());
    let verified = place.run(&["audit", "verify"]).await?;
    assert_eq!(verified.code, 0, "{verified:?}");

    let file = place.data().join("audit.jsonl");
    let forged = exported
        .out
        .replacen("\"actor\":\"ada\"", "\"actor\":\"eve\"", 1);
    std::fs::write(&file, forged)?;
    let path = file.to_str().context("path")?;
    let found = place.run(&["audit", "verify", path]).await?;
    assert_eq!(found.code, 1, "{found:?}");
    let named = format!(
        "entry {} was changed",
        submitted["sequence"].as_str().context("no")?
    );
    assert!(found.err.contains(&named), "{} {named}", found.err);
    mesh.stop().await
}
