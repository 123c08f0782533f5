//! What a validation came to, as the contract says it. Decides nothing.

use std::fmt::Write as _;

use agent_runtime::{project::Operator, test_report::TestReport};
use contracts::{
    task::{
        self, ApprovalEffect, Artifact, DecisionCategory, DecisionRequest, Outcome, Repository,
        ToolRun,
    },
    validation::{CheckResult, GateOperator, GateResult, Metric, ProjectKind, ValidationResult},
    wire_time::wire_duration,
};
use sha2::{Digest, Sha256};

use crate::{
    assessment::{Assessment, CheckOutcome, ToolRecord},
    findings::{Finding, MAXIMUM_FINDINGS, Severity},
    gates,
    judge::JudgeChange,
    validate::Validated,
    verdict::Verdict,
};

/// Most bytes of a decision's detail (contract: `DecisionRequest.detail`).
const DETAIL_BYTES: usize = 64 * 1024;
/// Next steps that are worth saying.
const RECOMMENDATIONS: usize = 10;

/// The result of a task.
pub fn result(
    validated: &Validated,
    repository: Repository,
    artifacts: Vec<Artifact>,
) -> ValidationResult {
    let Validated {
        assessment,
        subject,
        ..
    } = validated;
    let judgement = assessment.judgement();
    let runs = assessment.other_runs.iter().chain(
        assessment
            .checks
            .iter()
            .filter(|check| !check.cached)
            .filter_map(|check| check.tool_run.as_ref()),
    );
    let outcome = Outcome {
        verdict: verdict(judgement.verdict).into(),
        summary: judgement.reason.clone(),
        findings: assessment
            .findings()
            .into_iter()
            .take(MAXIMUM_FINDINGS)
            .map(finding)
            .collect(),
        repository: Some(repository),
        decision: (judgement.verdict == Verdict::NotProven).then(|| decision(assessment)),
        tool_runs: runs.map(tool_run).collect(),
        artifacts,
        project_is_app: subject.as_ref().map(|subject| subject.is_app()),
        ..Outcome::default()
    };
    let kind = match subject {
        None => ProjectKind::Unspecified,
        Some(subject) if subject.is_app() => ProjectKind::App,
        Some(_) => ProjectKind::Library,
    };
    ValidationResult {
        outcome: Some(outcome),
        checks: assessment.checks.iter().map(check).collect(),
        gates: assessment.gates.iter().map(gate).collect(),
        metrics: assessment
            .measurements
            .values
            .iter()
            .map(|(metric, measured)| Metric {
                name: metric.as_str().to_owned(),
                value: measured.value,
                source: measured.source.clone(),
            })
            .collect(),
        recommendations: recommendations(assessment),
        project_kind: kind.into(),
        start_command: subject
            .as_ref()
            .map(|subject| subject.start_command())
            .unwrap_or_default(),
        policy_source: assessment.policy_source.clone(),
        replaced_gates: assessment.replaced_gates.clone(),
        judge_changes: assessment
            .judge_changes
            .iter()
            .map(JudgeChange::describe)
            .collect(),
    }
}

fn verdict(verdict: Verdict) -> task::Verdict {
    match verdict {
        Verdict::Passed => task::Verdict::Passed,
        Verdict::Failed => task::Verdict::Failed,
        Verdict::NotProven => task::Verdict::NotProven,
    }
}

fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn check(check: &CheckOutcome) -> CheckResult {
    let report = check.report.as_ref();
    let reason = match &check.waiver {
        Some(waiver) => format!("{} (waived by {waiver})", check.judgement.reason),
        None => check.judgement.reason.clone(),
    };
    CheckResult {
        name: check.name.clone(),
        verdict: verdict(check.judgement.verdict).into(),
        reason,
        tool_run: check.tool_run.as_ref().map(tool_run),
        executed_count: count(report.map_or(0, TestReport::executed_count)),
        failed_count: count(report.map_or(0, |report| report.failed_count)),
        skipped_count: count(report.map_or(0, |report| report.skipped_count)),
        findings: check
            .findings
            .iter()
            .take(MAXIMUM_FINDINGS)
            .map(finding)
            .collect(),
        origin: check.origin.clone(),
        cached: check.cached,
        blocking: check.blocking,
    }
}

fn tool_run(record: &ToolRecord) -> ToolRun {
    ToolRun {
        tool: record.tool.clone(),
        version: record.version.clone(),
        argv: record.argv.clone(),
        exit_code: record.exit_code,
        ending: record.ending.clone(),
        duration: Some(wire_duration(record.duration)),
    }
}

fn finding(finding: &Finding) -> task::Finding {
    let severity = match finding.severity {
        Severity::Note => task::Severity::Note,
        Severity::Warning => task::Severity::Warning,
        Severity::Error => task::Severity::Error,
        Severity::Critical => task::Severity::Critical,
    };
    task::Finding {
        rule: finding.rule.clone(),
        severity: severity.into(),
        message: match &finding.waiver {
            Some(waiver) => format!("{} (waived by {waiver})", finding.message),
            None => finding.message.clone(),
        },
        path: finding.path.clone(),
        line: i32::try_from(finding.line).unwrap_or(i32::MAX),
        fingerprint: finding.fingerprint.clone(),
        tool: finding.tool.clone(),
        new: finding.is_new,
    }
}

