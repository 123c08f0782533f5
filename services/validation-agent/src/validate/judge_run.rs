//! What one run of a check came to: its verdict, its findings and where they are.

use std::path::Path;

use agent_runtime::{
    project::PlannedCheck,
    test_report::{CaseStatus, TestReport},
};

use crate::{
    assessment::CheckOutcome,
    findings::{Finding, MAXIMUM_FINDINGS, Severity, read_output},
    plan::Planned,
    reports::{Ending, judge_tests},
    run::Run,
    verdict::{Judgement, Verdict},
};

/// Lines of output that stand for a failure without findings.
const LAST_LINES: usize = 20;

/// Links and paths that a checkout leaves out.
pub(super) fn escaping(paths: &[String]) -> CheckOutcome {
    let mut outcome = super::not_asked("checkout");
    let first = paths.first().map(String::as_str).unwrap_or_default();
    outcome.judgement = Judgement::failed(format!(
        "{} paths lead out of the checkout, the first: {first}",
        paths.len()
    ));
    "built-in".clone_into(&mut outcome.origin);
    outcome.findings = paths
        .iter()
        .take(MAXIMUM_FINDINGS)
        .map(|path| {
            Finding::new(
                "agentic",
                "checkout:path-leads-out",
                Severity::Critical,
                "this path or link leads out of the checkout",
            )
            .at(path, 0, None)
        })
        .collect();
    outcome
}

/// Judges a run.
pub(super) fn judge_run(
    planned: &Planned,
    run: &Run,
    checkout: &Path,
    not_installed: Option<&str>,
) -> CheckOutcome {
    let check = &planned.check;
    let mut judgement = match &run.tests {
        Some(tests) => judge_tests(&run.ending, tests),
        None => match &run.ending {
            Ending::Exited(0) => Judgement::passed(format!(
                "succeeded in {:.1}s",
                run.record.duration.as_secs_f64()
            )),
            Ending::NotFound(_) => Judgement::not_proven(run.ending.describe()),
            Ending::Exited(_) | Ending::Signalled(_) | Ending::TimedOut(_) | Ending::Absent(_) => {
                Judgement::failed(run.ending.describe())
            }
        },
    };
    let report = run
        .tests
        .as_ref()
        .and_then(|tests| tests.as_ref().ok())
        .cloned();
    let findings = match judgement.verdict {
        Verdict::Failed => findings(check, run, report.as_ref(), checkout),
        Verdict::Passed | Verdict::NotProven => Vec::new(),
    };
    if judgement.verdict != Verdict::Passed
        && let Some(why) = not_installed
    {
        judgement = Judgement::not_proven(format!(
            "{}, and its dependencies could not be installed: {why}",
            judgement.reason
        ));
    }
    if judgement.verdict == Verdict::Failed
        && report.is_none()
        && let Some(worst) = worst(&findings)
    {
        judgement.reason = format!("{}: {}", judgement.reason, one_line(&worst.message));
    }
    CheckOutcome {
        name: check.name.to_string(),
        judgement,
        blocking: planned.blocking,
        origin: check.step.origin.clone(),
        tool_run: Some(run.record.clone()),
        report,
        findings,
        cached: false,
        waiver: None,
    }
}

/// The line of a longer message that says most.
fn one_line(message: &str) -> &str {
    let lines = || {
        message
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    lines()
        .find(|line| line.to_ascii_lowercase().contains("error"))
        .or_else(|| lines().next_back())
        .unwrap_or_default()
}

/// The first of the worst: compilers warn of much before they say why they stopped.
fn worst(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().rev().max_by_key(|finding| finding.severity)
}

/// Failed tests; else what the tool says with places; else the end of its output.
fn findings(
    check: &PlannedCheck,
    run: &Run,
    report: Option<&TestReport>,
    checkout: &Path,
) -> Vec<Finding> {
    let tool = run.record.tool.as_str();
    if let Some(report) = report {
        let failed: Vec<Finding> = report
            .cases
            .iter()
            .filter(|case| case.status == CaseStatus::Failed)
            .take(MAXIMUM_FINDINGS)
            .map(|case| {
                let name = if case.suite.is_empty() {
                    case.name.clone()
                } else {
                    format!("{} {}", case.suite, case.name)
                };
                let message = match case.message.as_deref().and_then(cause) {
                    Some(cause) => format!("{name}: {cause}"),
                    None => format!("{name} failed"),
                };
                let finding = Finding::new(tool, "test:failed", Severity::Error, &message);
                match &case.place {
                    Some((path, line)) => finding.at(&relative(path, checkout), *line, Some(&name)),
                    None => finding,
                }
            })
            .collect();
        if !failed.is_empty() {
            return failed;
        }
    }
    let source = |path: &str, line: u32| {
        let path = relative(path, checkout);
        let place = std::fs::canonicalize(checkout.join(&path)).ok()?;
        let root = std::fs::canonicalize(checkout).ok()?;
        let text = place
            .starts_with(root)
            .then(|| std::fs::read_to_string(place).ok())
            .flatten()?;
        text.lines()
            .nth(line.saturating_sub(1) as usize)
            .map(ToOwned::to_owned)
    };
    let mut found = read_output(tool, &run.output, source);
    for finding in &mut found {
        finding.path = relative(&finding.path, checkout);
    }
    if found.is_empty() {
        let lines: Vec<&str> = run
            .output
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines
            .get(lines.len().saturating_sub(LAST_LINES)..)
            .unwrap_or_default()
            .join("\n");
        let message = if last.is_empty() {
            run.ending.describe()
        } else {
            last
        };
        found.push(Finding::new(
            tool,
            &format!("{}:failed", check.kind.as_str()),
            Severity::Error,
            &message,
        ));
    }
    found
}

/// What a failed test says first, and where that is only a title (`collection failure`), what pytest marks as the
/// error itself.
fn cause(message: &str) -> Option<String> {
    let first = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let marked = message
        .lines()
        .find_map(|line| line.strip_prefix("E   "))
        .map(str::trim)
        .filter(|marked| !marked.is_empty() && !first.contains(marked));
    Some(match marked {
        Some(marked) if !first.contains(':') => format!("{first}: {marked}"),
        Some(_) | None => first.to_owned(),
    })
}

fn relative(path: &str, checkout: &Path) -> String {
    Path::new(path).strip_prefix(checkout).map_or_else(
        |_| path.trim_start_matches("./").to_owned(),
        |inside| inside.display().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::{Finding, Severity, cause, worst};

    #[test]
    fn an_error_is_the_reason_and_not_the_warnings_before_it() {
        let say = |severity, text| Finding::new("cargo", "rule", severity, text);
        let findings = [
            say(Severity::Warning, "unexpected cfg"),
            say(Severity::Error, "`#![feature]` on stable"),
            say(Severity::Error, "another"),
        ];
        assert_eq!(
            worst(&findings).map(|finding| finding.message.as_str()),
            Some("`#![feature]` on stable")
        );
        assert!(worst(&[]).is_none());
    }

    #[test]
    fn a_title_is_followed_by_the_error_itself() {
        let broken =
            "collection failure\n../x.py:1: in call\n    run()\nE   ImportError: no shop\n";
        assert_eq!(
            cause(broken).as_deref(),
            Some("collection failure: ImportError: no shop")
        );
        assert_eq!(
            cause("AssertionError: 1\nE   assert 1 == 2\n").as_deref(),
            Some("AssertionError: 1")
        );
        assert_eq!(cause(" \n"), None);
    }
}
