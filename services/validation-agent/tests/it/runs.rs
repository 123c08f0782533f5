//! Every way in which a run can end without proving anything, or worse.

use std::time::{Duration, Instant};

use contracts::{
    error_reason::ErrorReason, task::Verdict, validation::ValidationTask, wire_time::wire_duration,
};
use testkit::{
    repository::{Commit, Repository as Fixture},
    require,
};

use crate::serving::{Seen, Serving, context, good, python};

/// A project whose tests are this command.
fn declared(command: &str, more: &str) -> (Fixture, String) {
    let mut fixture = Fixture::empty().unwrap();
    let description = format!("version: 1\nchecks:\n  tests: {{command: {command}{more}}}\n");
    let commit = Commit::on("main")
        .write(".agentic/project.yaml", description)
        .executable("run.sh", "#!/bin/sh\necho nothing to see\n")
        .write("main.txt", "1\n");
    let base = fixture.commit(commit).unwrap();
    (fixture, base)
}

async fn change(fixture: &mut Fixture, base: &str, commit: Commit) -> Seen {
    let head = fixture.commit(commit).unwrap();
    Serving::start()
        .await
        .validate(fixture, Some(base), &head)
        .await
}

#[tokio::test]
async fn zero_tests_prove_nothing() {
    require!(Python);
    let (mut fixture, base) = declared("[python3, -m, unittest]", "");
    let seen = change(
        &mut fixture,
        &base,
        Commit::on("main").write("main.txt", "2\n"),
    )
    .await;
    seen.expect(Verdict::NotProven);
    assert_eq!(seen.check("tests").verdict(), Verdict::NotProven);
    assert!(
        seen.summary().contains("no test was executed"),
        "{}",
        seen.summary()
    );
    let decision = seen.outcome().decision.as_ref().unwrap();
    assert!(decision.detail.contains("tests"));
    assert!(decision.subject_digest.starts_with("sha256:"));
}

#[tokio::test]
async fn a_project_without_tests_proves_nothing() {
    require!(Python);
    let mut fixture = Fixture::with_files([("shop/__init__.py", "")]).unwrap();
    let base = fixture.head("main").unwrap().unwrap();
    let seen = change(
        &mut fixture,
        &base,
        Commit::on("main").write("shop/a.py", "x = 1\n"),
    )
    .await;
    seen.expect(Verdict::NotProven);
    assert!(seen.check("tests").reason.contains("no tests"));
}

#[tokio::test]
async fn output_without_a_report_proves_nothing() {
    let (mut fixture, base) = declared("[./run.sh]", "");
    let seen = change(
        &mut fixture,
        &base,
        Commit::on("main").write("main.txt", "2\n"),
    )
    .await;
    seen.expect(Verdict::NotProven);
    assert!(
        seen.check("tests").reason.contains("no report"),
        "{}",
        seen.check("tests").reason
    );
}

#[tokio::test]
async fn a_hanging_test_is_killed_with_its_tree_and_fails() {
    require!(Python);
    let mut fixture = Fixture::empty().unwrap();
    let marker = tempfile::tempdir().unwrap();
    let alive = marker.path().join("alive");
    let script = format!(
        "#!/bin/sh\n(while true; do touch {0}; sleep 0.1; done) &\nsleep 600\n",
        alive.display()
    );
    let description = "version: 1\nchecks:\n  tests: {command: [./hang.sh], timeout: 2s}\n";
    let base = fixture
        .commit(
            Commit::on("main")
                .write(".agentic/project.yaml", description)
                .executable("hang.sh", script),
        )
        .unwrap();
    let started = Instant::now();
    let seen = change(
        &mut fixture,
        &base,
        Commit::on("main").write("a.txt", "1\n"),
    )
    .await;
    seen.expect(Verdict::Failed);
    assert!(started.elapsed() < Duration::from_mins(1));
    let run = seen.check("tests").tool_run.as_ref().unwrap();
    assert_eq!(run.exit_code, None);
    assert!(run.ending.contains("timed out"), "{run:?}");
    // Nobody is left to touch it again.
    std::fs::remove_file(&alive).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!alive.exists());
}

