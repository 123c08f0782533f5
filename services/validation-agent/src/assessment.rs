//! Everything that came of one validation, and the one verdict that follows from it. Knows neither how it was
//! found out nor the wire.

use std::time::Duration;

use agent_runtime::test_report::TestReport;
use serde::{Deserialize, Serialize};

use crate::{
    findings::Finding,
    gates::{GateResult, Measurements},
    judge::JudgeChange,
    verdict::{Judgement, Verdict},
};

/// One run of an external tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// Program, such as `cargo`.
    pub tool: String,
    /// What it says its version is; empty: it does not say.
    pub version: String,
    /// Argument vector.
    pub argv: Vec<String>,
    /// Exit code; `None`: it did not exit by itself.
    pub exit_code: Option<i32>,
    /// How it ended when it did not exit.
    pub ending: String,
    /// Wall time.
    pub duration: Duration,
}

/// One check.
#[derive(Debug, Clone)]
pub struct CheckOutcome {
    /// Name, such as `tests`.
    pub name: String,
    /// What came of it, and why.
    pub judgement: Judgement,
    /// Whether anything but PASSED stops the change.
    pub blocking: bool,
    /// Where the check came from, such as `package.json scripts.test`.
    pub origin: String,
    /// How its tool ran; `None`: it did not.
    pub tool_run: Option<ToolRecord>,
    /// What its tests reported.
    pub report: Option<TestReport>,
    /// What it found.
    pub findings: Vec<Finding>,
    /// Whether the result was remembered.
    pub cached: bool,
    /// Who waived it, why, until when.
    pub waiver: Option<String>,
}

impl CheckOutcome {
    /// Whether it stops the change.
    pub fn stops(&self) -> bool {
        self.blocking && self.waiver.is_none() && self.judgement.verdict != Verdict::Passed
    }
}

/// Everything that came of one validation.
#[derive(Debug, Clone, Default)]
pub struct Assessment {
    /// Commit that was judged.
    pub head: String,
    /// Commit that it was judged against; `None`: it was judged alone.
    pub base: Option<String>,
    /// Every check, in the order they ran.
    pub checks: Vec<CheckOutcome>,
    /// Every external tool that ran beside the checks: what installs dependencies.
    pub other_runs: Vec<ToolRecord>,
    /// Every gate.
    pub gates: Vec<GateResult>,
    /// Everything that was measured.
    pub measurements: Measurements,
    /// Parts of the change that judge the change.
    pub judge_changes: Vec<JudgeChange>,
    /// Where the policy came from.
    pub policy_source: String,
    /// Gates of ours that the project's policy replaced.
    pub replaced_gates: Vec<String>,
    /// Why nothing could be judged at all: the base's own tree, unrelated histories, a refused policy.
    pub unjudgeable: Option<Judgement>,
    /// Remarks for people: where descriptions came from, what was left out.
    pub notes: Vec<String>,
}

