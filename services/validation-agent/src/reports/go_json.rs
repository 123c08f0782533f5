//! Reads the event stream of `go test -json`. Knows the events and nothing else of Go.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use agent_runtime::test_report::{CaseStatus, ReportError, TestCase, TestReport};

/// Messages keep the last lines of a test's output, this many bytes of them.
const MESSAGE_BYTES: usize = 4_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoEvent {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    elapsed: Option<f64>,
    #[serde(default)]
    output: Option<String>,
}

#[derive(Default)]
struct Seen {
    status: Option<CaseStatus>,
    elapsed: Option<Duration>,
    output: String,
}

/// Reads the output of `go test -json`. Lines that are no events (build errors on standard error) are passed over.
///
/// # Errors
///
/// `Missing` when no event is there, `Contradictory` when a package passed over a failed test.
pub fn parse(output: &str) -> Result<TestReport, ReportError> {
    let mut seen: BTreeMap<(String, String), Seen> = BTreeMap::new();
    let events = output
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str::<GoEvent>(line).ok());
    for event in events {
        if event.package.is_empty() {
            continue;
        }
        let entry = seen.entry((event.package, event.test)).or_default();
        match event.action.as_str() {
            "pass" | "bench" => entry.status = Some(CaseStatus::Passed),
            "fail" => entry.status = Some(CaseStatus::Failed),
            "skip" => entry.status = Some(CaseStatus::Skipped),
            "output" => entry
                .output
                .push_str(event.output.as_deref().unwrap_or_default()),
            _ => {}
        }
        if let Some(seconds) = event.elapsed {
            entry.elapsed = Duration::try_from_secs_f64(seconds).ok();
        }
    }
    if seen.is_empty() {
        return Err(ReportError::Missing);
    }
    let mut cases = Vec::new();
    let mut lying_package = None;
    for ((package, test), entry) in &seen {
        let failed_inside = seen.iter().any(|((other, name), entry)| {
            other == package
                && !name.is_empty()
                && entry.status != Some(CaseStatus::Passed)
                && entry.status != Some(CaseStatus::Skipped)
        });
        if test.is_empty() {
            match entry.status {
                Some(CaseStatus::Passed) if failed_inside => lying_package = Some(package.clone()),
                // The package itself broke: it did not build, or a test ended the process.
                Some(CaseStatus::Failed) | None if !failed_inside => {
                    cases.push(case(package, "(package)", CaseStatus::Failed, entry));
                }
                _ => {}
            }
            continue;
        }
        // A test that began and never ended took the process down with it.
        let status = entry.status.unwrap_or(CaseStatus::Failed);
        cases.push(case(package, test, status, entry));
    }
    let report = TestReport::from_cases(cases);
    match lying_package {
        Some(package) if report.failed_count == 0 => Err(ReportError::Contradictory(format!(
            "package `{package}` passed over a failed test"
        ))),
        _ => Ok(report),
    }
}

fn case(package: &str, name: &str, status: CaseStatus, seen: &Seen) -> TestCase {
    let message = (status != CaseStatus::Passed && !seen.output.is_empty()).then(|| {
        let mut start = seen.output.len().saturating_sub(MESSAGE_BYTES);
        while !seen.output.is_char_boundary(start) {
            start += 1;
        }
        seen.output.get(start..).unwrap_or_default().to_owned()
    });
    TestCase {
        suite: package.to_owned(),
        name: name.to_owned(),
        status,
        message,
        duration: seen.elapsed,
        place: None,
    }
}

#[cfg(test)]
mod tests {
    use agent_runtime::test_report::ReportError;

    use super::parse;

    #[test]
    fn events_become_cases() {
        let output = r#"{"Action":"start","Package":"shop"}
{"Action":"run","Package":"shop","Test":"TestAdd"}
{"Action":"output","Package":"shop","Test":"TestAdd","Output":"=== RUN   TestAdd\n"}
{"Action":"pass","Package":"shop","Test":"TestAdd","Elapsed":0.01}
{"Action":"run","Package":"shop","Test":"TestTax"}
{"Action":"output","Package":"shop","Test":"TestTax","Output":"    tax_test.go:9: want 3\n"}
{"Action":"fail","Package":"shop","Test":"TestTax","Elapsed":0}
{"Action":"skip","Package":"shop","Test":"TestSlow","Elapsed":0}
{"Action":"fail","Package":"shop","Elapsed":0.02}
"#;
        let report = parse(output).unwrap();
        assert_eq!(
            (
                report.passed_count,
                report.failed_count,
                report.skipped_count
            ),
            (1, 1, 1)
        );
        assert!(
            report
                .failures()
                .next()
                .unwrap()
                .message
                .as_deref()
                .unwrap()
                .contains("want 3")
        );
    }

    #[test]
    fn a_package_that_breaks_is_a_failure() {
        let build = r#"{"Action":"start","Package":"shop"}
{"Action":"output","Package":"shop","Output":"FAIL\tshop [build failed]\n"}
{"Action":"fail","Package":"shop","Elapsed":0}"#;
        assert_eq!(parse(build).unwrap().failed_count, 1);
        let exits = r#"{"Action":"run","Package":"shop","Test":"TestAdd"}
{"Action":"fail","Package":"shop","Elapsed":0}"#;
        assert_eq!(parse(exits).unwrap().failed_count, 1);
    }

    #[test]
    fn packages_without_tests_execute_none() {
        let output = r#"{"Action":"start","Package":"shop"}
{"Action":"output","Package":"shop","Output":"?   \tshop\t[no test files]\n"}
{"Action":"skip","Package":"shop","Elapsed":0}"#;
        assert_eq!(parse(output).unwrap().executed_count(), 0);
    }

    #[test]
    fn text_without_events_is_no_report() {
        assert_eq!(parse("ok  \tshop\t0.01s\n"), Err(ReportError::Missing));
    }
}