fn gate(result: &gates::GateResult) -> GateResult {
    let rule = &result.gate.rule;
    let operator = match rule.operator {
        Operator::AtLeast => GateOperator::AtLeast,
        Operator::AtMost => GateOperator::AtMost,
        Operator::Above => GateOperator::Above,
        Operator::Below => GateOperator::Below,
        Operator::Equals => GateOperator::Equals,
    };
    GateResult {
        name: format!("{} {}", rule.metric.as_str(), rule.operator.as_str()),
        metric: rule.metric.as_str().to_owned(),
        operator: operator.into(),
        threshold: rule.threshold,
        actual: result.actual,
        verdict: verdict(result.verdict).into(),
        blocking: result.blocking,
        reason: result.reason.clone(),
        waiver: result.waiver.clone().unwrap_or_default(),
    }
}

/// Everything that a person would have to answer for.
fn decision(assessment: &Assessment) -> DecisionRequest {
    let mut detail = format!("Commit `{}`", assessment.head);
    if let Some(base) = &assessment.base {
        let _ = write!(detail, ", judged against `{base}`");
    }
    detail.push_str(".\n");
    if let Some(judgement) = &assessment.unjudgeable {
        let _ = write!(detail, "\n{}\n", judgement.reason);
    }
    if !assessment.judge_changes.is_empty() {
        detail.push_str("\n**Parts of the change that judge the change**\n\n");
        for change in &assessment.judge_changes {
            let _ = writeln!(detail, "- {}", change.describe());
        }
    }
    let checks = assessment
        .checks
        .iter()
        .filter(|check| check.stops())
        .map(|check| (check.name.clone(), &check.judgement.reason));
    let gates = assessment
        .gates
        .iter()
        .filter(|gate| gate.stops())
        .map(|gate| (gate.gate.describe(), &gate.reason));
    let unproven: Vec<(String, &String)> = checks.chain(gates).collect();
    if !unproven.is_empty() {
        detail.push_str("\n**Not proven**\n\n");
        for (name, reason) in unproven {
            let _ = writeln!(detail, "- {name}: {reason}");
        }
    }
    let mut cut = detail.len().min(DETAIL_BYTES);
    while !detail.is_char_boundary(cut) {
        cut -= 1;
    }
    detail.truncate(cut);
    let (category, question) = if assessment.judge_changes.is_empty() {
        (
            DecisionCategory::Waiver,
            "Accept this change although not everything about it was proven?",
        )
    } else {
        (
            DecisionCategory::SecurityAffecting,
            "Accept this change although it edits what judges it?",
        )
    };
    DecisionRequest {
        category: category.into(),
        question: question.to_owned(),
        subject_digest: format!("sha256:{}", hex::encode(Sha256::digest(&detail))),
        detail,
        choices: Vec::new(),
        on_approval: ApprovalEffect::Accept.into(),
        confidence: 0.0,
    }
}

fn recommendations(assessment: &Assessment) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for check in assessment.checks.iter().filter(|check| {
        check.judgement.verdict != Verdict::Passed && check.name != "vulnerabilities"
    }) {
        let finding = check
            .findings
            .iter()
            .find(|finding| finding.waiver.is_none());
        let place = finding
            .filter(|finding| !finding.path.is_empty())
            .map(|finding| format!(" at {}:{}", finding.path, finding.line))
            .unwrap_or_default();
        let advice = match (check.name.as_str(), check.judgement.verdict) {
            ("secrets", Verdict::Failed) => {
                format!("revoke the secret{place}, rewrite the commits that carry it, and keep it in a secret store")
            }
            ("coverage", _) => "let the tests write coverage and name the file in .agentic/project.yaml (checks.tests.coverage)".to_owned(),
            (name, Verdict::Failed) => match finding {
                Some(finding) => format!("fix `{name}`{place}: {}", finding.message.lines().next().unwrap_or_default()),
                None => format!("fix `{name}`: {}", check.judgement.reason),
            },
            (name, Verdict::NotProven) => format!("make `{name}` prove something: {}", check.judgement.reason),
            (_, Verdict::Passed) => continue,
        };
        told.push(advice);
    }
    for gate in assessment
        .gates
        .iter()
        .filter(|gate| gate.stops() && gate.verdict == Verdict::Failed)
    {
        told.push(format!(
            "bring {} to {} {}",
            gate.gate.rule.metric.as_str(),
            gate.gate.rule.operator.as_str(),
            gates::Number(gate.gate.rule.threshold)
        ));
    }
    if !assessment.judge_changes.is_empty() {
        told.push("keep changes of policy, checks and existing tests in a change of their own, for a person to agree with".to_owned());
    }
    told.dedup();
    told.truncate(RECOMMENDATIONS);
    told
}
