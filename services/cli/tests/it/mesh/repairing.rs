//! What a later stage finds goes back to the model that wrote it, over the whole mesh: until it is right,
//! and not for ever.

use std::path::Path;

use anyhow::{Context, Result};
use contracts::task::{Finding, Severity};
use serde_json::{Value, json};
use testkit::repository::Repository;

use super::cassette::{Story, TOKENS, done, write};
use super::shared::{self, workflow};
use super::{finished, is_equipped, stage};
use crate::command::Ended;
use crate::shop::{self, Limits};

/// What is asked in every story.
pub const REQUIREMENTS: &str = "Sell at the right price.";
/// Where the price is.
pub const LIBRARY: &str = "shop/__init__.py";
/// Where the program is.
pub const PROGRAM: &str = "shop/__main__.py";
/// A library whose test fails.
pub const WRONG: &str = "def price():\n    return 3\n";
/// One whose test passes.
pub const RIGHT: &str = "def price():\n    return 1 + 1\n";

const MENDED: &str = "# Mended.";

fn finding(rule: &str, message: &str) -> Vec<Finding> {
    vec![Finding {
        rule: rule.to_owned(),
        severity: Severity::Error.into(),
        message: message.to_owned(),
        ..Finding::default()
    }]
}

/// What validation says of the wrong price.
pub fn failing_test() -> Vec<Finding> {
    finding(
        "test:failed",
        "test_shop.Price.test_price test_price failed",
    )
}

fn failing_endpoint() -> Vec<Finding> {
    finding("e2e:endpoints", "GET /: answered 500 instead of 200: shop")
}

fn broken_program() -> String {
    shop::server("").replace(
        "send_response(200)",
        "send_response(200 if self.path == \"/health\" else 500)",
    )
}

/// A story about the shop of this name.
pub fn story<'a>(folder: &'a Path, name: &str) -> Result<Story<'a>> {
    let name = shop::unique(name);
    let repository = shop::repository(&name, Limits::AMPLE)?;
    Story::new(folder, &name, REQUIREMENTS, repository)
}

/// What the model does in these tests.
pub async fn record(folder: &Path) -> Result<()> {
    let mut helped = story(folder, "repair-tests")?;
    helped
        .fix(&[write(LIBRARY, WRONG), done("Set the price")])
        .await?;
    helped
        .repair(failing_test(), &[write(LIBRARY, RIGHT), done("Repair it")])
        .await?;

    let mut useless = story(folder, "repair-useless")?;
    useless
        .fix(&[write(LIBRARY, WRONG), done("Set the price")])
        .await?;
    for round in 1..=3 {
        let note = write(&format!("round-{round}.txt"), "thought about it\n");
        useless
            .repair(failing_test(), &[note, done("Think about it")])
            .await?;
    }

    let mut answers = story(folder, "repair-e2e")?;
    answers
        .fix(&[write(PROGRAM, &broken_program()), done("Serve")])
        .await?;
    answers
        .repair(
            failing_endpoint(),
            &[write(PROGRAM, &shop::server(MENDED)), done("Serve well")],
        )
        .await?;
    Ok(())
}

/// Runs what the story of this name tells.
pub async fn run(name: &str, more: &[&str]) -> Result<(Ended, Repository)> {
    let repository = shop::repository(name, Limits::AMPLE)?;
    let url = repository.url();
    let fixed = [
        "run",
        "--no-input",
        "--json",
        "--set",
        "scaffold.generator=cassette",
    ];
    let own = [
        "--requirements",
        REQUIREMENTS,
        "--repository",
        &url,
        "--name",
        name,
    ];
    let ended = shared::place()?
        .run(&[&fixed[..], &own, &["--target", "main"], more].concat())
        .await?;
    Ok((ended, repository))
}

/// Each round: which stage's findings, and how many.
pub fn rounds(events: &[Value]) -> Vec<(String, i64, i64)> {
    let asked = events.iter().filter_map(|event| {
        let repair = event.get("repairRequested")?;
        assert_eq!(repair["repairingStage"], json!("scaffold"), "{event}");
        Some((
            event["stage"].as_str()?.to_owned(),
            repair["round"].as_i64()?,
            repair["findingCount"].as_i64()?,
        ))
    });
    asked.collect()
}

#[tokio::test]
async fn failing_tests_are_repaired_by_who_wrote_the_change_and_the_work_succeeds() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("repair-tests");
    let (ended, repository) = run(name, &["--type", "bugfix"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(rounds(&ended.json()?), [("validation".to_owned(), 1, 1)]);
    let workflow = finished(&ended)?;
    assert_eq!(
        stage(&workflow, "validation")?["repairRoundCount"],
        json!(1)
    );
    assert_eq!(stage(&workflow, "scaffold")?["attemptCount"], json!(2));
    // Both drafts are on record, in the history and in what was spent.
    assert_eq!(repository.read("main", LIBRARY)?, Some(RIGHT.into()));
    let log = repository.git(&["log", "--no-merges", "--format=%s", "main"])?;
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        ["Repair it", "Set the price", "Begin"]
    );
    let usage = &workflow["outcome"]["usage"];
    assert_eq!(usage["callCount"], json!(2), "{usage}");
    let spent = |name: &str| usage[name].as_str().and_then(|count| count.parse().ok());
    let tokens: Option<i64> = spent("inputTokenCount")
        .zip(spent("outputTokenCount"))
        .map(|(a, b): (i64, i64)| a + b);
    assert_eq!(tokens, Some(2 * TOKENS), "{usage}");
    Ok(())
}

#[tokio::test]
async fn a_repair_that_never_helps_ends_after_its_last_round_and_says_so() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("repair-useless");
    let (ended, repository) = run(name, &["--type", "bugfix"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    let asked = [1, 2, 3].map(|round| ("validation".to_owned(), round, 1));
    assert_eq!(rounds(&ended.json()?), asked);
    let workflow = workflow(name).await?;
    let outcome = &workflow["outcome"];
    assert_eq!(outcome["verdict"], json!("VERDICT_FAILED"), "{outcome}");
    assert_eq!(outcome["stage"], json!("validation"), "{outcome}");
    let reason = outcome["reason"].as_str().context("no reason")?;
    for said in [
        "1 of 1 tests failed",
        "3 rounds of repair by `scaffold` did not help",
    ] {
        assert!(reason.contains(said), "{said:?} in {reason}");
    }
    for later in ["e2e", "integration", "deployment"] {
        let stage = stage(&workflow, later)?;
        assert_eq!(stage["state"], json!("STAGE_STATE_CANCELLED"), "{stage}");
        assert_eq!(stage.get("attemptCount"), None, "{stage}");
    }
    assert_eq!(repository.history("main")?.len(), 1, "main has moved");
    Ok(())
}

#[tokio::test]
async fn an_app_that_answers_wrongly_is_repaired_and_all_that_judged_it_judges_again() -> Result<()>
{
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("repair-e2e");
    let (ended, repository) = run(name, &["--type", "bugfix"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(rounds(&ended.json()?), [("e2e".to_owned(), 1, 1)]);
    let workflow = finished(&ended)?;
    for judge in ["validation", "e2e"] {
        assert_eq!(
            stage(&workflow, judge)?["attemptCount"],
            json!(2),
            "{judge}"
        );
    }
    assert_eq!(
        repository.read("main", PROGRAM)?,
        Some(shop::server(MENDED).into_bytes())
    );
    Ok(())
}
