//! Whole projects of several languages, as they are found in the wild: without a word about themselves.

use contracts::{
    task::{Verdict, task_event::Payload},
    validation::ProjectKind,
};
use testkit::{
    repository::{Commit, Repository as Fixture},
    require,
};

use crate::serving::{Serving, good, python};

#[tokio::test]
async fn a_good_change_of_a_python_project_passes() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Passed);
    let tests = seen.check("tests");
    assert_eq!((tests.executed_count, tests.failed_count), (3, 0));
    assert!(tests.blocking && !tests.cached);
    let run = tests.tool_run.as_ref().unwrap();
    assert_eq!(run.exit_code, Some(0));
    assert!(run.version.starts_with("Python 3"), "{run:?}");
    assert_eq!(seen.check("build").verdict(), Verdict::Passed);
    assert_eq!(seen.check("secrets").verdict(), Verdict::Passed);
    assert_eq!(seen.check("coverage").verdict(), Verdict::NotProven);
    assert_eq!(seen.metric("tests_executed_count"), Some(3.0));
    assert_eq!(seen.metric("critical_vulnerability_count"), Some(0.0));
    assert_eq!(seen.result.policy_source, "built-in");
    assert_eq!(seen.result.project_kind(), ProjectKind::Library);
    assert_eq!(seen.outcome().project_is_app, Some(false));
    assert!(seen.result.judge_changes.is_empty());
    assert!(seen.outcome().decision.is_none());
    assert_eq!(
        seen.outcome().repository.as_ref().unwrap().head_commit,
        head
    );
}

#[tokio::test]
async fn progress_logs_and_artifacts_are_streamed() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    let logged = |text: &str| {
        seen.events.iter().any(
            |event| matches!(&event.payload, Some(Payload::Log(log)) if log.text.contains(text)),
        )
    };
    assert!(logged("plan: tests: python3 -m unittest discover"));
    assert!(logged("Ran 3 tests"));
    let names: Vec<&str> = seen
        .outcome()
        .artifacts
        .iter()
        .map(|artifact| artifact.name.as_str())
        .collect();
    for name in [
        "validation.sarif",
        "validation.junit.xml",
        "validation.html",
        "checks/tests.log",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let progress = seen
        .events
        .iter()
        .filter(|event| matches!(event.payload, Some(Payload::Progress(_))));
    assert!(progress.count() >= 5);
}

#[tokio::test]
async fn a_failing_test_fails_the_change_and_is_named() {
    require!(Python);
    let (mut fixture, base) = python();
    let commit = Commit::on("main").write(
        "shop/prices.py",
        "def total(prices):\n    return sum(prices) + 1\n",
    );
    let head = fixture.commit(commit).unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Failed);
    let tests = seen.check("tests");
    assert_eq!((tests.executed_count, tests.failed_count), (2, 2));
    assert!(
        tests
            .findings
            .iter()
            .any(|finding| finding.message.contains("test_total")),
        "{tests:?}"
    );
    assert!(
        seen.summary().contains("2 of 2 tests failed"),
        "{}",
        seen.summary()
    );
    assert!(!seen.result.recommendations.is_empty());
    assert!(
        seen.outcome().decision.is_none(),
        "nobody may wave a failure through"
    );
}

#[tokio::test]
async fn a_node_project_passes_with_its_coverage() {
    require!(Node);
    let mut fixture = Fixture::empty().unwrap();
    let base = fixture
        .commit(Commit::on("main").write_all([
            ("package.json", r#"{"name": "shop", "type": "module"}"#),
            ("src/prices.js", "export function total(prices) {\n  return prices.reduce((sum, price) => sum + price, 0);\n}\n"),
            ("test/prices.test.js", "import assert from 'node:assert';\nimport test from 'node:test';\nimport { total } from '../src/prices.js';\n\ntest('totals', () => {\n  assert.equal(total([1, 2]), 3);\n});\n"),
        ]))
        .unwrap();
    let head = fixture
        .commit(Commit::on("main").write("src/prices.js", "export function total(prices) {\n  let sum = 0;\n  for (const price of prices) {\n    sum += price;\n  }\n  return sum;\n}\n"))
        .unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Passed);
    assert_eq!(seen.check("tests").executed_count, 1);
    if let Some(percent) = seen.metric("line_coverage_percent") {
        assert!(percent > 99.0, "{percent}");
    }
}

#[tokio::test]
async fn a_rust_project_passes() {
    require!(Cargo);
    let mut fixture = Fixture::empty().unwrap();
    let base = fixture
        .commit(Commit::on("main").write_all([
            ("Cargo.toml", "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\n"),
            ("src/lib.rs", "pub fn total(prices: &[u32]) -> u32 {\n    prices.iter().sum()\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn totals() {\n        assert_eq!(super::total(&[1, 2]), 3);\n    }\n}\n"),
        ]))
        .unwrap();
    let good = fixture
        .commit(Commit::on("main").write(
            "tests/it.rs",
            "#[test]\nfn nothing() {\n    assert_eq!(shop::total(&[]), 0);\n}\n",
        ))
        .unwrap();
    let serving = Serving::start().await;
    let seen = serving.validate(&fixture, Some(&base), &good).await;
    seen.expect(Verdict::Passed);
    assert_eq!(seen.check("tests").executed_count, 2);
    assert_eq!(seen.check("build").verdict(), Verdict::Passed);

    let broken = fixture
        .commit(Commit::on("main").write("src/extra.rs", "").write(
            "tests/it.rs",
            "#[test]\nfn nothing() {\n    assert_eq!(shop::totl(&[]), 0);\n}\n",
        ))
        .unwrap();
    let seen = serving.validate(&fixture, Some(&good), &broken).await;
    seen.expect(Verdict::Failed);
    let build = seen.check("build");
    assert_eq!(build.verdict(), Verdict::Failed);
    assert!(
        build
            .findings
            .iter()
            .any(|finding| finding.path == "tests/it.rs" && finding.line == 3),
        "{build:?}"
    );
}

#[tokio::test]
async fn a_commit_without_a_base_is_judged_alone_and_says_so() {
    require!(Python);
    let (fixture, base) = python();
    let seen = Serving::start().await.validate(&fixture, None, &base).await;
    seen.expect(Verdict::Passed);
    let alone = seen.events.iter().any(|event| {
        matches!(&event.payload, Some(Payload::Log(log)) if log.text.contains("judged alone"))
    });
    assert!(alone);
    assert_eq!(seen.outcome().repository.as_ref().unwrap().base_commit, "");
}

#[tokio::test]
async fn an_app_stays_an_app_whatever_a_change_takes_away() {
    require!(Python);
    let (mut fixture, _) = python();
    let description = "version: 1\napp:\n  start: {command: [python3, -m, shop]}\n";
    let base = fixture
        .commit(Commit::on("main").write(".agentic/project.yaml", description))
        .unwrap();
    let head = fixture
        .commit(Commit::on("main").delete(".agentic/project.yaml"))
        .unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    assert_eq!(seen.outcome().project_is_app, Some(true));
    assert_eq!(seen.result.start_command, ["python3", "-m", "shop"]);
    seen.expect(Verdict::NotProven);
}
