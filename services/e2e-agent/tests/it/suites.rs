//! Suites that tell the truth, and suites that lie.

use contracts::{
    e2e::{E2eTask, TestStatus},
    task::Verdict,
};

use crate::agent::{SERVER, Tested, description, tested, tested_with};

/// Writes a JUnit report with these cases.
fn junit(cases: &str) -> String {
    format!("<testsuites><testsuite name=\"s\">{cases}</testsuite></testsuites>")
}

/// A project whose suite `s` is a shell script, with a report.
async fn scripted(script: &str, report: bool) -> Tested {
    scripted_with(script, report, E2eTask::default()).await
}

async fn scripted_with(script: &str, report: bool, task: E2eTask) -> Tested {
    let report = if report {
        ", report: {junit: out/s.xml}"
    } else {
        ""
    };
    let rest =
        format!("e2e:\n  suites: [{{name: s, command: [sh, suite.sh], timeout: 5s{report}}}]\n");
    let yaml = description("[python3, app.py]", "20s", &rest);
    tested_with(
        &[
            (".agentic/project.yaml", &yaml),
            ("app.py", SERVER),
            ("suite.sh", script),
        ],
        task,
    )
    .await
}

fn reporting(cases: &str, code: i32) -> String {
    format!(
        "mkdir -p out\ncat > out/s.xml <<'END'\n{}\nEND\nexit {code}\n",
        junit(cases)
    )
}

#[tokio::test]
async fn a_command_is_one_test_and_finds_the_app() {
    let script = "python3 -c 'import os, urllib.request as r; assert b\"shop\" in r.urlopen(os.environ[\"BASE_URL\"]).read()'";
    scripted(script, false)
        .await
        .assert(Verdict::Passed, &["s: 1 tests passed"]);
    scripted("echo boom; exit 3", false)
        .await
        .assert(Verdict::Failed, &["1 of 1 tests failed", "exit code 3"]);
}

#[tokio::test]
async fn a_report_tells_the_tests_and_is_kept() {
    let tested = scripted(
        &reporting("<testcase name=\"a\"/><testcase name=\"b\"/>", 0),
        true,
    )
    .await;
    tested.assert(Verdict::Passed, &["2 tests passed"]);
    assert!(
        tested
            .artifact_names()
            .iter()
            .any(|name| name.ends_with("s.junit.xml")),
        "{:?}",
        tested.artifact_names()
    );
    let failing =
        "<testcase name=\"a\"/><testcase name=\"b\"><failure message=\"no tea\"/></testcase>";
    let tested = scripted(&reporting(failing, 1), true).await;
    tested.assert(Verdict::Failed, &["1 of 2 tests failed", "no tea"]);
    assert_eq!(tested.suite("s").failures[0].status(), TestStatus::Failed);
}

#[tokio::test]
async fn zero_tests_prove_nothing() {
    scripted(&reporting("", 0), true)
        .await
        .assert(Verdict::NotProven, &["there is no test"]);
    let skipped = "<testcase name=\"a\"><skipped/></testcase>";
    scripted(&reporting(skipped, 0), true)
        .await
        .assert(Verdict::NotProven, &["all 1 were skipped"]);
    scripted("exit 0", true)
        .await
        .assert(Verdict::NotProven, &["left no report"]);
}

#[tokio::test]
async fn report_and_exit_code_that_disagree_prove_nothing() {
    let failing = "<testcase name=\"a\"><failure message=\"no\"/></testcase>";
    scripted(&reporting(failing, 0), true)
        .await
        .assert(Verdict::NotProven, &["shows 1 failed tests", "exit code 0"]);
    scripted(&reporting("<testcase name=\"a\"/>", 1), true)
        .await
        .assert(Verdict::NotProven, &["shows 0 failed tests", "exit code 1"]);
    let cut = "mkdir -p out; echo '<testsuites><testsuite>' > out/s.xml; exit 0";
    scripted(cut, true)
        .await
        .assert(Verdict::NotProven, &["cut off"]);
    let lying = "mkdir -p out; echo '<testsuite name=\"s\" tests=\"9\"><testcase name=\"a\"/></testsuite>' > out/s.xml";
    scripted(lying, true)
        .await
        .assert(Verdict::NotProven, &["declares 9 tests"]);
}

