//! Coverage of the whole and of the changed lines, measured where the tests measured it. Tests do not count: that
//! they run says nothing about the code.

use std::collections::HashSet;

use agent_runtime::project::Metric;

use super::Change;
use crate::{
    assessment::CheckOutcome,
    coverage::Coverage,
    findings::{Finding, MAXIMUM_FINDINGS, Severity},
    gates::{Measurements, Number},
    judge::is_test_path,
    verdict::Judgement,
};

pub(super) struct Covered {
    pub(super) outcome: CheckOutcome,
    pub(super) measurements: Measurements,
}

pub(super) fn outcome(
    coverage: Option<&Result<Coverage, String>>,
    change: Option<&Change>,
) -> Covered {
    let mut measurements = Measurements::default();
    let mut findings = Vec::new();
    let judgement = match coverage {
        Some(Ok(coverage)) => {
            let mut coverage = coverage.clone();
            coverage.retain(|path| !is_test_path(path));
            whole(&coverage, &mut measurements);
            if let Some(change) = change {
                findings = changed(&coverage, change, &mut measurements);
            }
            match coverage.line_percent() {
                Some(percent) => {
                    Judgement::passed(format!("{} % of lines run in tests", Number(percent)))
                }
                None => {
                    Judgement::not_proven("the coverage report knows no line but those of tests")
                }
            }
        }
        Some(Err(reason)) => Judgement::not_proven(reason.clone()),
        None => Judgement::not_proven("no check measures coverage"),
    };
    for metric in [
        Metric::LineCoveragePercent,
        Metric::BranchCoveragePercent,
        Metric::NewCodeLineCoveragePercent,
    ] {
        measurements.missing(
            metric,
            match &coverage {
                Some(Err(reason)) => reason.clone(),
                None => "no check measures coverage".to_owned(),
                Some(Ok(_)) => "the coverage report does not tell".to_owned(),
            },
        );
    }
    Covered {
        outcome: CheckOutcome {
            name: "coverage".to_owned(),
            judgement,
            blocking: false,
            origin: "built-in".to_owned(),
            tool_run: None,
            report: None,
            findings,
            cached: false,
            waiver: None,
        },
        measurements,
    }
}

/// Whole-project figures; also of the base, for gates that compare with it.
pub(super) fn whole(coverage: &Coverage, measurements: &mut Measurements) {
    if let Some(percent) = coverage.line_percent() {
        measurements.measured(Metric::LineCoveragePercent, percent, "coverage of tests");
    }
    if let Some(percent) = coverage.branch_percent() {
        measurements.measured(Metric::BranchCoveragePercent, percent, "coverage of tests");
    }
}

fn changed(coverage: &Coverage, change: &Change, measurements: &mut Measurements) -> Vec<Finding> {
    let extension = |path: &str| {
        path.rsplit_once('.')
            .map(|(_, extension)| extension.to_owned())
    };
    let measured: HashSet<String> = coverage.paths().filter_map(extension).collect();
    let mut added = change.added.clone();
    added.retain(|path, _| !is_test_path(path));
    // A file that no test loads is in no report: its lines that look like code count as not run.
    let executable = |path: &str, line: u32| {
        extension(path).is_some_and(|extension| measured.contains(&extension))
            && change
                .files
                .iter()
                .find(|file| file.path == path)
                .and_then(|file| file.after.as_deref())
                .and_then(|text| text.lines().nth(line.saturating_sub(1) as usize))
                .is_some_and(is_code)
    };
    let new = coverage.of_new_code(&added, executable);
    measurements.new_code_line_count = Some(new.executable_count);
    match new.percent() {
        Some(percent) => measurements.measured(
            Metric::NewCodeLineCoveragePercent,
            percent,
            "coverage of changed lines",
        ),
        None => measurements.missing(
            Metric::NewCodeLineCoveragePercent,
            "no changed line can run",
        ),
    }
    new.uncovered
        .iter()
        .flat_map(|(path, lines)| lines.iter().map(move |line| (path, *line)))
        .take(MAXIMUM_FINDINGS)
        .map(|(path, line)| {
            Finding::new(
                "agentic",
                "coverage:new-line-not-run",
                Severity::Note,
                "no test runs this changed line",
            )
            .at(path, line, None)
        })
        .collect()
}

/// Not blank, no comment, more than brackets.
fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty()
        && ![
            "//", "#", "*", "/*", "--", "\"\"\"", "'''", "import ", "use ", "from ", "package ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
        && line.chars().any(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use agent_runtime::project::Metric;

    use super::{Change, Coverage, outcome};
    use crate::{judge::ChangedFile, verdict::Verdict};

    fn change() -> Change {
        let new = ChangedFile {
            path: "shop/new.py".into(),
            after: Some("# comment\n\ndef f():\n    return 1\n".into()),
            ..ChangedFile::default()
        };
        Change {
            files: vec![new],
            added: BTreeMap::from([
                ("shop/new.py".to_owned(), BTreeSet::from([1, 2, 3, 4])),
                ("shop/old.py".to_owned(), BTreeSet::from([1, 2])),
                ("tests/test_a.py".to_owned(), BTreeSet::from([1, 2, 3])),
            ]),
        }
    }

    #[test]
    fn tests_do_not_count_and_unloaded_files_do() {
        let mut coverage = Coverage::default();
        coverage.add("shop/old.py", BTreeMap::from([(1, 1), (2, 1)]), (0, 0));
        coverage.add(
            "tests/test_a.py",
            BTreeMap::from([(1, 1), (2, 1), (3, 1)]),
            (0, 0),
        );
        let covered = outcome(Some(&Ok(coverage)), Some(&change()));
        assert_eq!(covered.measurements.new_code_line_count, Some(4));
        let percent = covered.measurements.values[&Metric::NewCodeLineCoveragePercent].value;
        assert!((percent - 50.0).abs() < 1e-9);
        assert_eq!(covered.outcome.findings.len(), 2);
    }

    #[test]
    fn coverage_that_was_not_measured_is_not_proven() {
        let covered = outcome(None, Some(&change()));
        assert_eq!(covered.outcome.judgement.verdict, Verdict::NotProven);
        assert!(!covered.outcome.blocking);
        assert!(
            covered
                .measurements
                .missing
                .contains_key(&Metric::LineCoveragePercent)
        );
    }
}
