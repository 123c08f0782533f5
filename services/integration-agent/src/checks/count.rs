//! How many tests ran, from what test runners print at their end. A run that says nothing counts nothing:
//! zero is never read as success.

use std::sync::LazyLock;

use agent_runtime::test_report::TestReport;
use regex::Regex;

/// Most names of failed tests that are kept.
const MOST_FAILURES: usize = 200;

/// What a test run said about its tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held.
    pub passed: u32,
    /// Did not hold, or broke.
    pub failed: u32,
    /// Did not run.
    pub skipped: u32,
    /// Names of those that failed, as far as they are told.
    pub failures: Vec<String>,
}

impl Counts {
    /// Tests that ran.
    pub fn executed(&self) -> u32 {
        self.passed.saturating_add(self.failed)
    }

    /// All tests.
    pub fn total(&self) -> u32 {
        self.executed().saturating_add(self.skipped)
    }
}

impl From<TestReport> for Counts {
    fn from(report: TestReport) -> Self {
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let mut counts = Self {
            passed: count(report.passed_count),
            failed: count(report.failed_count),
            skipped: count(report.skipped_count),
            failures: Vec::new(),
        };
        for case in report.failures() {
            remember(&mut counts, &case.name);
        }
        counts
    }
}

/// A regular expression that is part of this program, and therefore valid.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

static CARGO: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;"));
static CARGO_FAILURE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^test (.+) \.\.\. FAILED$"));
static UNITTEST: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"^Ran (\d+) tests? in "));
static UNITTEST_END: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:OK|FAILED)(?: \((.*)\))?$"));
static UNITTEST_FAILURE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:FAIL|ERROR): (.+)$"));
static PYTEST: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.:]+ ?s.*$"));
static PYTEST_FAILURE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:FAILED|ERROR) (\S+::\S+|\S+\.py)"));
static NODE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?:#|ℹ) (pass|fail|cancelled|skipped|todo) (\d+)$"));
static NODE_FAILURE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^\s*(?:not ok \d+ - |✖ )(.+)$"));
static GO: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"^\s*--- (PASS|FAIL|SKIP): (\S+)"));

/// Counts from what a run printed; none when it printed no summary that we know.
pub fn from_output(output: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut seen = false;
    let mut unittest = None;
    for line in output.lines().map(str::trim_end) {
        seen |= cargo(line, &mut counts)
            || pytest(line, &mut counts)
            || node(line, &mut counts)
            || go(line, &mut counts);
        if let Some([total]) = numbers(&UNITTEST, line) {
            unittest = Some(total);
        }
        if let (Some(total), Some(found)) = (unittest, captures(&UNITTEST_END, line)) {
            let notes = found.get(1).map_or("", |notes| notes.as_str());
            end_of_unittest(&mut counts, total, notes);
            unittest = None;
            seen = true;
        }
        for failure in [
            &CARGO_FAILURE,
            &UNITTEST_FAILURE,
            &PYTEST_FAILURE,
            &NODE_FAILURE,
        ] {
            if let Some(found) = captures(failure, line).and_then(|found| found.get(1)) {
                remember(&mut counts, found.as_str());
            }
        }
    }
    seen.then_some(counts)
}

fn captures<'a>(pattern: &LazyLock<Option<Regex>>, line: &'a str) -> Option<regex::Captures<'a>> {
    LazyLock::force(pattern).as_ref()?.captures(line)
}

fn numbers<const N: usize>(pattern: &LazyLock<Option<Regex>>, line: &str) -> Option<[u32; N]> {
    let found = captures(pattern, line)?;
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = found.get(index + 1)?.as_str().parse().ok()?;
    }
    Some(numbers)
}

fn cargo(line: &str, counts: &mut Counts) -> bool {
    let Some([passed, failed, skipped]) = numbers(&CARGO, line) else {
        return false;
    };
    counts.passed += passed;
    counts.failed += failed;
    counts.skipped += skipped;
    true
}

fn pytest(line: &str, counts: &mut Counts) -> bool {
    let Some(found) = captures(&PYTEST, line).and_then(|found| found.get(1)) else {
        return false;
    };
    for part in found.as_str().split(", ") {
        let Some((number, word)) = part.split_once(' ') else {
            continue;
        };
        let number: u32 = number.parse().unwrap_or(0);
        match word {
            "passed" | "xpassed" => counts.passed += number,
            "failed" | "error" | "errors" => counts.failed += number,
            "skipped" | "xfailed" | "deselected" => counts.skipped += number,
            _ => {}
        }
    }
    true
}