#[tokio::test]
async fn the_limit_of_the_task_holds_where_a_check_names_none() {
    let (mut fixture, base) = declared("[./run.sh]", "");
    let head = fixture
        .commit(Commit::on("main").write("main.txt", "2\n"))
        .unwrap();
    let slow = fixture
        .commit(
            Commit::on("slow")
                .from(&base)
                .executable("run.sh", "#!/bin/sh\nsleep 600\n"),
        )
        .unwrap();
    let task = ValidationTask {
        check_timeout: Some(wire_duration(Duration::from_secs(1))),
        ..ValidationTask::default()
    };
    let serving = Serving::start().await;
    let seen = serving
        .validate_as(&fixture, Some(&base), &slow, task.clone())
        .await;
    seen.expect(Verdict::Failed);
    assert!(seen.check("tests").reason.contains("timed out"));
    serving
        .validate_as(&fixture, Some(&base), &head, task)
        .await
        .expect(Verdict::NotProven);
}

#[tokio::test]
async fn a_tool_that_is_not_installed_proves_nothing() {
    for command in ["[no-such-tool-1, test]", "[python3, -m, no_such_module_1]"] {
        let (mut fixture, base) = declared(command, "");
        let seen = change(
            &mut fixture,
            &base,
            Commit::on("main").write("main.txt", "2\n"),
        )
        .await;
        seen.expect(Verdict::NotProven);
        assert!(
            seen.check("tests").reason.contains("not installed"),
            "{}",
            seen.check("tests").reason
        );
    }
}

#[tokio::test]
async fn a_program_that_the_change_takes_away_fails() {
    let (mut fixture, base) = declared("[./run.sh]", "");
    let seen = change(&mut fixture, &base, Commit::on("main").delete("run.sh")).await;
    seen.expect(Verdict::Failed);
}

#[tokio::test]
async fn a_killed_test_process_fails() {
    let (mut fixture, _) = declared("[./run.sh]", "");
    let base = fixture
        .commit(Commit::on("main").executable(
            "run.sh",
            "#!/bin/sh\necho '1..1'; echo 'ok 1 a'; kill -9 $$\n",
        ))
        .unwrap();
    let seen = change(
        &mut fixture,
        &base,
        Commit::on("main").write("main.txt", "2\n"),
    )
    .await;
    seen.expect(Verdict::Failed);
    assert!(
        seen.check("tests").reason.contains("signal 9"),
        "{}",
        seen.check("tests").reason
    );
}

#[tokio::test]
async fn the_base_itself_proves_nothing() {
    require!(Python);
    let (mut fixture, base) = python();
    let serving = Serving::start().await;
    serving
        .validate(&fixture, Some(&base), &base)
        .await
        .expect(Verdict::NotProven);
    let changed = good(&mut fixture);
    // Back again: another commit with the base's own files.
    let back = fixture
        .commit(
            Commit::on("main")
                .write(
                    "shop/prices.py",
                    "def total(prices):\n    return sum(prices)\n",
                )
                .delete("tests/test_highest.py"),
        )
        .unwrap();
    let seen = serving.validate(&fixture, Some(&base), &back).await;
    seen.expect(Verdict::NotProven);
    assert!(
        seen.summary().contains("nothing to judge"),
        "{}",
        seen.summary()
    );
    serving
        .validate(&fixture, Some(&changed), &base)
        .await
        .expect(Verdict::NotProven);
}

#[tokio::test]
async fn unrelated_histories_prove_nothing() {
    require!(Python);
    let (mut fixture, base) = python();
    let orphan = {
        let other = Fixture::with_files([("a.txt", "1\n")]).unwrap();
        fixture
            .git(&["fetch", "--quiet", &other.url(), "main:refs/heads/other"])
            .unwrap();
        fixture.head("other").unwrap().unwrap()
    };
    let _ = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &orphan)
        .await;
    seen.expect(Verdict::NotProven);
    assert!(seen.summary().contains("no history"), "{}", seen.summary());
}

