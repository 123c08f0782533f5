//! `.agentic/gates.yaml`: the rules that a project sets for its changes, exactly as they are written.
//! Knows the names of metrics and operators; measuring and judging is somebody else's.

use serde::{Deserialize, Serialize};
use time::{Date, macros::format_description};

use super::{
    description::FormatVersion,
    parse::{DescriptionError, parse},
};

/// Where the policy is, relative to the root of the repository.
pub const GATES_FILE: &str = ".agentic/gates.yaml";

/// The rules that a project sets for its changes. They add to the built-in ones; a gate replaces the
/// built-in one on the same metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GatePolicy {
    /// Version of this format: 1.
    pub version: FormatVersion,
    /// Rules over measurements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Problems that somebody answers for, until a date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
}

impl GatePolicy {
    /// Parses the content of [`GATES_FILE`].
    pub fn parse(content: &[u8]) -> Result<Self, DescriptionError> {
        parse(GATES_FILE, content)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Tests that ran.
    TestsExecutedCount,
    /// Lines that tests reach.
    LineCoveragePercent,
    /// Branches that tests reach.
    BranchCoveragePercent,
    /// Changed lines that tests reach.
    NewCodeLineCoveragePercent,
    /// Secrets that the base does not have.
    NewSecretCount,
    /// Known critical vulnerabilities of dependencies.
    CriticalVulnerabilityCount,
    /// Known high vulnerabilities of dependencies.
    HighVulnerabilityCount,
    /// Findings that the base does not have.
    NewFindingCount,
    /// Changes of the public interface that break its users.
    ApiBreakingChangeCount,
    /// Slowest twentieth of requests.
    P95LatencyMs,
}

impl Metric {
    /// Its name in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TestsExecutedCount => "tests_executed_count",
            Self::LineCoveragePercent => "line_coverage_percent",
            Self::BranchCoveragePercent => "branch_coverage_percent",
            Self::NewCodeLineCoveragePercent => "new_code_line_coverage_percent",
            Self::NewSecretCount => "new_secret_count",
            Self::CriticalVulnerabilityCount => "critical_vulnerability_count",
            Self::HighVulnerabilityCount => "high_vulnerability_count",
            Self::NewFindingCount => "new_finding_count",
            Self::ApiBreakingChangeCount => "api_breaking_change_count",
            Self::P95LatencyMs => "p95_latency_ms",
        }
    }

    fn is_percentage(self) -> bool {
        self.as_str().ends_with("_percent")
    }
}

/// How a measurement is compared with the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Not less.
    AtLeast,
    /// Not more.
    AtMost,
    /// More.
    Above,
    /// Less.
    Below,
    /// The same.
    Equals,
}

impl Operator {
    /// Its name in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => "at_least",
            Self::AtMost => "at_most",
            Self::Above => "above",
            Self::Below => "below",
            Self::Equals => "equals",
        }
    }

    /// Whether `measured` is on the right side of `threshold`. What is not a number is on no side.
    pub fn holds(self, measured: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => measured >= threshold,
            Self::AtMost => measured <= threshold,
            Self::Above => measured > threshold,
            Self::Below => measured < threshold,
            Self::Equals => (measured - threshold).abs() < f64::EPSILON,
        }
    }
}

/// One rule over a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "GateKeys", into = "GateKeys")]
pub struct Gate {
    /// What is measured.
    pub metric: Metric,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    pub threshold: f64,
    /// Changed lines below which the gate does not apply.
    pub minimum_lines: Option<u32>,
    /// It is shown, and does not block.
    pub advisory: bool,
    /// It also must not be worse than on the base commit.
    pub ratchet: bool,
}

/// One rule over a measurement: a metric and exactly one of `at_least`, `at_most`, `above`, `below`, `equals`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{"required": ["at_least"]}, {"required": ["at_most"]}, {"required": ["above"]}, {"required": ["below"]}, {"required": ["equals"]}])))]
pub(crate) struct GateKeys {
    /// What is measured.
    metric: Metric,
    /// It must not be less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    /// It must not be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    /// It must be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<f64>,
    /// It must be less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<f64>,
    /// It must be this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<f64>,
    /// Changed lines below which the gate does not apply; only for `new_code_line_coverage_percent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum_lines: Option<u32>,
    /// It is shown, and does not block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    advisory: bool,
    /// It also must not be worse than on the base commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ratchet: bool,
}

