//! Work that waits for a person over the whole mesh: for answers, for a larger budget, and for a word
//! about a repair that touches its own judge. What was done meanwhile is kept.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::cassette::{TOKENS, done, write};
use super::repairing::{LIBRARY, RIGHT, WRONG, failing_test, run, story};
use super::shared::{self, workflow};
use super::{finished, is_equipped, stage};
use crate::command::Ended;
use crate::shop;

const TESTS: &str = "test_shop.py";
const WEAKENED: &str = "\
import unittest


class Price(unittest.TestCase):
    def test_price(self):
        pass
";
const QUESTIONS: [(&str, &str, &str); 2] = [
    ("Which price?", "number", "2"),
    ("Is that with taxes?", "yes_no", "yes"),
];
// What the first answer of a model costs, in millionths of a dollar, and less than that.
const COST: u64 = 7;
const TOO_LITTLE: &str = "0.000005";

fn asks((question, kind, _): (&str, &str, &str)) -> (&'static str, serde_json::Value) {
    let input = json!({"question": question, "kind": kind, "choices": []});
    ("ask", input)
}

/// What the model does in these tests.
pub async fn record(folder: &Path) -> Result<()> {
    let mut asking = story(folder, "wait-answer")?;
    for question in QUESTIONS {
        asking.fix(&[asks(question)]).await?;
        asking.answer(question.0, question.2);
    }
    asking
        .fix(&[write(LIBRARY, RIGHT), done("Set the price")])
        .await?;

    let mut dear = story(folder, "wait-budget")?.costing(COST);
    dear.fix(&[write(LIBRARY, RIGHT)]).await?;
    dear.fix(&[done("Set the price")]).await?;

    let mut sly = story(folder, "wait-judge")?;
    sly.fix(&[write(LIBRARY, WRONG), done("Set the price")])
        .await?;
    sly.repair(failing_test(), &[write(TESTS, WEAKENED), done("Repair it")])
        .await
}

// The word after these in what the command said.
fn word_after<'a>(ended: &'a Ended, words: &str) -> Result<&'a str> {
    let rest = ended.err.split(words).nth(1);
    rest.and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("{words:?} in {ended:?}"))
}

#[tokio::test]
async fn a_model_asks_twice_and_goes_on_with_the_answers() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("wait-answer");
    let place = shared::place()?;
    let (mut ended, repository) = run(name, &["--type", "bugfix"]).await?;
    let mut asked = Vec::new();
    for (question, _, answer) in QUESTIONS {
        assert_eq!(ended.code, 10, "{ended:?}");
        assert!(ended.err.contains(question), "{}", ended.err);
        let id = word_after(&ended, "agentic answer ")?.to_owned();
        // What is no answer to this question leaves it open.
        let wrong = place.run(&["answer", &id, "perhaps"]).await?;
        assert_eq!(wrong.code, 2, "{wrong:?}");
        let given = place.run(&["answer", &id, answer]).await?;
        assert_eq!(given.code, 0, "{given:?}");
        let again = place.run(&["answer", &id, answer]).await?;
        assert_eq!(again.code, 1, "answered twice: {again:?}");
        asked.push(id);
        ended = place.run(&["watch", name, "--no-input", "--json"]).await?;
    }
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_ne!(asked[0], asked[1]);
    assert_eq!(repository.read("main", LIBRARY)?, Some(RIGHT.into()));
    let workflow = finished(&ended)?;
    let scaffold = stage(&workflow, "scaffold")?;
    assert_eq!(scaffold["attemptCount"], json!(3), "{scaffold}");
    assert_eq!(scaffold.get("failedCount"), None, "{scaffold}");
    Ok(())
}

#[tokio::test]
async fn a_spent_budget_waits_for_a_larger_one_and_what_was_written_is_kept() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("wait-budget");
    let place = shared::place()?;
    let more = ["--type", "bugfix", "--budget-cost", TOO_LITTLE];
    let (ended, repository) = run(name, &more).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("awaiting budget"), "{}", ended.err);
    let proposed = word_after(&ended, "--budget-cost ")?.to_owned();
    let waiting = workflow(name).await?;
    assert_eq!(waiting["state"], json!("WORKFLOW_STATE_AWAITING_BUDGET"));
    assert_eq!(waiting["usage"]["costMicros"], json!(COST.to_string()));

    // No larger one, and one that is spent already.
    for (budget, code) in [(&[][..], 1), (&["--budget-cost", "0.000006"], 2)] {
        let refused = place.run(&[&["resume", name], budget].concat()).await?;
        assert_eq!(refused.code, code, "{refused:?}");
    }
    assert_eq!(proposed, "0.00001");
    let resume = ["resume", name, "--budget-cost", &proposed];
    let watch = ["--watch", "--no-input", "--json"];
    let ended = place.run(&[&resume[..], &watch].concat()).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(repository.read("main", LIBRARY)?, Some(RIGHT.into()));
    let usage = &finished(&ended)?["outcome"]["usage"];
    assert_eq!(usage["callCount"], json!(2), "{usage}");
    assert_eq!(usage["costMicros"], json!((2 * COST).to_string()));
    let tokens = usage["inputTokenCount"].as_str().context("no tokens")?;
    assert_eq!(tokens.parse::<i64>()? + 20, 2 * TOKENS, "{usage}");
    Ok(())
}

#[tokio::test]
async fn a_repair_that_weakens_a_test_needs_a_person_and_the_word_is_bound_to_what_was_shown()
-> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("wait-judge");
    let place = shared::place()?;
    let (ended, repository) = run(name, &["--type", "bugfix"]).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("asserts less"), "{}", ended.err);
    let id = word_after(&ended, "agentic approve ")?.to_owned();
    let digest = word_after(&ended, "--digest ")?.to_owned();
    let other = format!("sha256:{}", "0".repeat(64));
    assert_ne!(digest, other);
    let refused = place.run(&["approve", &id, "--digest", &other]).await?;
    assert_eq!(refused.code, 1, "{refused:?}");
    let reject = [
        "reject",
        &id,
        "--digest",
        &digest,
        "--reason",
        "mend the price",
    ];
    let rejected = place.run(&reject).await?;
    assert_eq!(rejected.code, 0, "{rejected:?}");
    let approve = ["approve", &id, "--digest", &digest];
    let late = place.run(&approve).await?;
    assert_eq!(late.code, 1, "it is decided: {late:?}");

    let ended = place.run(&["watch", name, "--no-input", "--json"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    let outcome = &finished(&ended)?["outcome"];
    assert_eq!(outcome["stage"], json!("validation"), "{outcome}");
    let reason = outcome["reason"].as_str().context("no reason")?;
    for said in ["1 of 1 tests failed", "round 1 of repair", "rejected by"] {
        assert!(reason.contains(said), "{said:?} in {reason}");
    }
    assert_eq!(repository.history("main")?.len(), 1, "main has moved");
    Ok(())
}