#[tokio::test]
async fn a_link_out_of_the_checkout_fails() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = fixture
        .commit(Commit::on("main").link("shop/outside", "/etc/passwd"))
        .unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Failed);
    assert!(seen.check("checkout").findings[0].path.contains("outside"));
}

#[tokio::test]
async fn a_run_far_shorter_than_its_history_proves_nothing() {
    let (mut fixture, _) = declared("[./run.sh]", "");
    let tap = |count: u32| {
        let lines: Vec<String> = (1..=count)
            .map(|number| format!("echo 'ok {number} a'\n"))
            .collect();
        let lines = lines.concat();
        format!("#!/bin/sh\necho 1..{count}\n{lines}")
    };
    let start = fixture
        .commit(
            Commit::on("main")
                .executable("run.sh", tap(9))
                .write("count", ""),
        )
        .unwrap();
    let serving = Serving::start().await;
    let base = fixture
        .commit(Commit::on("main").write("main.txt", "2\n"))
        .unwrap();
    serving
        .validate(&fixture, Some(&start), &base)
        .await
        .expect(Verdict::Passed);
    // The runner now finds fewer tests, for a reason that no file of the judge shows.
    let head = fixture
        .commit(Commit::on("main").executable("run.sh", tap(3)))
        .unwrap();
    let seen = serving.validate(&fixture, Some(&base), &head).await;
    seen.expect(Verdict::NotProven);
    assert!(
        seen.check("tests")
            .reason
            .contains("only 3 tests ran, where 9 ran"),
        "{}",
        seen.check("tests").reason
    );
}

#[tokio::test]
async fn an_unchanged_check_is_remembered_and_says_so() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = good(&mut fixture);
    let serving = Serving::start().await;
    assert!(
        !serving
            .validate(&fixture, Some(&base), &head)
            .await
            .check("tests")
            .cached
    );
    let again = serving.validate(&fixture, Some(&base), &head).await;
    again.expect(Verdict::Passed);
    assert!(again.check("tests").cached && again.check("build").cached);
    assert!(again.check("tests").reason.contains("remembered"));
    assert_eq!(again.check("tests").executed_count, 3);
    // Another commit with the same files.
    let same = fixture.commit(Commit::on("same").from(&base).message("The same")
        .write("shop/prices.py", "def total(prices):\n    return sum(prices)\n\n\ndef highest(prices):\n    return max(prices)\n")
        .write("tests/test_highest.py", fixture.read(&head, "tests/test_highest.py").unwrap().unwrap())).unwrap();
    assert!(
        serving
            .validate(&fixture, Some(&base), &same)
            .await
            .check("tests")
            .cached
    );
    let task = ValidationTask {
        use_cache: Some(false),
        ..ValidationTask::default()
    };
    assert!(
        !serving
            .validate_as(&fixture, Some(&base), &head, task)
            .await
            .check("tests")
            .cached
    );
}

#[tokio::test]
async fn a_failure_is_never_remembered() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = fixture
        .commit(Commit::on("main").write("shop/prices.py", "def total(prices):\n    return 7\n"))
        .unwrap();
    let serving = Serving::start().await;
    for _ in 0..2 {
        let seen = serving.validate(&fixture, Some(&base), &head).await;
        seen.expect(Verdict::Failed);
        assert!(!seen.check("tests").cached);
    }
}

#[tokio::test]
async fn a_subset_of_the_checks_is_no_pass() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = good(&mut fixture);
    let serving = Serving::start().await;
    let task = ValidationTask {
        checks: vec!["build".into()],
        ..ValidationTask::default()
    };
    let seen = serving
        .validate_as(&fixture, Some(&base), &head, task)
        .await;
    seen.expect(Verdict::NotProven);
    assert_eq!(seen.check("build").verdict(), Verdict::Passed);
    let task = ValidationTask {
        checks: vec!["biuld".into()],
        ..ValidationTask::default()
    };
    let error = serving
        .run(context(&fixture, Some(&base), &head), task)
        .await
        .unwrap_err();
    assert_eq!(error.reason, ErrorReason::InvalidField);
}
