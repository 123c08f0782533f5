//! Reads the summaries that `unittest` and `pytest` print, for runs without a JUnit report.
//! Knows the two summaries and the lines that name failed tests; nothing of tracebacks.

use agent_runtime::test_report::{CaseStatus, ReportError, TestCase, TestReport};

use super::text::{counted_words, leading_number, plain};

/// Reads the output of `python -m unittest` or `pytest`; the last summary counts.
///
/// # Errors
///
/// `Missing` without a summary, `Contradictory` when the counts of the summary do not add up.
pub fn parse(output: &str) -> Result<TestReport, ReportError> {
    let output = plain(output);
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let unittest = lines.iter().rposition(|line| ran(line).is_some());
    let pytest = lines
        .iter()
        .rposition(|line| pytest_summary(line).is_some());
    let mut report = match (unittest, pytest) {
        (Some(at), pytest) if pytest.is_none_or(|pytest| pytest < at) => {
            read_unittest(lines.get(at..).unwrap_or_default())?
        }
        (_, Some(at)) => lines
            .get(at)
            .and_then(|line| pytest_summary(line))
            .unwrap_or_default(),
        _ => return Err(ReportError::Missing),
    };
    report.cases = lines.iter().filter_map(|line| named(line)).collect();
    report.cases.dedup();
    Ok(report)
}

/// `Ran 3 tests in 0.001s`
fn ran(line: &str) -> Option<u64> {
    let (count, rest) = leading_number(line.strip_prefix("Ran ")?)?;
    (rest.starts_with(" test in ") || rest.starts_with(" tests in ")).then_some(count)
}

