//! The mesh as a process: ready, refused twice, in the background, stopped, misconfigured.

use anyhow::Result;
use serde_json::json;

use super::Place;
use crate::command::{Running, end};

#[tokio::test]
async fn a_mesh_is_ready_with_all_agents_refuses_a_second_and_stops_clean() -> Result<()> {
    let place = Place::new()?;
    let mesh = place.start().await?;
    let agents = mesh.ready["agents"].as_array().unwrap();
    let types: Vec<_> = agents
        .iter()
        .map(|agent| agent["agentType"].clone())
        .collect();
    assert_eq!(
        types,
        ["scaffold", "validation", "e2e", "integration", "deployment"].map(|name| json!(name))
    );
    let ended = place.run(&["agents", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .json()?
            .iter()
            .all(|agent| agent["state"] == json!("AGENT_STATE_READY")),
        "{}",
        ended.out
    );
    let (status, _) = super::get(&format!(
        "{}/health/ready",
        mesh.ready["http"].as_str().unwrap()
    ))
    .await?;
    assert_eq!(status, 200);

    let second = end(place.up(&[])).await?;
    assert_eq!(second.code, 1, "{second:?}");
    let address = mesh.ready["address"].as_str().unwrap();
    assert!(second.err.contains(address), "{}", second.err);
    assert!(place.data().join("mesh.json").exists());

    mesh.stop().await?;
    assert!(!place.data().join("mesh.json").exists());
    let ended = place.run(&["list"]).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(!place.data().join("postgres/data/postmaster.pid").exists());
    Ok(())
}

#[tokio::test]
async fn a_mesh_in_the_background_outlives_its_starter_and_is_taken_down() -> Result<()> {
    let place = Place::new()?;
    let ended = end(place.up(&["--detach", "--json"])).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ready = &ended.json()?[0];
    let ended = place.run(&["doctor", "--json"]).await?;
    let facts = ended.json()?;
    let mesh = facts
        .iter()
        .find(|fact| fact["name"] == json!("mesh"))
        .unwrap();
    assert_eq!(mesh["found"], json!(true), "{mesh}");
    let again = end(place.up(&["--detach"])).await?;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(
        again.err.contains(ready["address"].as_str().unwrap()),
        "{}",
        again.err
    );

    let ended = place.run(&["down"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = place.run(&["down"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("no mesh runs"), "{}", ended.err);
    let pid = i32::try_from(ready["pid"].as_i64().unwrap())?;
    // Its lock went with it; gone for others it is when whoever adopted it has reaped it.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return Ok(());
        }
        assert!(std::time::Instant::now() < until, "{state}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mesh_that_cannot_start_says_why_and_leaves_nothing_behind() -> Result<()> {
    let place = Place::new()?;
    for (arguments, code, expected) in [
        (vec!["--artifacts", "ftp://x"], 64, "--artifacts"),
        (
            vec!["--template", "no-such-template"],
            64,
            "no-such-template",
        ),
        (
            vec!["--postgres-binaries", "/no/such/folder"],
            1,
            "/no/such/folder",
        ),
        (
            vec!["--database-url", "postgres://nobody@127.0.0.1:1/none"],
            1,
            "database",
        ),
        (vec!["--slots", "0"], 2, "--slots"),
        (
            vec!["--detach", "--template", "no-such-template"],
            64,
            "no-such-template",
        ),
    ] {
        let ended = end(place.up(&arguments)).await?;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(expected), "{arguments:?}: {}", ended.err);
        assert!(!place.data().join("mesh.json").exists());
    }
    place.start().await?.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_watch() -> Result<()> {
    let place = Place::new()?;
    let mesh = place.start().await?;
    let ended = place.run(&["run", "--name", "shop", "--detach"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = place.run(&["pause", "shop"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let data = place.data();
    let mut watch = Running::start(&[
        "--data",
        data.to_str().unwrap(),
        "watch",
        "shop",
        "--reconnect-within",
        "1s",
    ])?;
    watch.line().await?;
    let begun = std::time::Instant::now();
    mesh.stop().await?;
    // Less than the grace that calls are given.
    assert!(begun.elapsed() < std::time::Duration::from_secs(9));
    let ended = watch.end().await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    Ok(())
}