#[tokio::test]
async fn a_report_from_before_the_run_counts_for_nothing() {
    let yaml = description(
        "[python3, app.py]",
        "20s",
        "e2e:\n  suites: [{name: s, command: ['true'], report: {junit: s.xml}}]\n",
    );
    let old = junit("<testcase name=\"a\"/>");
    let files = [
        (".agentic/project.yaml", yaml.as_str()),
        ("app.py", SERVER),
        ("s.xml", old.as_str()),
    ];
    tested(&files)
        .await
        .assert(Verdict::NotProven, &["left no report"]);
}

#[tokio::test]
async fn a_suite_that_breaks_before_it_reports_failed() {
    scripted("echo SyntaxError >&2; exit 2", true)
        .await
        .assert(Verdict::Failed, &["exit code 2", "left no report"]);
}

#[tokio::test]
async fn a_suite_that_hangs_proves_nothing() {
    let mark = format!("hanging-{}", std::process::id());
    let script = format!("(setsid python3 -c 'import time; time.sleep(300)' {mark} &) ; sleep 300");
    let tested = scripted(&script, false).await;
    tested.assert(Verdict::NotProven, &["did not end within 5s"]);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&line).contains(&mark),
            "{} is left",
            entry.path().display()
        );
    }
}

#[tokio::test]
async fn a_suite_whose_tool_is_missing_proves_nothing() {
    let rest = "e2e:\n  suites: [{name: s, command: [no-such-tool]}]\n";
    let yaml = description("[python3, app.py]", "20s", rest);
    let tested = tested(&[(".agentic/project.yaml", &yaml), ("app.py", SERVER)]).await;
    tested.assert(Verdict::NotProven, &["no-such-tool", "not installed"]);
}

#[tokio::test]
async fn a_flaky_test_is_counted_by_our_own_looks() {
    let script = "if [ -e once ]; then exit 0; fi; touch once; exit 1";
    let tested = scripted(script, false).await;
    tested.assert(Verdict::Failed, &["flaky", "no base"]);
    let suite = tested.suite("s");
    assert_eq!((suite.flaky_count, suite.failed_count), (1, 0));
    assert_eq!(suite.failures[0].status(), TestStatus::Flaky);
    let task = E2eTask {
        retry_count: Some(0),
        ..E2eTask::default()
    };
    let tested = scripted_with(script, false, task).await;
    tested.assert(Verdict::Failed, &["1 of 1 tests failed"]);
    assert_eq!(tested.suite("s").failures[0].attempt_count, 1);
}

const GOOD_HURL: &str = "GET {{base_url}}/\nHTTP 200\n[Asserts]\nbody contains \"shop\"\n";

async fn hurled(files: &[(&str, &str)]) -> Tested {
    let yaml = description(
        "[python3, app.py]",
        "20s",
        "e2e:\n  suites: [{name: api, hurl: ['e2e/*.hurl']}]\n",
    );
    let mut all = vec![(".agentic/project.yaml", yaml.as_str()), ("app.py", SERVER)];
    all.extend(files);
    tested(&all).await
}

#[tokio::test]
async fn hurl_files_are_tests_of_their_own() {
    testkit::require!(Hurl);
    let bad = "GET {{base_url}}/\nHTTP 200\n[Asserts]\nbody contains \"books\"\n";
    let tested = hurled(&[
        ("e2e/good.hurl", GOOD_HURL),
        ("e2e/bad.hurl", bad),
        ("e2e/wrong.hurl", "GARBAGE\n"),
        (
            "e2e/nothing.hurl",
            "GET {{base_url}}/\n[Options]\nskip: true\nHTTP 500\n",
        ),
        ("other/ignored.hurl", bad),
    ])
    .await;
    tested.assert(Verdict::Failed, &["2 of 3 tests failed"]);
    let suite = tested.suite("api");
    assert_eq!(
        (suite.total_count, suite.passed_count, suite.skipped_count),
        (4, 1, 1)
    );
    let failure = suite
        .failures
        .iter()
        .find(|failure| failure.name == "e2e/bad.hurl")
        .unwrap();
    assert_eq!(failure.step, "line 4");
    assert!(failure.message.contains("books"), "{}", failure.message);
    assert!(
        tested
            .artifact_names()
            .iter()
            .any(|name| name.ends_with("e2e-good.hurl.json"))
    );
}

