//! Reads what JavaScript test runners print: `node --test` (TAP and spec), plain TAP, mocha, jest and
//! vitest. Knows their summaries; nothing of stack traces and coverage tables.

use agent_runtime::test_report::{CaseStatus, ReportError, TestCase, TestReport};

use super::text::{counted_words, leading_number, plain};

/// Reads the output of a JavaScript test run: the most exact form that is there wins.
///
/// # Errors
///
/// `Missing` without any summary, `Contradictory` when plan, lines and sums disagree.
pub fn parse(output: &str) -> Result<TestReport, ReportError> {
    let output = plain(output);
    let readers = [node_summary, tap, jest, mocha];
    for read in readers {
        if let Some(report) = read(&output) {
            let mut report = report?;
            if report.cases.is_empty() {
                report.cases = output.lines().filter_map(failed_line).collect();
            }
            return Ok(report);
        }
    }
    Err(ReportError::Missing)
}

type Reading = Option<Result<TestReport, ReportError>>;

/// `# tests 5` … (TAP) or `ℹ tests 5` … (spec). Several processes (workspaces) add up.
fn node_summary(output: &str) -> Reading {
    let mut sums = [0_u64; 6];
    let names = ["tests", "pass", "fail", "cancelled", "skipped", "todo"];
    let mut found = [0_u32; 6];
    for line in output.lines() {
        let Some(rest) = line
            .strip_prefix("# ")
            .or_else(|| line.strip_prefix("\u{2139} "))
        else {
            continue;
        };
        let Some((name, count)) = rest.split_once(' ') else {
            continue;
        };
        let Some(at) = names.iter().position(|known| *known == name) else {
            continue;
        };
        if let Ok(count) = count.trim().parse::<u64>()
            && let (Some(sum), Some(found)) = (sums.get_mut(at), found.get_mut(at))
        {
            *sum = sum.saturating_add(count);
            *found += 1;
        }
    }
    let [tests, pass, fail, cancelled, skipped, todo] = sums;
    if found.iter().take(3).any(|&times| times == 0) {
        return None;
    }
    let failed = fail.saturating_add(cancelled);
    let sum = pass
        .saturating_add(failed)
        .saturating_add(skipped)
        .saturating_add(todo);
    if sum != tests && failed == 0 {
        return Some(Err(ReportError::Contradictory(format!(
            "{tests} tests, but {sum} results"
        ))));
    }
    Some(Ok(TestReport {
        passed_count: pass,
        failed_count: failed,
        skipped_count: skipped.saturating_add(todo),
        cases: Vec::new(),
    }))
}

/// `ok 1 - name`, `not ok 2 - name # TODO why`, with its plan `1..2`. Only the outermost level is counted.
fn tap(output: &str) -> Reading {
    let mut cases = Vec::new();
    let mut plan = None;
    let mut is_tap = false;
    for line in output.lines() {
        is_tap |= line.starts_with("TAP version ");
        if let Some(end) = line.strip_prefix("1..").and_then(leading_number) {
            plan = Some(end.0);
        } else if line.starts_with("Bail out!") {
            return Some(Err(ReportError::Contradictory("the run bailed out".into())));
        }
        let (held, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => continue,
        };
        let rest = leading_number(rest).map_or(rest, |(_, rest)| rest);
        let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
        let directive = directive.to_ascii_uppercase();
        let status = if directive.starts_with("SKIP") || directive.starts_with("TODO") {
            CaseStatus::Skipped
        } else if held {
            CaseStatus::Passed
        } else {
            CaseStatus::Failed
        };
        cases.push(TestCase {
            suite: String::new(),
            name: name.trim_start_matches(['-', ' ']).to_owned(),
            status,
            message: None,
            duration: None,
            place: None,
        });
    }
    if !is_tap && plan.is_none() {
        return None;
    }
    let count = cases.len() as u64;
    let report = TestReport::from_cases(cases);
    match plan {
        None => Some(Err(ReportError::Contradictory(
            "TAP without its plan".into(),
        ))),
        Some(plan) if plan != count && report.failed_count == 0 => Some(Err(
            ReportError::Contradictory(format!("{plan} tests planned, {count} reported")),
        )),
        Some(_) => Some(Ok(report)),
    }
}