impl TryFrom<GateKeys> for Gate {
    type Error = String;

    fn try_from(keys: GateKeys) -> Result<Self, String> {
        let metric = keys.metric;
        let given = [
            (Operator::AtLeast, keys.at_least),
            (Operator::AtMost, keys.at_most),
            (Operator::Above, keys.above),
            (Operator::Below, keys.below),
            (Operator::Equals, keys.equals),
        ];
        let mut given = given
            .into_iter()
            .filter_map(|(operator, threshold)| Some((operator, threshold?)));
        let (Some((operator, threshold)), None) = (given.next(), given.next()) else {
            return Err(format!(
                "the gate on `{}` has exactly one of `at_least`, `at_most`, `above`, `below`, `equals`",
                metric.as_str()
            ));
        };
        if !threshold.is_finite()
            || threshold < 0.0
            || (metric.is_percentage() && threshold > 100.0)
        {
            let bound = if metric.is_percentage() {
                "0 to 100"
            } else {
                "0 or more"
            };
            return Err(format!("the threshold of `{}` is {bound}", metric.as_str()));
        }
        if keys.minimum_lines.is_some() && metric != Metric::NewCodeLineCoveragePercent {
            return Err(format!(
                "`minimum_lines` belongs to `{}`",
                Metric::NewCodeLineCoveragePercent.as_str()
            ));
        }
        Ok(Self {
            metric,
            operator,
            threshold,
            minimum_lines: keys.minimum_lines,
            advisory: keys.advisory,
            ratchet: keys.ratchet,
        })
    }
}

impl From<Gate> for GateKeys {
    fn from(gate: Gate) -> Self {
        let threshold = |operator| (gate.operator == operator).then_some(gate.threshold);
        Self {
            metric: gate.metric,
            at_least: threshold(Operator::AtLeast),
            at_most: threshold(Operator::AtMost),
            above: threshold(Operator::Above),
            below: threshold(Operator::Below),
            equals: threshold(Operator::Equals),
            minimum_lines: gate.minimum_lines,
            advisory: gate.advisory,
            ratchet: gate.ratchet,
        }
    }
}

/// A problem that somebody answers for, until a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "WaiverKeys", into = "WaiverKeys")]
pub struct Waiver {
    /// Fingerprint of a finding, or the name of a check.
    pub finding: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Last day on which it holds (UTC).
    pub until: Date,
}

impl Waiver {
    /// Whether it still holds on `day`.
    pub fn holds_on(&self, day: Date) -> bool {
        day <= self.until
    }
}

/// A problem that somebody answers for, until a date.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct WaiverKeys {
    /// Fingerprint of a finding, or the name of a check.
    #[cfg_attr(test, schemars(length(min = 1, max = 1000)))]
    finding: String,
    /// Who answers for it.
    #[cfg_attr(test, schemars(length(min = 1, max = 1000)))]
    owner: String,
    /// Why.
    #[cfg_attr(test, schemars(length(min = 1, max = 1000)))]
    reason: String,
    /// Last day on which it holds, as `2027-01-31`.
    #[cfg_attr(test, schemars(extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")))]
    until: String,
}

impl TryFrom<WaiverKeys> for Waiver {
    type Error = String;

    fn try_from(keys: WaiverKeys) -> Result<Self, String> {
        for (key, value) in [
            ("finding", &keys.finding),
            ("owner", &keys.owner),
            ("reason", &keys.reason),
        ] {
            if value.trim().is_empty() || value.chars().count() > 1000 {
                return Err(format!("`{key}` of a waiver has 1 to 1000 characters"));
            }
        }
        let until = Date::parse(&keys.until, format_description!("[year]-[month]-[day]"))
            .map_err(|_| format!("{:?} is not a date such as `2027-01-31`", keys.until))?;
        Ok(Self {
            finding: keys.finding,
            owner: keys.owner,
            reason: keys.reason,
            until,
        })
    }
}

impl From<Waiver> for WaiverKeys {
    fn from(waiver: Waiver) -> Self {
        let until = waiver.until;
        Self {
            finding: waiver.finding,
            owner: waiver.owner,
            reason: waiver.reason,
            until: format!(
                "{:04}-{:02}-{:02}",
                until.year(),
                u8::from(until.month()),
                until.day()
            ),
        }
    }
}
