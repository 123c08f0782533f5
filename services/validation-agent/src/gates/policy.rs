//! What a policy is: gates and waivers, the built-in ones, and what a project's own does to them.
//! Knows neither YAML nor measurements.

use std::fmt;

use thiserror::Error;
use time::Date;

use super::{Metric, Unit};

/// A policy that is refused.
#[derive(Debug, Error, PartialEq)]
pub enum PolicyError {
    /// No such metric.
    #[error("unknown metric `{name}`; the nearest is `{nearest}`")]
    UnknownMetric {
        /// As written.
        name: String,
        /// What was meant, perhaps.
        nearest: &'static str,
    },
    /// No such operator.
    #[error("unknown operator `{name}`: use at_least, at_most, above, below or equals")]
    UnknownOperator {
        /// As written.
        name: String,
    },
    /// Not a threshold of that metric.
    #[error("`{metric}` cannot be compared with {threshold}")]
    Threshold {
        /// The metric.
        metric: Metric,
        /// As written.
        threshold: f64,
    },
    /// Not for that metric.
    #[error("`minimum_lines` is for `new_code_line_coverage_percent` only, not for `{metric}`")]
    MinimumLines {
        /// The metric.
        metric: Metric,
    },
    /// Two gates that are one.
    #[error("`{metric}` has two gates with the same operator")]
    Duplicate {
        /// The metric.
        metric: Metric,
    },
    /// A waiver without a name behind it.
    #[error("the waiver of `{finding}` has no {field}")]
    Waiver {
        /// What it waives.
        finding: String,
        /// `owner` or `reason`.
        field: &'static str,
    },
}

/// Comparison of what was measured with the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
    /// `=`
    Equals,
}

impl Operator {
    const ALL: [(Self, &'static str); 5] = [
        (Self::AtLeast, "at_least"),
        (Self::AtMost, "at_most"),
        (Self::Above, "above"),
        (Self::Below, "below"),
        (Self::Equals, "equals"),
    ];

    /// The operator of that name.
    pub fn parse(name: &str) -> Result<Self, PolicyError> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(operator, _)| *operator)
            .ok_or_else(|| PolicyError::UnknownOperator {
                name: name.to_owned(),
            })
    }

    /// Whether the comparison holds.
    pub fn holds(self, actual: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => actual >= threshold,
            Self::AtMost => actual <= threshold,
            Self::Above => actual > threshold,
            Self::Below => actual < threshold,
            Self::Equals => (actual - threshold).abs() < 1e-9,
        }
    }

    /// As policies write it.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(operator, _)| *operator == self)
            .map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A rule over one measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// What is measured.
    pub metric: Metric,
    /// How it is compared.
    pub operator: Operator,
    /// With what, in the metric's unit.
    pub threshold: f64,
    /// Executable changed lines below which the gate says nothing.
    pub minimum_lines: Option<u64>,
    /// Shown, and stops nothing.
    pub advisory: bool,
    /// Whether a missing measurement stops the change: of every gate that a project names.
    pub blocks_when_missing: bool,
    /// Whether it is one of ours.
    pub is_built_in: bool,
}

impl Gate {
    /// A gate that a project names.
    pub fn named(metric: &str, operator: &str, threshold: f64) -> Result<Self, PolicyError> {
        let metric = Metric::parse(metric).map_err(|nearest| PolicyError::UnknownMetric {
            name: metric.to_owned(),
            nearest,
        })?;
        let operator = Operator::parse(operator)?;
        let in_range = threshold.is_finite()
            && threshold >= 0.0
            && (metric.unit() != Unit::Percent || threshold <= 100.0);
        if !in_range {
            return Err(PolicyError::Threshold { metric, threshold });
        }
        Ok(Self {
            metric,
            operator,
            threshold,
            minimum_lines: None,
            advisory: false,
            blocks_when_missing: true,
            is_built_in: false,
        })
    }

    /// With the number of executable changed lines below which it says nothing.
    pub fn with_minimum_lines(mut self, lines: Option<u64>) -> Result<Self, PolicyError> {
        if lines.is_some() && self.metric != Metric::NewCodeLineCoveragePercent {
            return Err(PolicyError::MinimumLines {
                metric: self.metric,
            });
        }
        self.minimum_lines = lines;
        Ok(self)
    }

    /// Shown, and stops nothing.
    #[must_use]
    pub fn with_advisory(mut self, advisory: bool) -> Self {
        self.advisory = advisory;
        self
    }

    /// Metric, operator and threshold.
    pub fn describe(&self) -> String {
        format!(
            "{} {} {}",
            self.metric,
            self.operator,
            super::Number(self.threshold)
        )
    }
}

