//! Everything on one HTML page that needs nothing else: no script, no picture, no network.

use agent_runtime::test_report::TestReport;
use minijinja::{AutoEscape, Environment, Value, context, value::Serde};
use serde::Serialize;

use crate::{assessment::Assessment, findings::Severity, gates::Number};

const TEMPLATE: &str = include_str!("../../templates/validation.html");
/// Findings and failed tests that the page shows; SARIF and JUnit have all.
const SHOWN: usize = 500;

/// The page's template, ready to be filled.
pub struct Page(Environment<'static>);

impl Page {
    /// Reads the template; done once, at start-up.
    pub fn new() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_template("validation.html", TEMPLATE)?;
        Ok(Self(environment))
    }

    pub(super) fn write(&self, assessment: &Assessment) -> Result<Vec<u8>, minijinja::Error> {
        let judgement = assessment.judgement();
        let page = context! {
            verdict => judgement.verdict.name(),
            reason => judgement.reason,
            head => assessment.head.clone(),
            base => assessment.base.clone(),
            policy_source => assessment.policy_source.clone(),
            replaced_gates => assessment.replaced_gates.clone(),
            notes => assessment.notes.clone(),
            judge_changes => assessment.judge_changes.iter().map(crate::judge::JudgeChange::describe).collect::<Vec<_>>(),
            checks => Value::from(Serde(checks(assessment))),
            gates => Value::from(Serde(gates(assessment))),
            findings => Value::from(Serde(findings(assessment))),
            failures => Value::from(Serde(failures(assessment))),
        };
        self.0
            .get_template("validation.html")?
            .render(page)
            .map(String::into_bytes)
    }
}

#[derive(Debug, Clone, Serialize)]
struct CheckRow {
    name: String,
    verdict: &'static str,
    reason: String,
    origin: String,
    command: String,
    seconds: Option<String>,
    cached: bool,
    blocking: bool,
    waiver: Option<String>,
}

fn checks(assessment: &Assessment) -> Vec<CheckRow> {
    assessment
        .checks
        .iter()
        .map(|check| CheckRow {
            name: check.name.clone(),
            verdict: check.judgement.verdict.name(),
            reason: check.judgement.reason.clone(),
            origin: check.origin.clone(),
            command: check
                .tool_run
                .as_ref()
                .map(|run| run.argv.join(" "))
                .unwrap_or_default(),
            seconds: check
                .tool_run
                .as_ref()
                .map(|run| format!("{:.1}", run.duration.as_secs_f64())),
            cached: check.cached,
            blocking: check.blocking,
            waiver: check.waiver.clone(),
        })
        .collect()
}

#[derive(Debug, Clone, Serialize)]
struct GateRow {
    gate: String,
    verdict: &'static str,
    actual: Option<String>,
    reason: String,
    blocking: bool,
    waiver: Option<String>,
}

fn gates(assessment: &Assessment) -> Vec<GateRow> {
    assessment
        .gates
        .iter()
        .map(|gate| GateRow {
            gate: gate.gate.describe(),
            verdict: gate.verdict.name(),
            actual: gate.actual.map(|actual| Number(actual).to_string()),
            reason: gate.reason.clone(),
            blocking: gate.blocking,
            waiver: gate.waiver.clone(),
        })
        .collect()
}

#[derive(Debug, Clone, Serialize)]
struct FindingRow {
    severity: &'static str,
    rule: String,
    place: String,
    message: String,
    fingerprint: String,
    is_new: bool,
    waiver: Option<String>,
}

fn findings(assessment: &Assessment) -> Vec<FindingRow> {
    assessment
        .findings()
        .into_iter()
        .take(SHOWN)
        .map(|finding| FindingRow {
            severity: match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
                Severity::Critical => "critical",
            },
            rule: finding.rule.clone(),
            place: match finding.line {
                0 => finding.path.clone(),
                line => format!("{}:{line}", finding.path),
            },
            message: finding.message.clone(),
            fingerprint: finding.fingerprint.clone(),
            is_new: finding.is_new,
            waiver: finding.waiver.clone(),
        })
        .collect()
}

#[derive(Debug, Clone, Serialize)]
struct FailureRow {
    name: String,
    message: String,
}

fn failures(assessment: &Assessment) -> Vec<FailureRow> {
    assessment
        .checks
        .iter()
        .filter_map(|check| check.report.as_ref())
        .flat_map(TestReport::failures)
        .take(SHOWN)
        .map(|test| FailureRow {
            name: if test.suite.is_empty() {
                test.name.clone()
            } else {
                format!("{} › {}", test.suite, test.name)
            },
            message: test.message.clone().unwrap_or_default(),
        })
        .collect()
}