fn read_unittest(lines: &[&str]) -> Result<TestReport, ReportError> {
    let ran = lines.first().and_then(|line| ran(line)).unwrap_or(0);
    let verdict = lines
        .iter()
        .skip(1)
        .find(|line| {
            ["OK", "FAILED", "NO TESTS RAN"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .ok_or_else(|| ReportError::Contradictory("`Ran …` without its result".into()))?;
    let details = verdict
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or_default();
    let count = |name: &str| -> u64 {
        details
            .split(", ")
            .filter_map(|part| part.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0)
    };
    let failed = count("failures") + count("errors") + count("unexpected successes");
    let skipped = count("skipped") + count("expected failures");
    if verdict.starts_with("FAILED") && failed == 0 {
        return Err(ReportError::Contradictory(format!(
            "`{verdict}` without a failure"
        )));
    }
    if verdict.starts_with("OK") && failed > 0 {
        return Err(ReportError::Contradictory(format!("`{verdict}`")));
    }
    Ok(TestReport {
        // Errors of set-up code are errors without a test that ran.
        passed_count: ran.saturating_sub(failed).saturating_sub(skipped),
        failed_count: failed,
        skipped_count: skipped,
        cases: Vec::new(),
    })
}

/// `===== 3 passed, 1 failed, 2 skipped in 0.12s =====`, with `-q` without the bars.
fn pytest_summary(line: &str) -> Option<TestReport> {
    let inner = line.trim_matches(['=', ' ']);
    if inner.starts_with("no tests ran in ") || inner == "no tests ran" {
        return Some(TestReport::default());
    }
    let (counts, time) = inner.rsplit_once(" in ")?;
    leading_number(time)?;
    let words = counted_words(counts);
    let known = |word: &str| {
        matches!(
            word,
            "passed"
                | "failed"
                | "error"
                | "errors"
                | "skipped"
                | "deselected"
                | "xfailed"
                | "xpassed"
                | "warning"
                | "warnings"
                | "rerun"
                | "subtests passed"
        )
    };
    if words.is_empty()
        || words.len() != counts.split(',').count()
        || !words.iter().all(|(_, word)| known(word))
    {
        return None;
    }
    let count = |names: &[&str]| -> u64 {
        words
            .iter()
            .filter(|(_, word)| names.contains(word))
            .map(|(count, _)| count)
            .sum()
    };
    Some(TestReport {
        passed_count: count(&["passed", "xpassed"]),
        failed_count: count(&["failed", "error", "errors"]),
        skipped_count: count(&["skipped", "xfailed"]),
        cases: Vec::new(),
    })
}

/// `FAIL: test_tax (tests.test_shop.Prices.test_tax)` or `FAILED tests/test_shop.py::test_tax - assert …`.
fn named(line: &str) -> Option<TestCase> {
    let (suite, name, message) = if let Some(rest) = line
        .strip_prefix("FAIL: ")
        .or_else(|| line.strip_prefix("ERROR: "))
    {
        let (name, suite) = rest.split_once(" (")?;
        (
            suite.trim_end_matches(')').to_owned(),
            name.to_owned(),
            None,
        )
    } else {
        let rest = line
            .strip_prefix("FAILED ")
            .or_else(|| line.strip_prefix("ERROR "))?;
        let (id, message) = rest
            .split_once(" - ")
            .map_or((rest, None), |(id, message)| (id, Some(message)));
        let (suite, name) = id.split_once("::")?;
        (
            suite.to_owned(),
            name.to_owned(),
            message.map(ToOwned::to_owned),
        )
    };
    Some(TestCase {
        suite,
        name,
        status: CaseStatus::Failed,
        message,
        duration: None,
        place: None,
    })
}

#[cfg(test)]
mod tests {
    use agent_runtime::test_report::ReportError;

    use super::parse;

    fn counts(output: &str) -> (u64, u64, u64) {
        let report = parse(output).unwrap();
        (
            report.passed_count,
            report.failed_count,
            report.skipped_count,
        )
    }

    #[test]
    fn unittest_summaries_are_read() {
        assert_eq!(
            counts("...\n----\nRan 3 tests in 0.001s\n\nOK\n"),
            (3, 0, 0)
        );
        assert_eq!(
            counts("Ran 3 tests in 0.001s\n\nOK (skipped=1)\n"),
            (2, 0, 1)
        );
        assert_eq!(
            counts("Ran 5 tests in 0.0s\n\nFAILED (failures=1, errors=1, skipped=1)\n"),
            (2, 2, 1)
        );
        assert_eq!(counts("Ran 0 tests in 0.000s\n\nNO TESTS RAN\n"), (0, 0, 0));
        assert_eq!(counts("Ran 0 tests in 0.000s\n\nOK\n"), (0, 0, 0));
    }

    #[test]
    fn pytest_summaries_are_read() {
        assert_eq!(
            counts("==== 3 passed, 1 skipped in 0.12s ====\n"),
            (3, 0, 1)
        );
        assert_eq!(counts("1 failed, 2 passed, 1 warning in 1.2s\n"), (2, 1, 0));
        assert_eq!(counts("==== no tests ran in 0.01s ====\n"), (0, 0, 0));
        assert_eq!(
            counts("==== 2 passed, 1 error in 65.00s (0:01:05) ====\n"),
            (2, 1, 0)
        );
    }

    #[test]
    fn failed_tests_are_named() {
        let report = parse(
            "FAIL: test_tax (tests.test_shop.Prices.test_tax)\nRan 1 test in 0.0s\n\nFAILED (failures=1)\n",
        )
        .unwrap();
        assert_eq!(report.cases[0].name, "test_tax");
        let report =
            parse("FAILED tests/test_a.py::test_b - assert 1 == 2\n1 failed in 0.1s\n").unwrap();
        assert_eq!(report.cases[0].name, "test_b");
    }

    #[test]
    fn lies_and_silence_are_refused() {
        assert!(matches!(
            parse("Ran 3 tests in 0.001s\n\nOK (failures=2)\n"),
            Err(ReportError::Contradictory(_))
        ));
        assert!(matches!(
            parse("Ran 3 tests in 0.001s\n"),
            Err(ReportError::Contradictory(_))
        ));
        assert_eq!(parse("all good in 3 minutes\n"), Err(ReportError::Missing));
    }
}
