//! What a test run said about itself, read into one form whatever tool wrote it. Refuses to know how the
//! process ended, and what the numbers are worth.

pub mod junit;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Reports larger than this are refused: nobody reads them, and they are a way to stall an agent.
pub const MAXIMUM_REPORT_BYTES: usize = 64 * 1024 * 1024;

/// Why a report counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// There is no such file, or no summary in the output.
    #[error("there is no report")]
    Missing,
    /// Nothing in it.
    #[error("the report is empty")]
    Empty,
    /// Not in the form that it should be in.
    #[error("the report cannot be read: {0}")]
    Unparsable(String),
    /// It says two things at once.
    #[error("the report contradicts itself: {0}")]
    Contradictory(String),
    /// It was there before the run.
    #[error("the report is older than the run")]
    Stale,
    /// Larger than we read.
    #[error("the report is larger than {MAXIMUM_REPORT_BYTES} bytes")]
    TooLarge,
}

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaseStatus {
    /// Ran and held.
    Passed,
    /// Ran and did not hold, or broke.
    Failed,
    /// Did not run.
    Skipped,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// Suite, class, file or binary that it belongs to; may be empty.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: CaseStatus,
    /// What it said when it failed or was skipped.
    pub message: Option<String>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// Where it is, when the report says so.
    pub place: Option<(String, u32)>,
}

/// What a run said about its tests. Text output may count more than it names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Tests that ran and held.
    pub passed_count: u64,
    /// Tests that ran and did not hold, or broke.
    pub failed_count: u64,
    /// Tests that did not run.
    pub skipped_count: u64,
    /// The tests that it names.
    pub cases: Vec<TestCase>,
}

impl TestReport {
    /// Counts the cases themselves.
    pub fn from_cases(cases: Vec<TestCase>) -> Self {
        let count = |status| cases.iter().filter(|case| case.status == status).count() as u64;
        Self {
            passed_count: count(CaseStatus::Passed),
            failed_count: count(CaseStatus::Failed),
            skipped_count: count(CaseStatus::Skipped),
            cases,
        }
    }

    /// Tests that ran.
    pub fn executed_count(&self) -> u64 {
        self.passed_count.saturating_add(self.failed_count)
    }

    /// The tests that failed, as far as they are named.
    pub fn failures(&self) -> impl Iterator<Item = &TestCase> {
        self.cases
            .iter()
            .filter(|case| case.status == CaseStatus::Failed)
    }
}