/// jest: `Tests:       1 failed, 2 skipped, 5 passed, 8 total`; vitest: `Tests  1 failed | 5 passed (6)`.
fn jest(output: &str) -> Reading {
    let mut report = TestReport::default();
    let mut found = false;
    for line in output.lines().map(str::trim) {
        let (counts, total) = if let Some(rest) = line.strip_prefix("Tests:") {
            let words = counted_words(rest);
            let total = words
                .iter()
                .find(|(_, word)| *word == "total")
                .map(|(count, _)| *count);
            (rest.to_owned(), total)
        } else if let Some(rest) = line.strip_prefix("Tests ").map(str::trim)
            && let Some((counts, total)) = rest.rsplit_once('(')
        {
            (
                counts.replace('|', ","),
                total.trim_end_matches(')').parse().ok(),
            )
        } else {
            continue;
        };
        let Some(total) = total else { continue };
        let words = counted_words(&counts);
        let count = |names: &[&str]| -> u64 {
            words
                .iter()
                .filter(|(_, word)| names.contains(word))
                .map(|(count, _)| count)
                .sum()
        };
        let (passed, failed) = (count(&["passed"]), count(&["failed"]));
        let skipped = count(&["skipped", "todo", "pending"]);
        if passed + failed + skipped != total && failed == 0 {
            return Some(Err(ReportError::Contradictory(format!("`{line}`"))));
        }
        found = true;
        report.passed_count += passed;
        report.failed_count += failed;
        report.skipped_count += skipped;
    }
    found.then_some(Ok(report))
}

/// `  5 passing (12ms)`, `  1 failing`, `  2 pending`.
fn mocha(output: &str) -> Reading {
    let mut report = TestReport::default();
    let mut found = false;
    for line in output.lines().map(str::trim) {
        let Some((count, rest)) = leading_number(line) else {
            continue;
        };
        let word = rest.trim().split(' ').next().unwrap_or_default();
        match word {
            "passing" => {
                found = true;
                report.passed_count += count;
            }
            "failing" => report.failed_count += count,
            "pending" => report.skipped_count += count,
            _ => {}
        }
    }
    found.then_some(Ok(report))
}

/// A failed test as TAP or spec name it.
fn failed_line(line: &str) -> Option<TestCase> {
    let line = line.trim();
    let name = if let Some(rest) = line.strip_prefix("not ok ") {
        let (_, rest) = leading_number(rest)?;
        rest.trim_start_matches(['-', ' '])
    } else {
        line.strip_prefix("\u{2716} ")?
    };
    if name == "failing tests:" {
        return None;
    }
    Some(TestCase {
        suite: String::new(),
        name: name.to_owned(),
        status: CaseStatus::Failed,
        message: None,
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
    fn node_summaries_are_read_in_both_forms() {
        let tap = "TAP version 13\n# Subtest: adds\nok 1 - adds\nnot ok 2 - tax\n1..2\n# tests 2\n# suites 0\n# pass 1\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n";
        assert_eq!(counts(tap), (1, 1, 0));
        let spec = "✔ adds (0.5ms)\nℹ tests 3\nℹ suites 0\nℹ pass 2\nℹ fail 0\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0\n";
        assert_eq!(counts(spec), (2, 0, 1));
        let lying = "# tests 3\n# pass 2\n# fail 0\n";
        assert!(matches!(parse(lying), Err(ReportError::Contradictory(_))));
        assert_eq!(counts("# tests 0\n# pass 0\n# fail 0\n"), (0, 0, 0));
    }

    #[test]
    fn plain_tap_needs_its_plan() {
        assert_eq!(
            counts("TAP version 13\nok 1 - a\nok 2 - b # SKIP later\n1..2\n"),
            (1, 0, 1)
        );
        assert_eq!(counts("1..2\nok 1 a\nnot ok 2 b\n"), (1, 1, 0));
        assert!(matches!(
            parse("1..3\nok 1 a\n"),
            Err(ReportError::Contradictory(_))
        ));
        assert!(matches!(
            parse("TAP version 13\nok 1 a\n"),
            Err(ReportError::Contradictory(_))
        ));
    }

    #[test]
    fn jest_vitest_and_mocha_summaries_are_read() {
        assert_eq!(
            counts(
                "Test Suites: 1 passed, 1 total\nTests:       1 failed, 2 skipped, 5 passed, 8 total\n"
            ),
            (5, 1, 2)
        );
        assert_eq!(
            counts(" Test Files  1 passed (1)\n      Tests  1 failed | 5 passed (6)\n"),
            (5, 1, 0)
        );
        assert_eq!(
            counts("\n  5 passing (12ms)\n  2 pending\n  1 failing\n"),
            (5, 1, 2)
        );
        assert!(matches!(
            parse("Tests:       5 passed, 8 total\n"),
            Err(ReportError::Contradictory(_))
        ));
    }

    #[test]
    fn output_without_a_summary_is_no_report() {
        assert_eq!(parse("everything is fine\n"), Err(ReportError::Missing));
    }
}