impl Assessment {
    /// The verdict and its sentence: the worst of what stops the change.
    pub fn judgement(&self) -> Judgement {
        let mut reasons: Vec<(Verdict, String)> = Vec::new();
        reasons.extend(
            self.unjudgeable
                .clone()
                .map(|judgement| (judgement.verdict, judgement.reason)),
        );
        reasons.extend(
            self.checks
                .iter()
                .filter(|check| check.stops())
                .map(|check| {
                    (
                        check.judgement.verdict,
                        format!("{}: {}", check.name, check.judgement.reason),
                    )
                }),
        );
        reasons.extend(self.gates.iter().filter(|gate| gate.stops()).map(|gate| {
            (
                gate.verdict,
                format!("gate {}: {}", gate.gate.describe(), gate.reason),
            )
        }));
        if let Some(first) = self.judge_changes.first() {
            let more = match self.judge_changes.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            reasons.push((
                Verdict::NotProven,
                format!("the change edits its own judge: {}{more}", first.describe()),
            ));
        }
        let Some(worst) = reasons.iter().map(|(verdict, _)| *verdict).max() else {
            return Judgement::passed(self.success());
        };
        let mut told: Vec<&str> = reasons
            .iter()
            .filter(|(verdict, _)| *verdict == worst)
            .map(|(_, reason)| reason.as_str())
            .collect();
        // A check and the gate on what it measures say the same thing twice.
        told.dedup();
        let reason = match told.as_slice() {
            [] => String::new(),
            [only] => (*only).to_owned(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        };
        Judgement {
            verdict: worst,
            reason,
        }
    }

    fn success(&self) -> String {
        let passed = self
            .checks
            .iter()
            .filter(|check| check.judgement.verdict == Verdict::Passed)
            .count();
        let unproven = self.checks.len() - passed;
        let tests = self
            .checks
            .iter()
            .filter_map(|check| check.report.as_ref())
            .map(TestReport::executed_count)
            .sum::<u64>();
        let rest = match unproven {
            0 => String::new(),
            unproven => format!(", {unproven} not blocking and not passed"),
        };
        format!("{passed} checks passed, {tests} tests executed{rest}")
    }

    /// Every finding, the worst first, new before known, failed checks before others.
    pub fn findings(&self) -> Vec<&Finding> {
        let mut findings: Vec<&Finding> = self
            .checks
            .iter()
            .flat_map(|check| check.findings.iter())
            .collect();
        findings.sort_by(|a, b| {
            (b.is_new, b.severity)
                .cmp(&(a.is_new, a.severity))
                .then_with(|| a.path.cmp(&b.path))
                .then(a.line.cmp(&b.line))
        });
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::{Assessment, CheckOutcome};
    use crate::{
        judge::{Class, JudgeChange},
        verdict::{Judgement, Verdict},
    };

    fn check(name: &str, judgement: Judgement, blocking: bool) -> CheckOutcome {
        CheckOutcome {
            name: name.into(),
            judgement,
            blocking,
            origin: String::new(),
            tool_run: None,
            report: None,
            findings: Vec::new(),
            cached: false,
            waiver: None,
        }
    }

    #[test]
    fn the_worst_of_what_stops_decides() {
        let mut assessment = Assessment::default();
        assessment
            .checks
            .push(check("build", Judgement::passed("built"), true));
        assert_eq!(assessment.judgement().verdict, Verdict::Passed);
        assessment
            .checks
            .push(check("lint", Judgement::failed("3 problems"), false));
        assert_eq!(assessment.judgement().verdict, Verdict::Passed);
        assessment.checks.push(check(
            "tests",
            Judgement::not_proven("no test was executed"),
            true,
        ));
        assert_eq!(
            assessment.judgement(),
            Judgement::not_proven("tests: no test was executed")
        );
        assessment
            .checks
            .push(check("secrets", Judgement::failed("1 secret"), true));
        assert_eq!(
            assessment.judgement(),
            Judgement::failed("secrets: 1 secret")
        );
    }

    #[test]
    fn a_change_of_the_judge_is_never_a_pass() {
        let mut assessment = Assessment::default();
        assessment.judge_changes.push(JudgeChange {
            class: Class::Policy,
            path: ".agentic/gates.yaml".into(),
            line: 0,
            detail: "is another".into(),
        });
        assert_eq!(assessment.judgement().verdict, Verdict::NotProven);
        assessment.checks.push(check(
            "tests",
            Judgement::failed("1 of 2 tests failed"),
            true,
        ));
        assert_eq!(assessment.judgement().verdict, Verdict::Failed);
    }

    #[test]
    fn a_waived_check_does_not_stop() {
        let mut waived = check("lint", Judgement::failed("3 problems"), true);
        waived.waiver = Some("ada, until 2027-01-01: old code".into());
        let assessment = Assessment {
            checks: vec![waived],
            ..Assessment::default()
        };
        assert_eq!(assessment.judgement().verdict, Verdict::Passed);
    }
}
