//! Gates: rules over measurements, with three verdicts. Holds the built-in policy, merges a project's own into
//! it, and judges. Knows no files: the policy arrives parsed, the measurements arrive measured.

mod policy;

use std::{collections::BTreeMap, fmt};

use agent_runtime::project::{Metric, Operator};
use time::Date;

use crate::verdict::{Judgement, Verdict};

pub use self::policy::{HeldGate, Policy, PolicyError};

/// One measurement, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// In the metric's unit.
    pub value: f64,
    /// Such as `tests: JUnit report`.
    pub source: String,
}

/// Everything that was measured, and for what was not, why not.
#[derive(Debug, Clone, Default)]
pub struct Measurements {
    /// Measured at the head.
    pub values: BTreeMap<Metric, Measurement>,
    /// Why a metric is missing.
    pub missing: BTreeMap<Metric, String>,
    /// Measured at the base, for gates with `ratchet`.
    pub at_base: BTreeMap<Metric, f64>,
    /// Executable changed lines, for gates with `minimum_lines`; `None` when coverage was not measured.
    pub new_code_line_count: Option<u64>,
}

impl Measurements {
    /// Adds a measurement.
    pub fn measured(&mut self, metric: Metric, value: f64, source: impl Into<String>) {
        self.missing.remove(&metric);
        self.values.insert(
            metric,
            Measurement {
                value,
                source: source.into(),
            },
        );
    }

    /// Says why a metric is missing; a measurement stands.
    pub fn missing(&mut self, metric: Metric, reason: impl Into<String>) {
        if !self.values.contains_key(&metric) {
            self.missing.entry(metric).or_insert_with(|| reason.into());
        }
    }
}

/// A gate that was judged.
#[derive(Debug, Clone)]
pub struct GateResult {
    /// The gate.
    pub gate: HeldGate,
    /// What was measured.
    pub actual: Option<f64>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// Whether anything but PASSED stops the change.
    pub blocking: bool,
    /// Who waived it, why, until when.
    pub waiver: Option<String>,
}

impl GateResult {
    /// Whether this gate stops the change.
    pub fn stops(&self) -> bool {
        self.blocking && self.waiver.is_none() && self.verdict != Verdict::Passed
    }
}

/// Judges every gate of a policy.
pub fn judge(policy: &Policy, measurements: &Measurements, today: Date) -> Vec<GateResult> {
    policy
        .gates
        .iter()
        .map(|gate| {
            let metric = gate.rule.metric;
            let actual = measurements
                .values
                .get(&metric)
                .map(|measured| measured.value);
            let (judgement, blocking) = judge_gate(gate, actual, measurements);
            let waiver = (judgement.verdict != Verdict::Passed
                && !policy::is_unconditional(metric))
            .then(|| policy.waiver_of(metric.as_str(), today))
            .flatten();
            GateResult {
                gate: gate.clone(),
                actual,
                verdict: judgement.verdict,
                reason: judgement.reason,
                blocking,
                waiver,
            }
        })
        .collect()
}

fn judge_gate(
    gate: &HeldGate,
    actual: Option<f64>,
    measurements: &Measurements,
) -> (Judgement, bool) {
    let rule = &gate.rule;
    let name = rule.metric.as_str();
    let blocks = !rule.advisory;
    // Too few lines to say anything: shown as what it is, and nothing that could stop a change.
    if let (Some(minimum), Some(lines)) = (rule.minimum_lines, measurements.new_code_line_count)
        && lines < u64::from(minimum)
    {
        let reason = format!("{lines} executable changed lines; judged from {minimum}");
        return (Judgement::not_proven(reason), false);
    }
    let Some(actual) = actual.filter(|value| value.is_finite()) else {
        let reason = measurements
            .missing
            .get(&rule.metric)
            .map_or_else(|| format!("{name} was not measured"), Clone::clone);
        return (
            Judgement::not_proven(reason),
            blocks && gate.blocks_when_missing,
        );
    };
    if !rule.operator.holds(actual, rule.threshold) {
        let reason = format!(
            "{name} is {}, wanted {} {}",
            Number(actual),
            rule.operator.as_str(),
            Number(rule.threshold)
        );
        return (Judgement::failed(reason), blocks);
    }
    if rule.ratchet {
        let Some(base) = measurements.at_base.get(&rule.metric).copied() else {
            let reason = format!(
                "{name} was not measured on the base commit, which it must not be worse than"
            );
            return (Judgement::not_proven(reason), blocks);
        };
        if is_worse(rule.operator, actual, base) {
            let reason = format!(
                "{name} is {}, worse than {} on the base commit",
                Number(actual),
                Number(base)
            );
            return (Judgement::failed(reason), blocks);
        }
    }
    (
        Judgement::passed(format!("{name} is {}", Number(actual))),
        blocks,
    )
}

fn is_worse(operator: Operator, actual: f64, base: f64) -> bool {
    match operator {
        Operator::AtLeast | Operator::Above => actual < base,
        Operator::AtMost | Operator::Below => actual > base,
        Operator::Equals => false,
    }
}

/// A number without needless decimals.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.fract().abs() < f64::EPSILON {
            write!(formatter, "{:.0}", self.0)
        } else {
            // Rounded down: 79.996 must not read as 80.00 beside a gate that wants 80.
            write!(formatter, "{:.2}", (self.0 * 100.0).floor() / 100.0)
        }
    }
}

#[cfg(test)]
mod tests;
