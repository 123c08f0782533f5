//! What a test run said about itself, in the forms that only this agent reads: made one `TestReport`, then
//! judged together with how the process ended. Knows no project, no process and no policy.

pub mod cobertura;
pub mod go_cover;
pub mod go_json;
pub mod lcov;
pub mod node_text;
pub mod python_text;
pub mod rust_text;
mod text;

use std::time::Duration;

use agent_runtime::test_report::{ReportError, TestReport};

use crate::verdict::Judgement;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(i32),
    /// Killed by a signal that was not ours.
    Signalled(i32),
    /// Killed by us because its time was over.
    TimedOut(Duration),
    /// It is not installed on this machine.
    NotFound(String),
    /// The commit does not have the program or folder that the check names.
    Absent(String),
}

impl Ending {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Exited(code) => format!("exited with {code}"),
            Self::Signalled(signal) => format!("killed by signal {signal}"),
            Self::TimedOut(limit) => format!("timed out after {}s", limit.as_secs_f64()),
            // Not a name: what a tool said about a toolchain that is too old.
            Self::NotFound(said)
                if said.contains(" is not supported") || said.contains(" requires ") =>
            {
                said.clone()
            }
            Self::NotFound(program) => format!("`{program}` is not installed"),
            Self::Absent(path) => format!("the commit has no `{path}`"),
        }
    }
}

/// Judges a test run by how it ended and what it reported: both must agree, the worse wins.
pub fn judge_tests(ending: &Ending, report: &Result<TestReport, ReportError>) -> Judgement {
    let executed = report.as_ref().map_or(0, TestReport::executed_count);
    let failed = report.as_ref().map_or(0, |report| report.failed_count);
    match (ending, report) {
        (Ending::NotFound(_), _) => Judgement::not_proven(ending.describe()),
        (Ending::TimedOut(_) | Ending::Signalled(_) | Ending::Absent(_), _) => {
            Judgement::failed(ending.describe())
        }
        (Ending::Exited(_), Ok(_)) if failed > 0 => {
            Judgement::failed(format!("{failed} of {executed} tests failed"))
        }
        (Ending::Exited(0), Ok(report)) if executed == 0 && report.skipped_count > 0 => {
            Judgement::not_proven(format!("all {} tests were skipped", report.skipped_count))
        }
        (Ending::Exited(0), Ok(_)) if executed == 0 => {
            Judgement::not_proven("no test was executed")
        }
        (Ending::Exited(0), Ok(_)) => Judgement::passed(format!("{executed} tests passed")),
        (Ending::Exited(0), Err(error)) => Judgement::not_proven(error.to_string()),
        (Ending::Exited(code), Ok(_)) if executed == 0 => Judgement::failed(format!(
            "the runner exited with {code} before any test was executed"
        )),
        (Ending::Exited(code), Ok(_)) => Judgement::failed(format!(
            "the report shows {executed} passing tests, but the runner exited with {code}"
        )),
        (Ending::Exited(code), Err(error)) => {
            Judgement::failed(format!("the runner exited with {code}, and {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_runtime::test_report::{ReportError, TestReport};

    use crate::verdict::Verdict;

    use super::{Ending, judge_tests};

    fn report(passed_count: u64, failed_count: u64, skipped_count: u64) -> TestReport {
        TestReport {
            passed_count,
            failed_count,
            skipped_count,
            cases: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_judged_by_report_and_exit_code_together() {
        let table = [
            (Ending::Exited(0), Ok(report(3, 0, 1)), Verdict::Passed),
            (Ending::Exited(0), Ok(report(3, 1, 0)), Verdict::Failed),
            (Ending::Exited(1), Ok(report(3, 1, 0)), Verdict::Failed),
            (Ending::Exited(1), Ok(report(3, 0, 0)), Verdict::Failed),
            (Ending::Exited(0), Ok(report(0, 0, 0)), Verdict::NotProven),
            (Ending::Exited(0), Ok(report(0, 0, 4)), Verdict::NotProven),
            (Ending::Exited(1), Ok(report(0, 0, 0)), Verdict::Failed),
            (
                Ending::Exited(0),
                Err(ReportError::Missing),
                Verdict::NotProven,
            ),
            (
                Ending::Exited(0),
                Err(ReportError::Empty),
                Verdict::NotProven,
            ),
            (
                Ending::Exited(0),
                Err(ReportError::Stale),
                Verdict::NotProven,
            ),
            (
                Ending::Exited(2),
                Err(ReportError::Missing),
                Verdict::Failed,
            ),
            (Ending::Signalled(9), Ok(report(3, 0, 0)), Verdict::Failed),
            (
                Ending::TimedOut(Duration::from_secs(3)),
                Ok(report(3, 0, 0)),
                Verdict::Failed,
            ),
            (
                Ending::Absent("./check".into()),
                Err(ReportError::Missing),
                Verdict::Failed,
            ),
            (
                Ending::NotFound("go".into()),
                Err(ReportError::Missing),
                Verdict::NotProven,
            ),
        ];
        for (ending, report, expected) in table {
            let judgement = judge_tests(&ending, &report);
            assert_eq!(
                judgement.verdict, expected,
                "{ending:?} {report:?}: {}",
                judgement.reason
            );
        }
    }
}
