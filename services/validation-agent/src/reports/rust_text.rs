//! Reads what `cargo test` prints: one `running N tests` and one `test result:` line per test binary.
//! Knows nothing of cargo's own messages beyond the name of the binary that ran.

use agent_runtime::test_report::{CaseStatus, ReportError, TestCase, TestReport};

use super::text::{counted_words, leading_number, plain};

/// Reads the output of `cargo test`, standard output and error in the order they came.
///
/// # Errors
///
/// `Missing` without any result line, `Contradictory` where a binary lists other tests than it sums up, or
/// announced tests and never summed them up (it was killed).
pub fn parse(output: &str) -> Result<TestReport, ReportError> {
    let mut report = TestReport::default();
    let mut binary = String::new();
    let mut announced: Option<u64> = None;
    let mut summaries = 0_u32;
    let mut contradiction = None;
    for line in plain(output).lines() {
        let line = line.trim();
        if let Some(name) = binary_name(line) {
            binary = name;
        } else if let Some(count) = announcement(line) {
            if announced.is_some() {
                contradiction.get_or_insert_with(|| unfinished(&binary));
            }
            announced = Some(count);
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            let counts = Counts::read(summary)
                .ok_or_else(|| ReportError::Unparsable(format!("`{line}`")))?;
            summaries += 1;
            if announced.take()
                != Some(counts.passed + counts.failed + counts.ignored + counts.measured)
            {
                contradiction.get_or_insert_with(|| {
                    format!("`{binary}` announces other tests than it sums up")
                });
            }
            if counts.ok != (counts.failed == 0) {
                contradiction.get_or_insert_with(|| format!("`{line}`"));
            }
            report.passed_count += counts.passed + counts.measured;
            report.failed_count += counts.failed;
            report.skipped_count += counts.ignored;
        } else if let Some(case) = case(line, &binary) {
            report.cases.push(case);
        }
    }
    if announced.is_some() {
        contradiction.get_or_insert_with(|| unfinished(&binary));
    }
    match contradiction {
        Some(contradiction) if report.failed_count == 0 => {
            Err(ReportError::Contradictory(contradiction))
        }
        None if summaries == 0 => Err(ReportError::Missing),
        _ => Ok(report),
    }
}

fn unfinished(binary: &str) -> String {
    format!("`{binary}` began its tests and never summed them up")
}

/// `Running unittests src/lib.rs (target/debug/deps/x-0123)` or `Doc-tests x`.
fn binary_name(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("Running ") {
        let name = rest.split(" (").next()?;
        return Some(name.trim_start_matches("unittests ").to_owned());
    }
    line.strip_prefix("Doc-tests ")
        .map(|name| format!("doc tests of {name}"))
}

fn announcement(line: &str) -> Option<u64> {
    let (count, rest) = leading_number(line.strip_prefix("running ")?)?;
    matches!(rest, " test" | " tests").then_some(count)
}

fn case(line: &str, binary: &str) -> Option<TestCase> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (status, message) = match result {
        "ok" => (CaseStatus::Passed, None),
        "FAILED" => (CaseStatus::Failed, None),
        ignored if ignored.starts_with("ignored") => (
            CaseStatus::Skipped,
            ignored.strip_prefix("ignored, ").map(ToOwned::to_owned),
        ),
        // `ok <0.001s>` and `bench: …`.
        timed if timed.starts_with("ok <") || timed.starts_with("bench:") => {
            (CaseStatus::Passed, None)
        }
        _ => return None,
    };
    let name = name.trim_end_matches(" - should panic").to_owned();
    Some(TestCase {
        suite: binary.to_owned(),
        name,
        status,
        message,
        duration: None,
        place: None,
    })
}

struct Counts {
    ok: bool,
    passed: u64,
    failed: u64,
    ignored: u64,
    measured: u64,
}

impl Counts {
    /// `ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn read(summary: &str) -> Option<Self> {
        let (word, rest) = summary.split_once(". ")?;
        let ok = match word {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        let words = counted_words(rest);
        let count = |name: &str| {
            words
                .iter()
                .find(|(_, word)| *word == name)
                .map(|(count, _)| *count)
        };
        Some(Self {
            ok,
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
            measured: count("measured")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use agent_runtime::test_report::ReportError;

    use super::parse;

    const TWO_BINARIES: &str = "\
   Compiling shop v0.1.0
    Finished `test` profile in 0.42s
     Running unittests src/lib.rs (target/debug/deps/shop-1f2e)

running 3 tests
test prices::adds ... ok
test prices::rounds ... ignored, slow
test prices::tax - should panic ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/it.rs (target/debug/deps/it-77aa)

running 1 test
test serves ... FAILED

failures:

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn every_binary_is_counted() {
        let report = parse(TWO_BINARIES).unwrap();
        assert_eq!(
            (
                report.passed_count,
                report.failed_count,
                report.skipped_count
            ),
            (2, 1, 1)
        );
        let failure = report.failures().next().unwrap();
        assert_eq!(
            (failure.suite.as_str(), failure.name.as_str()),
            ("tests/it.rs", "serves")
        );
    }

    #[test]
    fn a_binary_that_never_sums_up_contradicts() {
        let killed = "running 3 tests\ntest a ... ok\n";
        assert!(matches!(parse(killed), Err(ReportError::Contradictory(_))));
        let first_killed = "running 3 tests\nrunning 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert!(matches!(
            parse(first_killed),
            Err(ReportError::Contradictory(_))
        ));
    }

    #[test]
    fn a_result_line_without_its_announcement_contradicts() {
        let forged = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert!(matches!(parse(forged), Err(ReportError::Contradictory(_))));
    }

    #[test]
    fn no_result_line_is_no_report() {
        assert_eq!(
            parse("    Finished `test` profile\n"),
            Err(ReportError::Missing)
        );
    }

    #[test]
    fn filtered_out_tests_do_not_count() {
        let output = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s\n";
        assert_eq!(parse(output).unwrap().executed_count(), 0);
    }
}
