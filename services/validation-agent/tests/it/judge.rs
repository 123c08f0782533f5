//! Changes that touch what judges them.

use contracts::task::{DecisionCategory, Verdict};
use testkit::{
    repository::{Commit, Repository as Fixture},
    require,
};

use crate::serving::{PYTHON_TEST, Serving, good, python};

async fn judged(fixture: &mut Fixture, base: &str, commit: Commit) -> (Verdict, Vec<String>) {
    let head = fixture.commit(commit).unwrap();
    let seen = Serving::start()
        .await
        .validate(fixture, Some(base), &head)
        .await;
    if seen.verdict() == Verdict::NotProven {
        let decision = seen.outcome().decision.as_ref().unwrap();
        assert_eq!(decision.category(), DecisionCategory::SecurityAffecting);
    }
    (seen.verdict(), seen.result.judge_changes)
}

#[tokio::test]
async fn an_edited_policy_does_not_hold_and_needs_a_person() {
    require!(Python);
    let (mut fixture, _) = python();
    let strict = "version: 1\ngates:\n  - {metric: line_coverage_percent, at_least: 80}\n";
    let base = fixture
        .commit(Commit::on("main").write(".agentic/gates.yaml", strict))
        .unwrap();
    let _ = good(&mut fixture);
    let head = fixture
        .commit(Commit::on("main").write(".agentic/gates.yaml", "version: 1\n"))
        .unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::NotProven);
    assert_eq!(
        seen.gate("line_coverage_percent").verdict(),
        Verdict::NotProven,
        "the base's gate still holds"
    );
    assert!(seen.result.judge_changes[0].contains(".agentic/gates.yaml"));
    assert!(
        seen.outcome()
            .decision
            .as_ref()
            .unwrap()
            .detail
            .contains("policy edited")
    );
}

#[tokio::test]
async fn tests_that_are_deleted_skipped_or_weakened_need_a_person() {
    require!(Python);
    for (from, to, class) in [
        (
            "    def test_nothing(self):\n        self.assertEqual(total([]), 0)\n",
            "",
            "test deleted",
        ),
        (
            "    def test_nothing",
            "    @unittest.skip('later')\n    def test_nothing",
            "test skipped",
        ),
        (
            "self.assertEqual(total([1, 2]), 3)",
            "self.assertTrue(total([1, 2]))",
            "test weakened",
        ),
    ] {
        let (mut fixture, base) = python();
        let text = PYTHON_TEST.replace(from, to);
        let (verdict, changes) = judged(
            &mut fixture,
            &base,
            Commit::on("main").write("tests/test_prices.py", text),
        )
        .await;
        assert_eq!(verdict, Verdict::NotProven, "{class}");
        assert!(
            changes.iter().any(|change| change.contains(class)),
            "{class}: {changes:?}"
        );
    }
}

#[tokio::test]
async fn start_up_code_needs_a_person() {
    require!(Python);
    for path in ["sitecustomize.py", "conftest.py", "unittest/__init__.py"] {
        let (mut fixture, base) = python();
        let head = Commit::on("main").write(
            path,
            "print('Ran 900 tests in 0.1s\\n\\nOK')\nimport os\nos._exit(0)\n",
        );
        let (verdict, changes) = judged(&mut fixture, &base, head).await;
        assert_ne!(verdict, Verdict::Passed, "{path}");
        assert!(
            changes.iter().any(|change| change.contains(path)),
            "{path}: {changes:?}"
        );
    }
}

#[tokio::test]
async fn a_change_cannot_bring_its_own_checks() {
    require!(Python);
    let (mut fixture, _) = python();
    let honest = "version: 1\nchecks:\n  tests: {command: [python3, -m, unittest, discover]}\n";
    let base = fixture
        .commit(Commit::on("main").write(".agentic/project.yaml", honest))
        .unwrap();
    let forged = "version: 1\nchecks:\n  tests: {command: [echo, 'Ran 9 tests in 0.1s']}\n";
    let head = Commit::on("main")
        .write(".agentic/project.yaml", forged)
        .write("shop/prices.py", "def total(prices):\n    return 0\n");
    let (verdict, changes) = judged(&mut fixture, &base, head).await;
    assert_eq!(
        verdict,
        Verdict::Failed,
        "the base's command ran, and found it out"
    );
    assert!(
        changes
            .iter()
            .any(|change| change.contains(".agentic/project.yaml"))
    );
}

#[tokio::test]
async fn a_new_app_brings_its_own_policy_and_says_so() {
    require!(Python);
    let mut fixture = Fixture::with_files([("README.md", "# shop\n")]).unwrap();
    let base = fixture.head("main").unwrap().unwrap();
    let head = fixture
        .commit(Commit::on("main").write_all([
            (
                ".agentic/gates.yaml",
                "version: 1\ngates:\n  - {metric: tests_executed_count, at_least: 2}\n",
            ),
            ("shop/__init__.py", ""),
            (
                "shop/prices.py",
                "def total(prices):\n    return sum(prices)\n",
            ),
            ("tests/__init__.py", ""),
            ("tests/test_prices.py", PYTHON_TEST),
        ]))
        .unwrap();
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Passed);
    assert_eq!(seen.result.policy_source, "head");
    assert!(seen.result.judge_changes.is_empty());
}
