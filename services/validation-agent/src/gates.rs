//! Gates: rules over measurements, with three verdicts. Holds the built-in policy, merges a project's own
//! into it, and judges. Knows no files: the policy arrives parsed, the measurements arrive measured.

mod metric;
mod policy;

use std::{collections::BTreeMap, fmt};

use time::Date;

use crate::verdict::{Judgement, Verdict};

pub use self::{
    metric::{Metric, Unit},
    policy::{Gate, Merged, Operator, PolicyError, Waiver, built_in, merge},
};

/// One measurement, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// In the metric's unit.
    pub value: f64,
    /// Such as `tests: junit report`.
    pub source: String,
}

/// Everything that was measured, and for what was not, why not.
#[derive(Debug, Clone, Default)]
pub struct Measurements {
    /// Measured.
    pub values: BTreeMap<Metric, Measurement>,
    /// Why a metric is missing.
    pub missing: BTreeMap<Metric, String>,
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
    pub gate: Gate,
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

/// Judges every gate of a merged policy.
pub fn judge(policy: &Merged, measurements: &Measurements, today: Date) -> Vec<GateResult> {
    policy
        .gates
        .iter()
        .map(|gate| {
            let actual = measurements
                .values
                .get(&gate.metric)
                .map(|measured| measured.value);
            let (judgement, blocking) = judge_gate(gate, actual, measurements);
            let waiver = (judgement.verdict != Verdict::Passed && !gate.metric.is_unwaivable())
                .then(|| policy.waiver_of(gate.metric.name(), today))
                .flatten()
                .map(Waiver::to_string);
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

fn judge_gate(gate: &Gate, actual: Option<f64>, measurements: &Measurements) -> (Judgement, bool) {
    let blocks = !gate.advisory;
    let Some(actual) = actual.filter(|value| value.is_finite()) else {
        let reason = measurements
            .missing
            .get(&gate.metric)
            .map_or_else(|| format!("{} was not measured", gate.metric), Clone::clone);
        return (
            Judgement::not_proven(reason),
            blocks && gate.blocks_when_missing,
        );
    };
    if let Some(minimum) = gate.minimum_lines {
        match measurements.new_code_line_count {
            Some(lines) if lines < minimum => {
                // Too few lines to say anything: shown as what it is, and nothing that could stop a change.
                let reason = format!("{lines} executable changed lines; judged from {minimum}");
                return (Judgement::not_proven(reason), false);
            }
            Some(_) | None => {}
        }
    }
    let told = format!(
        "{} {} (wanted: {} {})",
        gate.metric,
        Number(actual),
        gate.operator,
        Number(gate.threshold)
    );
    if gate.operator.holds(actual, gate.threshold) {
        (Judgement::passed(told), blocks)
    } else {
        (Judgement::failed(told), blocks)
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
