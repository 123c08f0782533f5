//! Every kind of failure ends truthfully on a real mesh: the verdict, the reason, the exit code, and
//! a target branch that nothing has moved.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::repository::{Commit, Repository};

use crate::command::{Ended, end};
use crate::mesh::shared::{self, workflow};
use crate::mesh::{get, is_equipped, stage};
use crate::processes;
use crate::shop::{self, Limits};

/// How work is expected to end.
struct Expected<'a> {
    code: i32,
    stage: &'a str,
    verdict: &'a str,
    /// What the reason says, among other things.
    reason: &'a [&'a str],
}

// Follows the work as somebody would who may not be asked.
async fn run(name: &str, arguments: &[&str]) -> Result<Ended> {
    let fixed = ["run", "--no-input", "--name", name];
    shared::place()?
        .run(&[&fixed[..], arguments].concat())
        .await
}

async fn change(name: &str, url: &str, source: &str) -> Result<Ended> {
    let arguments = [
        "--type",
        "change",
        "--repository",
        url,
        "--source",
        source,
        "--target",
        "main",
    ];
    run(name, &arguments).await
}

// What the person was shown, what every other client gets, and that nothing came after the failure.
async fn assert_ended(name: &str, ended: &Ended, expected: &Expected<'_>) -> Result<Value> {
    assert_eq!(ended.code, expected.code, "{ended:?}");
    let workflow = workflow(name).await?;
    let outcome = &workflow["outcome"];
    assert_eq!(outcome["stage"], json!(expected.stage), "{outcome}");
    let verdict = format!("VERDICT_{}", expected.verdict);
    assert_eq!(outcome["verdict"], json!(verdict), "{outcome}");
    assert_eq!(workflow["state"], json!("WORKFLOW_STATE_FAILED"));
    let reason = outcome["reason"].as_str().context("no reason")?;
    for words in expected.reason {
        assert!(reason.contains(words), "{words:?} in {reason:?}");
        assert!(ended.out.contains(words), "{words:?} in {}", ended.out);
    }
    let headline = format!("{}  {name}", expected.verdict.replace('_', " "));
    assert!(ended.out.contains(&headline), "{}", ended.out);
    let stages = workflow["stages"].as_array().context("no stages")?;
    let at = stages
        .iter()
        .position(|stage| stage["name"] == json!(expected.stage))
        .context("no such stage")?;
    for (index, stage) in stages.iter().enumerate() {
        let wanted = match index.cmp(&at) {
            std::cmp::Ordering::Less => "STAGE_STATE_SUCCEEDED",
            std::cmp::Ordering::Equal => "STAGE_STATE_FAILED",
            std::cmp::Ordering::Greater => "STAGE_STATE_CANCELLED",
        };
        assert_eq!(stage["state"], json!(wanted), "{stage}");
    }
    Ok(workflow)
}

// The change fails where it is expected to, `main` stays, and none of its processes does.
async fn fails(
    name: &str,
    limits: Limits,
    changed: impl FnOnce(Commit) -> Commit,
    expected: Expected<'_>,
) -> Result<Option<Value>> {
    if !is_equipped() {
        return Ok(None);
    }
    let name = &shop::unique(name);
    let mut repository = shop::repository(name, limits)?;
    repository.commit(changed(Commit::on("change").from("main")))?;
    let before = repository.history("main")?;
    let ended = change(name, &repository.url(), "change").await?;
    let workflow = assert_ended(name, &ended, &expected).await?;
    assert_eq!(repository.history("main")?, before, "main has moved");
    assert!(workflow["outcome"].get("mergedCommit").is_none());
    assert!(workflow["outcome"].get("endpoint").is_none());
    assert_eq!(processes::with_argument(name), []);
    Ok(Some(workflow))
}

#[tokio::test]
async fn failing_tests_are_failed_and_named() -> Result<()> {
    let Some(workflow) = fails(
        "failing-tests",
        Limits::AMPLE,
        |commit| commit.write("shop/__init__.py", "def price():\n    return 3\n"),
        Expected {
            code: 1,
            stage: "validation",
            verdict: "FAILED",
            reason: &["tests: 1 of 1 tests failed"],
        },
    )
    .await?
    else {
        return Ok(());
    };
    let findings = &stage(&workflow, "validation")?["result"]["validation"]["outcome"]["findings"];
    assert!(findings.to_string().contains("test_price"), "{findings}");
    Ok(())
}

