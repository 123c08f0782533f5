//! Tests, checks and gates as one JUnit report: a suite of checks, a suite of gates, and a suite for the tests
//! of every check that has some. NOT_PROVEN is an error where it stops the change, else skipped.

use agent_runtime::test_report::{CaseStatus, TestReport};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::{assessment::Assessment, verdict::Verdict};

pub(super) fn write(assessment: &Assessment) -> Result<Vec<u8>, SerializeError> {
    let mut report = Report::new("validation");
    let mut checks = TestSuite::new("checks");
    for check in &assessment.checks {
        let status = status(
            check.judgement.verdict,
            check.stops(),
            &check.judgement.reason,
        );
        let mut case = TestCase::new(check.name.as_str(), status);
        case.set_classname("checks");
        if let Some(run) = &check.tool_run {
            case.set_time(run.duration);
        }
        checks.add_test_case(case);
    }
    report.add_test_suite(checks);
    let mut gates = TestSuite::new("gates");
    for gate in &assessment.gates {
        let mut case = TestCase::new(
            gate.gate.describe(),
            status(gate.verdict, gate.stops(), &gate.reason),
        );
        case.set_classname("gates");
        gates.add_test_case(case);
    }
    report.add_test_suite(gates);
    for check in &assessment.checks {
        if let Some(tests) = &check.report {
            report.add_test_suite(suite(&check.name, tests));
        }
    }
    let mut bytes = Vec::new();
    report.serialize(&mut bytes)?;
    Ok(bytes)
}

fn suite(name: &str, tests: &TestReport) -> TestSuite {
    let mut suite = TestSuite::new(name);
    for test in &tests.cases {
        let mut status = match test.status {
            CaseStatus::Passed => TestCaseStatus::success(),
            CaseStatus::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
            CaseStatus::Skipped => TestCaseStatus::skipped(),
        };
        if let Some(message) = test
            .message
            .as_deref()
            .filter(|_| test.status != CaseStatus::Passed)
        {
            status.set_message(message.lines().next().unwrap_or_default());
            if test.status == CaseStatus::Failed {
                status.set_description(message);
            }
        }
        let mut case = TestCase::new(test.name.as_str(), status);
        case.set_classname(test.suite.as_str());
        if let Some(duration) = test.duration {
            case.set_time(duration);
        }
        suite.add_test_case(case);
    }
    suite.add_property((
        "executed_count",
        tests.executed_count().to_string().as_str(),
    ));
    suite.add_property(("failed_count", tests.failed_count.to_string().as_str()));
    suite.add_property(("skipped_count", tests.skipped_count.to_string().as_str()));
    suite
}

fn status(verdict: Verdict, stops: bool, reason: &str) -> TestCaseStatus {
    let mut status = match (verdict, stops) {
        (Verdict::Passed, _) => return TestCaseStatus::success(),
        (Verdict::Failed, true) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        (Verdict::NotProven, true) => TestCaseStatus::non_success(NonSuccessKind::Error),
        (Verdict::Failed | Verdict::NotProven, false) => TestCaseStatus::skipped(),
    };
    status.set_message(format!("{verdict}: {reason}"));
    status
}
