//! The policy that holds: the built-in gates, and what a project's own file does to them. Knows neither
//! where the file came from nor measurements.

use agent_runtime::project::{Gate, GatePolicy, Metric, Operator, Waiver};
use thiserror::Error;
use time::Date;

use super::Number;

/// A policy that is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Two gates that are one.
    #[error("`{metric}` has two gates with `{operator}`")]
    Duplicate {
        /// The metric.
        metric: &'static str,
        /// The operator.
        operator: &'static str,
    },
}

/// A gate that holds, with where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldGate {
    /// The rule.
    pub rule: Gate,
    /// Whether a missing measurement stops the change: of every gate that a project names.
    pub blocks_when_missing: bool,
    /// Whether it is one of ours.
    pub is_built_in: bool,
}

impl HeldGate {
    /// Metric, operator and threshold.
    pub fn describe(&self) -> String {
        describe(&self.rule)
    }
}

fn describe(rule: &Gate) -> String {
    format!(
        "{} {} {}",
        rule.metric.as_str(),
        rule.operator.as_str(),
        Number(rule.threshold)
    )
}

/// The built-in policy with a project's own merged in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Every gate that holds.
    pub gates: Vec<HeldGate>,
    /// The project's waivers.
    pub waivers: Vec<Waiver>,
    /// Built-in gates that the project's policy replaced or turned off, in words.
    pub replaced: Vec<String>,
}

impl Policy {
    /// Merges a project's gates into the built-in ones: one on the same metric replaces ours, except that tests
    /// and secrets can only be made stricter.
    pub fn merge(own: GatePolicy) -> Result<Self, PolicyError> {
        for (at, gate) in own.gates.iter().enumerate() {
            let mut later = own.gates.iter().skip(at + 1);
            if later.any(|other| other.metric == gate.metric && other.operator == gate.operator) {
                return Err(PolicyError::Duplicate {
                    metric: gate.metric.as_str(),
                    operator: gate.operator.as_str(),
                });
            }
        }
        let mut policy = Self {
            waivers: own.waivers,
            ..Self::default()
        };
        for ours in built_in() {
            let mut theirs = own
                .gates
                .iter()
                .filter(|gate| gate.metric == ours.rule.metric)
                .peekable();
            if theirs.peek().is_none() || is_unconditional(ours.rule.metric) {
                policy.gates.push(ours);
            } else if !theirs.any(|gate| is_as_strict(gate, &ours.rule)) {
                policy.replaced.push(ours.describe());
            }
        }
        policy
            .gates
            .extend(own.gates.into_iter().map(|rule| HeldGate {
                rule,
                blocks_when_missing: true,
                is_built_in: false,
            }));
        Ok(policy)
    }

    /// The waiver of a finding, check or metric that holds today.
    pub fn waiver_of(&self, finding: &str, today: Date) -> Option<String> {
        self.waivers
            .iter()
            .find(|waiver| waiver.finding == finding && waiver.holds_on(today))
            .map(|waiver| {
                format!(
                    "{}, until {}: {}",
                    waiver.owner, waiver.until, waiver.reason
                )
            })
    }

    /// Waivers that no longer hold, in words.
    pub fn expired(&self, today: Date) -> Vec<String> {
        self.waivers
            .iter()
            .filter(|waiver| !waiver.holds_on(today))
            .map(|waiver| {
                format!(
                    "the waiver of `{}` by {} ended on {}",
                    waiver.finding, waiver.owner, waiver.until
                )
            })
            .collect()
    }

    /// Whether any gate is about that metric.
    pub fn names(&self, metric: Metric) -> bool {
        self.gates.iter().any(|gate| gate.rule.metric == metric)
    }

    /// Whether any gate compares that metric with the base.
    pub fn ratchets(&self, metric: Metric) -> bool {
        self.gates
            .iter()
            .any(|gate| gate.rule.metric == metric && gate.rule.ratchet)
    }
}

/// Tests and secrets block whatever a policy names: single findings may be waived, the count may not.
pub(super) fn is_unconditional(metric: Metric) -> bool {
    matches!(metric, Metric::TestsExecutedCount | Metric::NewSecretCount)
}

/// What holds where a project says nothing (agents.md, Validation): an ordinary repository passes on its merits.
pub(super) fn built_in() -> Vec<HeldGate> {
    let gate = |metric, operator, threshold, minimum_lines| HeldGate {
        rule: Gate {
            metric,
            operator,
            threshold,
            minimum_lines,
            advisory: false,
            ratchet: false,
        },
        blocks_when_missing: is_unconditional(metric),
        is_built_in: true,
    };
    vec![
        gate(Metric::TestsExecutedCount, Operator::Above, 0.0, None),
        gate(Metric::NewSecretCount, Operator::AtMost, 0.0, None),
        gate(
            Metric::NewCodeLineCoveragePercent,
            Operator::AtLeast,
            80.0,
            Some(20),
        ),
        gate(
            Metric::CriticalVulnerabilityCount,
            Operator::AtMost,
            0.0,
            None,
        ),
        gate(Metric::HighVulnerabilityCount, Operator::AtMost, 0.0, None),
    ]
}

fn is_as_strict(theirs: &Gate, ours: &Gate) -> bool {
    if theirs.advisory || theirs.minimum_lines.unwrap_or(0) > ours.minimum_lines.unwrap_or(0) {
        return false;
    }
    match (ours.operator, theirs.operator) {
        (Operator::AtLeast, Operator::AtLeast | Operator::Above)
        | (Operator::Above, Operator::Above) => theirs.threshold >= ours.threshold,
        (Operator::AtMost, Operator::AtMost | Operator::Below | Operator::Equals)
        | (Operator::Below, Operator::Below) => theirs.threshold <= ours.threshold,
        _ => false,
    }
}
