//! The secret scan as a check.

use time::Date;

use crate::{
    assessment::CheckOutcome,
    change::SecretScan,
    findings::{Finding, Severity, fingerprint},
    gates::Policy,
    verdict::Judgement,
};

pub(super) fn outcome(scan: &SecretScan, policy: &Policy, today: Date) -> CheckOutcome {
    let findings: Vec<Finding> = scan
        .secrets
        .iter()
        .map(|found| {
            let place = found
                .commit
                .map(|commit| {
                    format!(
                        ", in commit {}",
                        commit.to_string().get(..12).unwrap_or_default()
                    )
                })
                .unwrap_or_default();
            let message = format!("{}{place}", found.secret.message);
            let rule = &found.secret.rule;
            let mut finding = Finding::new("agentic", rule, Severity::Critical, &message);
            finding.path.clone_from(&found.path);
            finding.line = found.secret.line;
            // The digest of the secret, not the line: another secret at the same place is another finding.
            finding.fingerprint = fingerprint(rule, &found.path, &found.secret.identity);
            finding.waiver = policy.waiver_of(&finding.fingerprint, today);
            finding
        })
        .collect();
    let count = findings
        .iter()
        .filter(|finding| finding.waiver.is_none())
        .count();
    let seen = match scan.commit_count {
        0 => format!("{} files", scan.scanned_count),
        commits => format!("{} texts of {commits} commits", scan.scanned_count),
    };
    let judgement = if count > 0 {
        let first = findings.iter().find(|finding| finding.waiver.is_none());
        let first = first
            .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.message))
            .unwrap_or_default();
        Judgement::failed(format!("{count} new secrets, the first: {first}"))
    } else if let Some(path) = scan.too_large.first() {
        Judgement::not_proven(format!(
            "{} files are too large to be scanned, the first: {path}",
            scan.too_large.len()
        ))
    } else {
        Judgement::passed(format!("no new secret in {seen}"))
    };
    CheckOutcome {
        name: "secrets".to_owned(),
        judgement,
        blocking: true,
        origin: "built-in".to_owned(),
        tool_run: None,
        report: None,
        findings,
        cached: false,
        waiver: None,
    }
}