fn node(line: &str, counts: &mut Counts) -> bool {
    let Some(found) = captures(&NODE, line) else {
        return false;
    };
    let number: u32 = found
        .get(2)
        .map_or(0, |number| number.as_str().parse().unwrap_or(0));
    match found.get(1).map(|word| word.as_str()) {
        Some("pass") => counts.passed += number,
        Some("fail" | "cancelled") => counts.failed += number,
        _ => counts.skipped += number,
    }
    true
}

fn go(line: &str, counts: &mut Counts) -> bool {
    let Some(found) = captures(&GO, line) else {
        return false;
    };
    match found.get(1).map(|word| word.as_str()) {
        Some("PASS") => counts.passed += 1,
        Some("FAIL") => {
            counts.failed += 1;
            if let Some(name) = found.get(2) {
                remember(counts, name.as_str());
            }
        }
        _ => counts.skipped += 1,
    }
    true
}

fn end_of_unittest(counts: &mut Counts, total: u32, notes: &str) {
    let (mut failed, mut skipped) = (0, 0);
    for note in notes.split(", ") {
        let Some((what, number)) = note.split_once('=') else {
            continue;
        };
        let number: u32 = number.parse().unwrap_or(0);
        match what {
            "failures" | "errors" | "unexpected successes" => failed += number,
            "skipped" => skipped += number,
            _ => {}
        }
    }
    // A broken module counts as an error and as a test.
    counts.failed += failed;
    counts.skipped += skipped;
    counts.passed += total.saturating_sub(failed).saturating_sub(skipped);
}

fn remember(counts: &mut Counts, name: &str) {
    let name: String = name.chars().take(300).collect();
    if counts.failures.len() < MOST_FAILURES && !counts.failures.contains(&name) {
        counts.failures.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(output: &str) -> (u32, u32, u32, Vec<String>) {
        let counts = from_output(output).unwrap();
        (
            counts.passed,
            counts.failed,
            counts.skipped,
            counts.failures,
        )
    }

    #[test]
    fn several_test_binaries_are_summed_up() {
        let output = "test a::b ... ok\ntest a::c ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\ntest result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(counted(output), (4, 1, 2, vec!["a::c".to_owned()]));
    }

    #[test]
    fn unittest_tells_its_failures_at_the_end() {
        let output = "ERROR: test_x (t.T.test_x)\n----\nRan 5 tests in 0.001s\n\nFAILED (failures=1, errors=1, skipped=1)\n";
        assert_eq!(
            counted(output),
            (2, 2, 1, vec!["test_x (t.T.test_x)".to_owned()])
        );
        assert_eq!(counted("Ran 1 test in 0.1s\n\nOK\n"), (1, 0, 0, vec![]));
        assert_eq!(counted("Ran 0 tests in 0.0s\n\nOK\n"), (0, 0, 0, vec![]));
    }

    #[test]
    fn pytest_is_read_with_and_without_its_frame() {
        let output = "FAILED tests/test_a.py::test_b - assert 1 == 2\n=== 1 failed, 3 passed, 1 skipped in 0.12s ===\n";
        assert_eq!(
            counted(output),
            (3, 1, 1, vec!["tests/test_a.py::test_b".to_owned()])
        );
        assert_eq!(counted("3 passed in 0.01s\n"), (3, 0, 0, vec![]));
    }

    #[test]
    fn node_and_go_are_read() {
        assert_eq!(
            counted(
                "✖ breaks (1ms)\nℹ tests 3\nℹ pass 1\nℹ fail 1\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0\n"
            ),
            (1, 1, 1, vec!["breaks (1ms)".to_owned()])
        );
        assert_eq!(
            counted("--- PASS: TestA (0.00s)\n    --- FAIL: TestB/sub (0.00s)\nFAIL\n"),
            (1, 1, 0, vec!["TestB/sub".to_owned()])
        );
    }

    #[test]
    fn output_without_a_summary_counts_nothing() {
        assert_eq!(from_output("all good!\n"), None);
        assert_eq!(from_output(""), None);
    }
}