/// Somebody's word that a finding, check or gate need not hold for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// Fingerprint of a finding, or name of a check or metric.
    pub finding: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Last day on which it holds.
    pub until: Date,
}

impl Waiver {
    /// A waiver with a name and a reason.
    pub fn new(finding: &str, owner: &str, reason: &str, until: Date) -> Result<Self, PolicyError> {
        for (field, value) in [("owner", owner), ("reason", reason)] {
            if value.trim().is_empty() {
                return Err(PolicyError::Waiver {
                    finding: finding.to_owned(),
                    field,
                });
            }
        }
        Ok(Self {
            finding: finding.to_owned(),
            owner: owner.to_owned(),
            reason: reason.to_owned(),
            until,
        })
    }

    /// Whether it still holds.
    pub fn holds_on(&self, today: Date) -> bool {
        today <= self.until
    }
}

impl fmt::Display for Waiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}, until {}: {}",
            self.owner, self.until, self.reason
        )
    }
}

/// The built-in policy with a project's own merged in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// Every gate that holds.
    pub gates: Vec<Gate>,
    /// The project's waivers.
    pub waivers: Vec<Waiver>,
    /// Built-in gates that the project's policy replaced or turned off, in words.
    pub replaced: Vec<String>,
}

impl Merged {
    /// The waiver of a finding, check or metric that holds today.
    pub fn waiver_of(&self, finding: &str, today: Date) -> Option<&Waiver> {
        self.waivers
            .iter()
            .find(|waiver| waiver.finding == finding && waiver.holds_on(today))
    }

    /// Waivers that no longer hold.
    pub fn expired(&self, today: Date) -> impl Iterator<Item = &Waiver> {
        self.waivers
            .iter()
            .filter(move |waiver| !waiver.holds_on(today))
    }
}

/// What holds where a project says nothing (agents.md, Validation): an ordinary repository passes on its merits.
pub fn built_in() -> Vec<Gate> {
    let gate = |metric, operator, threshold| Gate {
        metric,
        operator,
        threshold,
        minimum_lines: None,
        advisory: false,
        blocks_when_missing: false,
        is_built_in: true,
    };
    vec![
        Gate {
            blocks_when_missing: true,
            ..gate(Metric::TestsExecutedCount, Operator::Above, 0.0)
        },
        Gate {
            blocks_when_missing: true,
            ..gate(Metric::NewSecretCount, Operator::AtMost, 0.0)
        },
        Gate {
            minimum_lines: Some(20),
            ..gate(Metric::NewCodeLineCoveragePercent, Operator::AtLeast, 80.0)
        },
        gate(Metric::CriticalVulnerabilityCount, Operator::AtMost, 0.0),
        gate(Metric::HighVulnerabilityCount, Operator::AtMost, 0.0),
    ]
}

/// Merges a project's gates into the built-in ones: one on the same metric replaces ours, except that tests and
/// secrets can only be made stricter.
pub fn merge(own: Vec<Gate>, waivers: Vec<Waiver>) -> Result<Merged, PolicyError> {
    for (at, gate) in own.iter().enumerate() {
        let twice = own
            .iter()
            .skip(at + 1)
            .any(|other| other.metric == gate.metric && other.operator == gate.operator);
        if twice {
            return Err(PolicyError::Duplicate {
                metric: gate.metric,
            });
        }
    }
    let mut merged = Merged {
        waivers,
        ..Merged::default()
    };
    for ours in built_in() {
        let mut theirs = own
            .iter()
            .filter(|gate| gate.metric == ours.metric)
            .peekable();
        if theirs.peek().is_none() || ours.metric.is_unwaivable() {
            merged.gates.push(ours);
        } else if !theirs.any(|gate| is_same_or_stricter(gate, &ours)) {
            merged.replaced.push(ours.describe());
        }
    }
    merged.gates.extend(own);
    Ok(merged)
}

fn is_same_or_stricter(theirs: &Gate, ours: &Gate) -> bool {
    if theirs.advisory && !ours.advisory || theirs.operator != ours.operator {
        return false;
    }
    let lines = theirs.minimum_lines.unwrap_or(0) <= ours.minimum_lines.unwrap_or(0);
    lines
        && match ours.operator {
            Operator::AtLeast | Operator::Above => theirs.threshold >= ours.threshold,
            Operator::AtMost | Operator::Below => theirs.threshold <= ours.threshold,
            Operator::Equals => (theirs.threshold - ours.threshold).abs() < 1e-9,
        }
}