#[tokio::test]
async fn a_hanging_test_is_failed_when_its_time_is_over() -> Result<()> {
    let limits = Limits {
        tests: "4s",
        ..Limits::AMPLE
    };
    fails(
        "hanging-test",
        limits,
        |commit| {
            commit.write(
                "shop/__init__.py",
                "import threading\n\n\ndef price():\n    threading.Event().wait()\n",
            )
        },
        Expected {
            code: 1,
            stage: "validation",
            verdict: "FAILED",
            reason: &["tests: timed out after 4s", "test_price"],
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_app_that_exits_at_once_is_failed_with_its_last_words() -> Result<()> {
    fails(
        "exits-at-once",
        Limits::AMPLE,
        |commit| commit.write("shop/__main__.py", "raise SystemExit('no stock to sell')\n"),
        Expected {
            code: 1,
            stage: "e2e",
            verdict: "FAILED",
            reason: &[
                "ended before it was ready",
                "exit code 1",
                "no stock to sell",
            ],
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_app_that_exits_at_once_with_zero_is_failed_too() -> Result<()> {
    fails(
        "exits-with-zero",
        Limits::AMPLE,
        |commit| commit.write("shop/__main__.py", "print('done')\n"),
        Expected {
            code: 1,
            stage: "e2e",
            verdict: "FAILED",
            reason: &["ended before it was ready", "exit code 0", "done"],
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_app_that_never_becomes_ready_is_failed_when_its_time_is_over() -> Result<()> {
    let limits = Limits {
        ready: "2s",
        ..Limits::AMPLE
    };
    fails(
        "never-ready",
        limits,
        |commit| {
            commit.write(
                "shop/__main__.py",
                "import threading\n\nprint('warming up', flush=True)\nthreading.Event().wait()\n",
            )
        },
        Expected {
            code: 1,
            stage: "e2e",
            verdict: "FAILED",
            reason: &["not ready within 2s", "/health", "warming up"],
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_app_that_answers_500_is_failed_with_what_it_answered() -> Result<()> {
    let broken = shop::server("").replace(
        "send_response(200)",
        "send_response(200 if self.path == \"/health\" else 500)",
    );
    let Some(workflow) = fails(
        "answers-500",
        Limits::AMPLE,
        |commit| commit.write("shop/__main__.py", broken),
        Expected {
            code: 1,
            stage: "e2e",
            verdict: "FAILED",
            reason: &["GET /", "answered 500 instead of 200"],
        },
    )
    .await?
    else {
        return Ok(());
    };
    let result = &stage(&workflow, "e2e")?["result"]["e2e"];
    assert_eq!(result["suites"][0]["verdict"], json!("VERDICT_FAILED"));
    Ok(())
}

#[tokio::test]
async fn zero_tests_prove_nothing_unless_a_person_waives_it() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("zero-tests");
    let mut repository = shop::repository(name, Limits::AMPLE)?;
    // Without tests from the beginning: that a change deletes them is another matter.
    let before = repository.commit(Commit::on("main").delete("test_shop.py"))?;
    repository.commit(
        Commit::on("change")
            .from("main")
            .write("shop/__init__.py", "def price():\n    return 1 + 1\n"),
    )?;
    let ended = change(name, &repository.url(), "change").await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("no test was executed"), "{}", ended.err);
    assert!(ended.err.contains("agentic reject "), "{}", ended.err);
    assert_eq!(repository.resolve("main")?, before);

    let place = shared::place()?;
    let rejected = place
        .run(&["reject", name, "--reason", "write some"])
        .await?;
    assert_eq!(rejected.code, 0, "{rejected:?}");
    let ended = place.run(&["watch", name]).await?;
    let expected = Expected {
        code: 3,
        stage: "validation",
        verdict: "NOT_PROVEN",
        reason: &["tests: no test was executed"],
    };
    assert_ended(name, &ended, &expected).await?;
    assert_eq!(repository.resolve("main")?, before);
    Ok(())
}

#[tokio::test]
async fn a_conflict_stays_unmerged_with_a_decision_that_shows_both_sides() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("conflict");
    let mut repository = shop::repository(name, Limits::AMPLE)?;
    repository.commit(
        Commit::on("change")
            .from("main")
            .write("shop/__init__.py", "def price():\n    return 4 - 2\n"),
    )?;
    let before = repository.commit(
        Commit::on("main").write("shop/__init__.py", "def price():\n    return 6 // 3\n"),
    )?;
    let ended = change(name, &repository.url(), "change").await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert_eq!(repository.resolve("main")?, before);

    let place = shared::place()?;
    let shown = place.run(&["decisions", "show", name]).await?;
    for said in ["shop/__init__.py", "return 2", "6 // 3", "4 - 2"] {
        for text in [&ended.err, &shown.out] {
            assert!(text.contains(said), "{said:?} in {text}");
        }
    }
    let waiting = workflow(name).await?;
    assert_eq!(waiting["state"], json!("WORKFLOW_STATE_AWAITING_DECISION"));

    let rejected = place.run(&["reject", name, "--reason", "neither"]).await?;
    assert_eq!(rejected.code, 0, "{rejected:?}");
    let ended = place.run(&["watch", name]).await?;
    let expected = Expected {
        code: 3,
        stage: "integration",
        verdict: "NOT_PROVEN",
        reason: &["not merged", "shop/__init__.py"],
    };
    assert_ended(name, &ended, &expected).await?;
    assert_eq!(repository.resolve("main")?, before);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_fails_the_deployment_and_keeps_whoever_has_it() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("taken-port");
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = holder.local_addr()?.port();
    let mut repository = shop::repository(name, Limits::AMPLE)?;
    let before = repository.resolve("main")?;
    repository.commit(
        Commit::on("change")
            .from("main")
            .write("shop/__init__.py", "def price():\n    return 1 + 1\n"),
    )?;
    let setting = format!("deployment.port={port}");
    let arguments = [
        "--type",
        "change",
        "--repository",
        &repository.url(),
        "--source",
        "change",
        "--target",
        "main",
        "--set",
        &setting,
    ];
    let ended = run(name, &arguments).await?;
    let expected = Expected {
        code: 1,
        stage: "deployment",
        verdict: "FAILED",
        reason: &["nothing was deployed", &format!("127.0.0.1:{port}")],
    };
    let workflow = assert_ended(name, &ended, &expected).await?;
    // Merging came before, and is taken back in the open.
    let tree = |name: &str| repository.git(&["rev-parse", &format!("{name}^{{tree}}")]);
    assert_eq!(tree("main")?, tree(&before)?);
    assert_eq!(repository.resolve("main~2")?, before);
    assert!(workflow["outcome"].get("mergedCommit").is_none());
    let merge = repository.resolve("main^")?;
    let told = format!("{merge} was taken back from main");
    assert!(ended.out.contains(&told), "{}", ended.out);
    assert!(workflow["outcome"].get("endpoint").is_none());
    assert_eq!(processes::with_argument(name), []);
    drop(holder);
    assert!(get(&format!("http://127.0.0.1:{port}/")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_repository_that_does_not_exist_proves_nothing_and_is_not_made() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing");
    let url = missing.to_str().context("path")?;
    let name = &shop::unique("no-repository");
    let ended = change(name, url, "change").await?;
    let expected = Expected {
        code: 3,
        stage: "validation",
        verdict: "NOT_PROVEN",
        reason: &["no git repository at", url],
    };
    assert_ended(name, &ended, &expected).await?;
    assert!(!missing.exists());
    Ok(())
}

#[tokio::test]
async fn a_source_that_does_not_exist_proves_nothing() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("no-source");
    let repository = shop::repository(name, Limits::AMPLE)?;
    let before = repository.history("main")?;
    let ended = change(name, &repository.url(), "no-such-branch").await?;
    let expected = Expected {
        code: 3,
        stage: "validation",
        verdict: "NOT_PROVEN",
        reason: &["\"no-such-branch\" does not name a commit"],
    };
    assert_ended(name, &ended, &expected).await?;
    assert_eq!(repository.history("main")?, before);
    Ok(())
}

#[tokio::test]
async fn an_unknown_template_is_refused_with_those_that_there_are() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("no-template");
    let ended = run(name, &["--type", "app", "--template", "no-such"]).await?;
    let expected = Expected {
        code: 3,
        stage: "scaffold",
        verdict: "NOT_PROVEN",
        reason: &["there is no template \"no-such\"", "python-http"],
    };
    assert_ended(name, &ended, &expected).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_before_the_mesh_is_asked_has_codes_of_its_own() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = shared::place()?;
    let usage = place.run(&["run", "--type", "change"]).await?;
    assert_eq!(usage.code, 2, "{usage:?}");
    assert!(usage.err.contains("--repository"), "{}", usage.err);

    let mut command = place.command(&["list"]);
    command.env("AGENTIC_ORCHESTRATOR_URK", "http://127.0.0.1:1");
    let configuration = end(command).await?;
    assert_eq!(configuration.code, 64, "{configuration:?}");
    let nearest = "AGENTIC_ORCHESTRATOR_URL";
    assert!(configuration.err.contains(nearest), "{}", configuration.err);

    let nobody = place
        .run(&["list", "--orchestrator", "http://127.0.0.1:1"])
        .await?;
    assert_eq!(nobody.code, 4, "{nobody:?}");
    Ok(())
}

// The fixture itself: what fails above fails because of the change.
#[tokio::test]
async fn a_good_change_of_the_same_app_succeeds() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let name = &shop::unique("good-change");
    let mut repository: Repository = shop::repository(name, Limits::AMPLE)?;
    repository.commit(
        Commit::on("change")
            .from("main")
            .write("shop/__init__.py", "def price():\n    return 1 + 1\n"),
    )?;
    let ended = change(name, &repository.url(), "change").await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let outcome = workflow(name).await?["outcome"].clone();
    assert_eq!(outcome["mergedCommit"], json!(repository.resolve("main")?));
    let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
    assert_eq!(get(&format!("{endpoint}/health")).await?.0, 200);
    assert_eq!(processes::with_argument(name).len(), 1);
    Ok(())
}
