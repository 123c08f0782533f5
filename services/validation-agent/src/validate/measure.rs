//! Turns what checks came to into measurements, at the head and, where a gate compares, at the base.

use agent_runtime::{
    project::{CheckKind, Metric},
    test_report::TestReport,
};

use super::{Job, ValidationError, Validator, code_coverage};
use crate::{
    assessment::{Assessment, CheckOutcome},
    dependencies::Inventory,
    findings::{Finding, compare_with_base},
    gates::Measurements,
    plan::CheckPlan,
    subject::Subject,
    verdict::{Judgement, Verdict},
};

/// Counts of tests, secrets and findings.
pub(super) fn checks(assessment: &mut Assessment) {
    let executed: u64 = assessment
        .checks
        .iter()
        .filter_map(|check| check.report.as_ref())
        .map(TestReport::executed_count)
        .sum();
    let measurements = &mut assessment.measurements;
    if executed > 0 {
        measurements.measured(Metric::TestsExecutedCount, executed as f64, "test reports");
    } else {
        // Zero tests are no data: nothing was seen to hold or not.
        measurements.missing(Metric::TestsExecutedCount, "no test was executed");
    }
    match assessment
        .checks
        .iter()
        .find(|check| check.name == "secrets")
    {
        Some(check) if check.judgement.verdict != Verdict::NotProven => {
            let count = check
                .findings
                .iter()
                .filter(|finding| finding.waiver.is_none())
                .count();
            measurements.measured(Metric::NewSecretCount, count as f64, "secret scan");
        }
        Some(check) => measurements.missing(Metric::NewSecretCount, check.judgement.reason.clone()),
        None => {}
    }
    measurements.missing(
        Metric::ApiBreakingChangeCount,
        "no checker for breaking changes is there",
    );
    measurements.missing(
        Metric::P95LatencyMs,
        "answer times are measured on the running app, not here",
    );
}

/// A project without packages of others has no vulnerable ones; for all others somebody would have to look them up.
pub(super) fn vulnerabilities(inventory: &Inventory, assessment: &mut Assessment) {
    let metrics = [
        Metric::CriticalVulnerabilityCount,
        Metric::HighVulnerabilityCount,
    ];
    let judgement = match inventory {
        Inventory::None { manifests } => {
            let source = match manifests.as_slice() {
                [] => "no manifest names a third-party package".to_owned(),
                manifests => format!("no third-party package in {}", manifests.join(", ")),
            };
            for metric in metrics {
                assessment
                    .measurements
                    .measured(metric, 0.0, source.clone());
            }
            Judgement::passed(source)
        }
        Inventory::Some(packages) => Judgement::not_proven(format!(
            "{} third-party packages, and no advisory database is there",
            packages.len()
        )),
        Inventory::Unknown(manifest) => Judgement::not_proven(format!("{manifest} cannot be read")),
    };
    for metric in metrics {
        assessment
            .measurements
            .missing(metric, judgement.reason.clone());
    }
    assessment.checks.push(CheckOutcome {
        name: "vulnerabilities".to_owned(),
        judgement,
        blocking: false,
        origin: "built-in".to_owned(),
        tool_run: None,
        report: None,
        findings: Vec::new(),
        cached: false,
        waiver: None,
    });
}

/// Whether a finding counts as one that a linter or compiler reports.
fn is_of_code(check: &CheckOutcome) -> bool {
    !matches!(
        check.name.as_str(),
        "secrets" | "coverage" | "vulnerabilities"
    ) && check.report.is_none()
}

impl Validator {
    /// Runs on the base what a gate compares with: findings for `new_finding_count`, tests for a ratchet.
    pub(super) async fn measure_base(
        &self,
        job: &Job<'_>,
        subject: &Subject,
        plan: &CheckPlan,
        assessment: &mut Assessment,
    ) -> Result<(), ValidationError> {
        let policy = &subject.policy;
        let compares_findings = policy.names(Metric::NewFindingCount)
            && assessment
                .checks
                .iter()
                .any(|check| is_of_code(check) && !check.findings.is_empty());
        let ratcheted = [
            Metric::LineCoveragePercent,
            Metric::BranchCoveragePercent,
            Metric::TestsExecutedCount,
        ];
        let compares_tests = ratcheted.iter().any(|metric| policy.ratchets(*metric));
        let (Some(fork), true) = (job.commits.fork, compares_findings || compares_tests) else {
            if policy.names(Metric::NewFindingCount) {
                count_new(assessment);
            }
            return Ok(());
        };
        job.reporter.progress(
            85.0,
            "base",
            "running the checks of the base commit to compare",
        );
        let kinds = |kind: CheckKind| match kind {
            CheckKind::Tests => compares_tests,
            CheckKind::Build => compares_tests || compares_findings,
            CheckKind::Types | CheckKind::Lint | CheckKind::Format | CheckKind::Other => {
                compares_findings
            }
        };
        let ran = self.run_on(job, fork, "base", plan, kinds).await?;
        if compares_tests {
            let mut at_base = Measurements::default();
            if let Some(Ok(coverage)) = &ran.coverage {
                let mut coverage = coverage.clone();
                coverage.retain(|path| !crate::judge::is_test_path(path));
                code_coverage::whole(&coverage, &mut at_base);
            }
            let reports = || {
                ran.outcomes
                    .iter()
                    .filter_map(|check| check.report.as_ref())
            };
            if reports().next().is_some() {
                let executed: u64 = reports().map(TestReport::executed_count).sum();
                at_base.measured(Metric::TestsExecutedCount, executed as f64, "test reports");
            }
            assessment.measurements.at_base = at_base
                .values
                .into_iter()
                .map(|(metric, measured)| (metric, measured.value))
                .collect();
        }
        if compares_findings {
            for check in assessment
                .checks
                .iter_mut()
                .filter(|check| is_of_code(check))
            {
                let known: Vec<Finding> = ran
                    .outcomes
                    .iter()
                    .filter(|other| other.name == check.name)
                    .flat_map(|other| other.findings.iter().cloned())
                    .collect();
                compare_with_base(&mut check.findings, &known);
            }
        }
        if policy.names(Metric::NewFindingCount) {
            count_new(assessment);
        }
        Ok(())
    }
}

fn count_new(assessment: &mut Assessment) {
    let unread = assessment.checks.iter().find(|check| {
        is_of_code(check) && check.judgement.verdict != Verdict::Passed && check.findings.is_empty()
    });
    if let Some(check) = unread {
        let reason = format!(
            "`{}` did not pass, and its findings cannot be read",
            check.name
        );
        assessment
            .measurements
            .missing(Metric::NewFindingCount, reason);
        return;
    }
    let count = assessment
        .checks
        .iter()
        .filter(|check| is_of_code(check))
        .flat_map(|check| &check.findings)
        .filter(|finding| finding.is_new && finding.waiver.is_none())
        .count();
    assessment
        .measurements
        .measured(Metric::NewFindingCount, count as f64, "findings of checks");
}
