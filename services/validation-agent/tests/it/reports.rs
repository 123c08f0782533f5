//! Reports that lie, are old, or say something else than the exit code.

use contracts::task::Verdict;
use testkit::repository::{Commit, Repository as Fixture};

use crate::serving::{Seen, Serving};

/// A project whose tests are a script that is to leave `report.xml`; the base's script leaves a good one.
fn project() -> (Fixture, String) {
    let mut fixture = Fixture::empty().unwrap();
    let description = "version: 1\nchecks:\n  tests: {command: [sh, work/run], report: {junit: report.xml}, coverage: {lcov: lcov.info}}\n";
    let base = fixture
        .commit(
            Commit::on("main")
                .write(".agentic/project.yaml", description)
                .write("work/run", "true\n"),
        )
        .unwrap();
    (fixture, base)
}

/// What comes of a script that judges itself: the edit of `work/run` alone makes it NOT_PROVEN at best, so that only
/// the check itself is looked at.
async fn tests_of(script: &str, files: &[(&str, &str)]) -> (Verdict, String, Seen) {
    let (mut fixture, base) = project();
    let commit = Commit::on("main")
        .write("touched", "1\n")
        .write("work/run", script)
        .write_all(files.iter().copied());
    let head = fixture.commit(commit).unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    let tests = seen.check("tests");
    (tests.verdict(), tests.reason.clone(), seen)
}

fn good(failed: bool) -> String {
    let failure = if failed {
        "<failure message=\"no\"/>"
    } else {
        ""
    };
    format!(
        "cat > report.xml <<'X'\n<testsuite name=\"s\"><testcase name=\"a\"/><testcase name=\"b\">{failure}</testcase></testsuite>\nX\n"
    )
}

#[tokio::test]
async fn a_report_and_its_exit_code_must_agree_and_the_worse_wins() {
    let (verdict, reason, _) = tests_of(&good(false), &[]).await;
    assert_eq!(verdict, Verdict::Passed, "{reason}");
    let (verdict, reason, _) = tests_of(&format!("{}exit 3\n", good(false)), &[]).await;
    assert_eq!(verdict, Verdict::Failed);
    assert!(reason.contains("exited with 3"), "{reason}");
    let (verdict, reason, _) = tests_of(&good(true), &[]).await;
    assert_eq!(verdict, Verdict::Failed);
    assert!(reason.contains("1 of 2 tests failed"), "{reason}");
}

#[tokio::test]
async fn reports_that_cannot_be_believed_prove_nothing() {
    for (script, part) in [
        ("true\n", "no report"),
        (": > report.xml\n", "empty"),
        ("echo '<testsuite' > report.xml\n", "cannot be read"),
        ("echo '{\"tests\": 3}' > report.xml\n", "cannot be read"),
        (
            "echo '<testsuite tests=\"9\"></testsuite>' > report.xml\n",
            "contradicts itself",
        ),
        ("echo '<testsuite/>' > report.xml\n", "no test was executed"),
        ("ln -s /etc/hostname report.xml\n", "not a plain file"),
        (
            "echo '<testsuite><testcase/></testsuite>' > report.xml; touch -d 2001-01-01 report.xml\n",
            "older than the run",
        ),
    ] {
        let (verdict, reason, seen) = tests_of(script, &[]).await;
        assert_eq!(verdict, Verdict::NotProven, "{script}: {reason}");
        assert!(reason.contains(part), "{script}: {reason}");
        seen.expect(Verdict::NotProven);
    }
}

#[tokio::test]
async fn a_report_that_the_commit_brings_is_older_than_the_run() {
    let committed = "<testsuite><testcase name=\"a\"/></testsuite>";
    let (verdict, reason, _) = tests_of("true\n", &[("report.xml", committed)]).await;
    assert_eq!(verdict, Verdict::NotProven);
    assert!(reason.contains("older than the run"), "{reason}");
}

#[tokio::test]
async fn coverage_that_cannot_be_read_is_not_proven() {
    let script = format!("{}echo 'coverage: 100%' > lcov.info\n", good(false));
    let (_, _, seen) = tests_of(&script, &[]).await;
    assert_eq!(seen.check("coverage").verdict(), Verdict::NotProven);
    assert_eq!(seen.metric("line_coverage_percent"), None);
    let script = format!(
        "{}printf 'SF:a.py\\nDA:1,1\\nDA:2,0\\nend_of_record\\n' > lcov.info\n",
        good(false)
    );
    let (_, _, seen) = tests_of(&script, &[("a.py", "x = 1\ny = 2\n")]).await;
    assert_eq!(seen.metric("line_coverage_percent"), Some(50.0));
}
