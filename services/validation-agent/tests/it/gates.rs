//! Gates of the base's policy on real measurements.

use contracts::task::Verdict;
use testkit::{
    repository::{Commit, Repository as Fixture},
    require,
};

use crate::serving::{Serving, good, python};

/// A project whose tests leave a report and the coverage that `coverage.info` says.
fn covered(gates: &str) -> (Fixture, String) {
    let mut fixture = Fixture::empty().unwrap();
    let description = "version: 1\nchecks:\n  tests: {command: [sh, run.sh], report: {junit: report.xml}, coverage: {lcov: lcov.info}}\n";
    let script = "cp coverage.info lcov.info\necho '<testsuite><testcase name=\"a\"/></testsuite>' > report.xml\n";
    let base = fixture
        .commit(
            Commit::on("main")
                .write(".agentic/project.yaml", description)
                .write(".agentic/gates.yaml", gates)
                .write("run.sh", script)
                .write("app.py", lines(10))
                .write("coverage.info", lcov(10, 10)),
        )
        .unwrap();
    (fixture, base)
}

fn lines(count: u32) -> String {
    (1..=count)
        .map(|number| format!("x{number} = {number}\n"))
        .collect::<Vec<_>>()
        .concat()
}

fn lcov(run: u32, all: u32) -> String {
    let lines: Vec<String> = (1..=all)
        .map(|line| format!("DA:{line},{}\n", u32::from(line <= run)))
        .collect();
    let lines = lines.concat();
    format!("SF:app.py\n{lines}end_of_record\n")
}

#[tokio::test]
async fn a_gate_below_its_threshold_fails_the_change() {
    let (mut fixture, base) =
        covered("version: 1\ngates:\n  - {metric: line_coverage_percent, at_least: 80}\n");
    let serving = Serving::start().await;
    for (run, verdict) in [(8, Verdict::Passed), (7, Verdict::Failed)] {
        let head = fixture
            .commit(
                Commit::on("change")
                    .from(&base)
                    .write("coverage.info", lcov(run, 10)),
            )
            .unwrap();
        let seen = serving.validate(&fixture, Some(&base), &head).await;
        seen.expect(verdict);
        assert_eq!(seen.gate("line_coverage_percent").verdict(), verdict);
        assert_eq!(
            seen.gate("line_coverage_percent").actual,
            Some(f64::from(run) * 10.0)
        );
        assert_eq!(seen.result.policy_source, "base");
    }
}

#[tokio::test]
async fn changed_lines_that_no_test_runs_fail_from_twenty_lines_on() {
    let (mut fixture, base) = covered("version: 1\n");
    let serving = Serving::start().await;
    for (added, verdict) in [(19, Verdict::Passed), (20, Verdict::Failed)] {
        let all = 10 + added;
        let head = fixture
            .commit(
                Commit::on("change")
                    .from(&base)
                    .write("app.py", lines(all))
                    .write("coverage.info", lcov(10, all)),
            )
            .unwrap();
        let seen = serving.validate(&fixture, Some(&base), &head).await;
        seen.expect(verdict);
        assert_eq!(seen.metric("new_code_line_coverage_percent"), Some(0.0));
        assert_eq!(seen.check("coverage").findings.len(), added as usize);
    }
}

#[tokio::test]
async fn a_named_metric_that_is_missing_blocks_and_asks_a_person() {
    require!(Python);
    let (mut fixture, _) = python();
    let policy = "version: 1\ngates:\n  - {metric: api_breaking_change_count, at_most: 0}\n  - {metric: p95_latency_ms, below: 500, advisory: true}\n";
    let base = fixture
        .commit(Commit::on("main").write(".agentic/gates.yaml", policy))
        .unwrap();
    let head = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::NotProven);
    assert!(seen.gate("api_breaking_change_count").blocking);
    let latency = seen.gate("p95_latency_ms");
    assert!(latency.verdict() == Verdict::NotProven && !latency.blocking);
    assert!(
        seen.outcome()
            .decision
            .as_ref()
            .unwrap()
            .detail
            .contains("api_breaking_change_count")
    );
}

#[tokio::test]
async fn a_ratchet_compares_with_what_the_base_really_measures() {
    let (mut fixture, base) = covered(
        "version: 1\ngates:\n  - {metric: line_coverage_percent, at_least: 10, ratchet: true}\n",
    );
    let serving = Serving::start().await;
    let same = fixture
        .commit(Commit::on("change").from(&base).write("README", "1\n"))
        .unwrap();
    serving
        .validate(&fixture, Some(&base), &same)
        .await
        .expect(Verdict::Passed);
    let worse = fixture
        .commit(
            Commit::on("change")
                .from(&base)
                .write("coverage.info", lcov(9, 10)),
        )
        .unwrap();
    let seen = serving.validate(&fixture, Some(&base), &worse).await;
    seen.expect(Verdict::Failed);
    assert!(
        seen.gate("line_coverage_percent")
            .reason
            .contains("worse than 100"),
        "{:?}",
        seen.gate("line_coverage_percent")
    );
}

#[tokio::test]
async fn new_findings_are_those_that_the_base_does_not_have() {
    let mut fixture = Fixture::empty().unwrap();
    let description = "version: 1\nchecks:\n  tests: {command: [sh, run.sh], report: {junit: report.xml}}\n  lint-all: {command: [sh, lint.sh]}\n";
    let policy = "version: 1\ngates:\n  - {metric: new_finding_count, at_most: 0}\nwaivers:\n  - {finding: lint-all, owner: ada, reason: old code, until: 2999-01-01}\n";
    let lint = "grep -n BAD app.py | sed 's/:.*//' | while read line; do echo \"app.py:$line: E1 bad\"; done\n! grep -q BAD app.py\n";
    let base = fixture
        .commit(Commit::on("main").write_all([
            (".agentic/project.yaml", description),
            (".agentic/gates.yaml", policy),
            (
                "run.sh",
                "echo '<testsuite><testcase name=\"a\"/></testsuite>' > report.xml\n",
            ),
            ("lint.sh", lint),
            ("app.py", "BAD = 1\n"),
        ]))
        .unwrap();
    let serving = Serving::start().await;
    let moved = fixture
        .commit(
            Commit::on("change")
                .from(&base)
                .write("app.py", "good = 0\n\nBAD = 1\n"),
        )
        .unwrap();
    let seen = serving.validate(&fixture, Some(&base), &moved).await;
    seen.expect(Verdict::Passed);
    assert_eq!(seen.metric("new_finding_count"), Some(0.0));
    let more = fixture
        .commit(
            Commit::on("change")
                .from(&base)
                .write("app.py", "BAD = 1\nBAD = 2\n"),
        )
        .unwrap();
    let seen = serving.validate(&fixture, Some(&base), &more).await;
    seen.expect(Verdict::Failed);
    assert_eq!(seen.metric("new_finding_count"), Some(1.0));
}