#[tokio::test]
async fn hurl_suites_without_files_prove_nothing() {
    testkit::require!(Hurl);
    hurled(&[])
        .await
        .assert(Verdict::NotProven, &["there is no test"]);
    hurled(&[("e2e/good.hurl", GOOD_HURL)])
        .await
        .assert(Verdict::Passed, &["api: 1 tests passed"]);
}

/// A stand-in for Playwright's runner that writes the report it is given.
fn runner(report: &str, code: i32) -> String {
    format!(
        "#!/bin/sh\ncat > \"$PLAYWRIGHT_JSON_OUTPUT_NAME\" <<'END'\n{report}\nEND\nexit {code}\n"
    )
}

async fn played(report: &str, code: i32) -> Tested {
    let install = "mkdir -p node_modules/.bin && cp runner node_modules/.bin/playwright && chmod +x node_modules/.bin/playwright";
    let rest = format!(
        "dependencies: {{command: [sh, -c, '{install}']}}\ne2e:\n  suites: [{{name: web, playwright: e2e, browsers: [firefox]}}]\n"
    );
    let yaml = description("[python3, app.py]", "20s", &rest);
    tested(&[
        (".agentic/project.yaml", &yaml),
        ("app.py", SERVER),
        ("runner", &runner(report, code)),
        ("e2e/shop.spec.ts", "test('shop', () => {});"),
    ])
    .await
}

fn spec(title: &str, status: &str) -> String {
    format!(
        r#"{{"title": "{title}", "tests": [{{"expectedStatus": "passed", "results": [{{"status": "{status}", "errors": [{{"message": "because"}}]}}]}}]}}"#
    )
}

fn playwright(specs: &[String], stats: &str) -> String {
    format!(
        r#"{{"suites": [{{"title": "shop.spec.ts", "specs": [], "suites": [{{"title": "cart", "specs": [{}]}}]}}], "errors": [], "stats": {stats}}}"#,
        specs.join(",")
    )
}

#[tokio::test]
async fn playwright_reports_are_counted_test_by_test() {
    let report = playwright(
        &[
            spec("adds", "passed"),
            spec("pays", "failed"),
            spec("later", "skipped"),
        ],
        r#"{"expected": 1, "unexpected": 1, "skipped": 1, "flaky": 0}"#,
    );
    let tested = played(&report, 1).await;
    tested.assert(Verdict::Failed, &["1 of 2 tests failed", "cart › pays"]);
    let suite = tested.suite("web");
    assert_eq!(suite.browser, "firefox");
    assert_eq!(
        (suite.passed_count, suite.failed_count, suite.skipped_count),
        (1, 1, 1)
    );
    let good = playwright(
        &[spec("adds", "passed")],
        r#"{"expected": 1, "unexpected": 0, "skipped": 0}"#,
    );
    played(&good, 0).await.assert(Verdict::Passed, &[]);
}

#[tokio::test]
async fn playwright_reports_that_do_not_add_up_prove_nothing() {
    let lying = playwright(
        &[spec("adds", "passed")],
        r#"{"expected": 7, "unexpected": 0, "skipped": 0}"#,
    );
    played(&lying, 0)
        .await
        .assert(Verdict::NotProven, &["do not add up"]);
    let good = playwright(
        &[spec("adds", "passed")],
        r#"{"expected": 1, "unexpected": 0, "skipped": 0}"#,
    );
    played(&good, 1)
        .await
        .assert(Verdict::NotProven, &["exit code 1"]);
    played("not json", 0)
        .await
        .assert(Verdict::NotProven, &["cannot be read"]);
}

#[tokio::test]
async fn playwright_that_is_not_installed_proves_nothing() {
    let rest = "e2e:\n  suites: [{name: web, playwright: e2e}]\n";
    let yaml = description("[python3, app.py]", "20s", rest);
    let tested = tested(&[
        (".agentic/project.yaml", &yaml),
        ("app.py", SERVER),
        ("e2e/shop.spec.ts", ""),
    ])
    .await;
    tested.assert(Verdict::NotProven, &["@playwright/test"]);
}
