//! Suites that are a program of the project's own: its JUnit report tells the tests; without one, the program
//! is one test. Report and exit code must agree.

use std::{fs, io, path::Path};

use agent_runtime::{
    process::{Command, Ending, Finished},
    project::{Argv, Report},
    test_report::{CaseStatus, MAXIMUM_REPORT_BYTES, TestReport, junit},
};

use super::{Doubt, Place, PlannedSuite, Run, doubt_of, not_run, prepared, read_report};
use crate::tally::Seen;

/// How many lines of its output a program is quoted with.
const QUOTED_LINES: usize = 15;

pub(super) async fn run(
    argv: &Argv,
    report: Option<&Report>,
    suite: &PlannedSuite,
    place: &Place,
) -> Run {
    let file = report.map(|report| place.checkout.join(report.junit.as_str()));
    if let Some(file) = &file
        && let Err(error) = remove_old(file)
    {
        let problem = format!(
            "an old report at {} cannot be removed: {error}",
            file.display()
        );
        return Run::doubtful(Doubt::NotRun(problem));
    }
    let command = prepared(Command::new(argv.as_slice().iter().cloned()), suite, place);
    let finished = match command.run().await {
        Ok(finished) => finished,
        Err(error) => return Run::doubtful(not_run(&error)),
    };
    judged(finished, file.as_deref(), suite)
}

/// What a finished program and its report say together.
pub(super) fn judged(finished: Finished, file: Option<&Path>, suite: &PlannedSuite) -> Run {
    let mut run = Run {
        doubt: doubt_of(finished.ending, suite),
        ..Run::default()
    };
    match file {
        None if run.doubt.is_none() => run.seen.push((suite.name.clone(), whole(&finished))),
        None => {}
        Some(file) => {
            if file.is_file() {
                run.reports.push((
                    format!("{}.junit.xml", suite.name),
                    "application/xml",
                    file.to_owned(),
                ));
            }
            if run.doubt.is_none() {
                let report = read_report(file, MAXIMUM_REPORT_BYTES);
                compare(&mut run, &finished, report, suite);
            }
        }
    }
    run.runs.push(finished);
    run
}

fn compare(
    run: &mut Run,
    finished: &Finished,
    report: io::Result<Option<Vec<u8>>>,
    suite: &PlannedSuite,
) {
    let success = finished.ending == Ending::Exited(0);
    let parsed = match report {
        Err(error) => Err(format!("its report cannot be read: {error}")),
        Ok(None) => Err("it left no report".to_owned()),
        Ok(Some(bytes)) => junit::parse(&bytes).map_err(|error| error.to_string()),
    };
    match parsed {
        Err(problem) if success => {
            run.doubt = Some(Doubt::Contradiction(format!(
                "it says that all went well, but {problem}"
            )));
        }
        // It broke before it could tell its tests: that is one failure, and a true one.
        Err(problem) => {
            let last = finished.last_lines(QUOTED_LINES);
            let message = format!(
                "{} and {problem}; the end of its output:\n{last}",
                finished.ending
            );
            run.seen.push((suite.name.clone(), Seen::failed(message)));
        }
        Ok(report) => {
            if success != (report.failed_count == 0) {
                run.doubt = Some(Doubt::Contradiction(format!(
                    "its report shows {} failed tests, but it ended with {}",
                    report.failed_count, finished.ending
                )));
            }
            run.seen = seen(report);
        }
    }
}

fn seen(report: TestReport) -> Vec<(String, Seen)> {
    report
        .cases
        .into_iter()
        .map(|case| {
            let name = if case.suite.is_empty() {
                case.name
            } else {
                format!("{}::{}", case.suite, case.name)
            };
            let seen = match case.status {
                CaseStatus::Passed => Seen::Passed,
                CaseStatus::Skipped => Seen::Skipped,
                CaseStatus::Failed => Seen::failed(
                    case.message
                        .unwrap_or_else(|| "it failed and says nothing".to_owned()),
                ),
            };
            (name, seen)
        })
        .collect()
}

fn whole(finished: &Finished) -> Seen {
    if finished.ending == Ending::Exited(0) {
        return Seen::Passed;
    }
    let last = finished.last_lines(QUOTED_LINES);
    Seen::failed(format!(
        "{}; the end of its output:\n{last}",
        finished.ending
    ))
}

/// A report that was there before the run must not be taken for the run's own.
fn remove_old(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
