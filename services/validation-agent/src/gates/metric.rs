//! The closed set of things that gates may be about. Knows no thresholds.

use std::fmt;

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 0 to 100.
    Percent,
    /// Whole things.
    Count,
    /// Thousandths of a second.
    Milliseconds,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $unit:ident;)+) => {
        /// Something that can be measured.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As policies and reports write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it counts in.
            pub fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit),+ }
            }
        }
    };
}

metrics! {
    /// Tests that ran.
    TestsExecutedCount = "tests_executed_count", Count;
    /// Share of executable lines that ran.
    LineCoveragePercent = "line_coverage_percent", Percent;
    /// Share of branches that were taken.
    BranchCoveragePercent = "branch_coverage_percent", Percent;
    /// Share of executable changed lines that ran.
    NewCodeLineCoveragePercent = "new_code_line_coverage_percent", Percent;
    /// Secrets that the change brings.
    NewSecretCount = "new_secret_count", Count;
    /// Known critical vulnerabilities of dependencies.
    CriticalVulnerabilityCount = "critical_vulnerability_count", Count;
    /// Known high vulnerabilities of dependencies.
    HighVulnerabilityCount = "high_vulnerability_count", Count;
    /// Findings that the base does not have.
    NewFindingCount = "new_finding_count", Count;
    /// Breaking changes of a public interface.
    ApiBreakingChangeCount = "api_breaking_change_count", Count;
    /// 95th percentile of answer times.
    P95LatencyMs = "p95_latency_ms", Milliseconds;
}

impl Metric {
    /// The metric of that name; else the nearest name there is.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        if let Some(metric) = Self::ALL.iter().find(|metric| metric.name() == name) {
            return Ok(*metric);
        }
        let nearest = Self::ALL
            .iter()
            .map(|metric| metric.name())
            .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
        Err(nearest.unwrap_or_default())
    }

    /// Tests and secrets block whatever a policy names; single findings may be waived, the count may not.
    pub fn is_unwaivable(self) -> bool {
        matches!(self, Self::TestsExecutedCount | Self::NewSecretCount)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
