//! Findings as SARIF 2.1.0, with stable fingerprints, what is new, and what is waived.

use std::collections::{BTreeMap, BTreeSet};

use serde_sarif::sarif::{
    ArtifactLocation, Location, Message, MultiformatMessageString, PhysicalLocation, PropertyBag,
    Region, ReportingDescriptor, Result as SarifResult, ResultLevel, Run, SCHEMA_URL, Sarif,
    Suppression, Tool, ToolComponent,
};

use crate::{
    assessment::Assessment,
    findings::{Finding, Severity},
};

/// Key of our fingerprint in `partialFingerprints`.
const FINGERPRINT: &str = "agenticFingerprint/v1";

pub(super) fn write(assessment: &Assessment) -> Result<Vec<u8>, serde_json::Error> {
    let findings = assessment.findings();
    let rules: BTreeSet<&str> = findings
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    let results: Vec<SarifResult> = findings
        .iter()
        .map(|finding| result(finding, &rules, assessment.base.is_some()))
        .collect();
    let driver = ToolComponent::builder()
        .name("agentic-validation")
        .version(env!("CARGO_PKG_VERSION"))
        .rules(rules.iter().map(|rule| describe(rule)).collect::<Vec<_>>())
        .build();
    let judgement = assessment.judgement();
    let properties = BTreeMap::from([
        ("verdict".to_owned(), judgement.verdict.name().into()),
        ("reason".to_owned(), judgement.reason.into()),
        ("head".to_owned(), assessment.head.as_str().into()),
    ]);
    let run = Run::builder()
        .tool(Tool::builder().driver(driver).build())
        .results(results)
        .properties(
            PropertyBag::builder()
                .additional_properties(properties)
                .build(),
        )
        .build();
    let sarif = Sarif::builder()
        .schema(SCHEMA_URL)
        .runs(vec![run])
        .version("2.1.0")
        .build();
    serde_json::to_vec_pretty(&sarif)
}

fn describe(rule: &str) -> ReportingDescriptor {
    ReportingDescriptor::builder()
        .id(rule)
        .short_description(MultiformatMessageString::builder().text(rule).build())
        .build()
}

fn result(finding: &Finding, rules: &[&str], has_base: bool) -> SarifResult {
    let level = match finding.severity {
        Severity::Note => ResultLevel::Note,
        Severity::Warning => ResultLevel::Warning,
        Severity::Error | Severity::Critical => ResultLevel::Error,
    };
    let index = rules
        .iter()
        .position(|rule| *rule == finding.rule)
        .map_or(-1, |index| i64::try_from(index).unwrap_or(-1));
    let mut result = SarifResult::builder()
        .rule_id(finding.rule.as_str())
        .rule_index(index)
        .level(level)
        .message(Message::builder().text(finding.message.as_str()).build())
        .partial_fingerprints(BTreeMap::from([(
            FINGERPRINT.to_owned(),
            finding.fingerprint.clone(),
        )]))
        .build();
    if has_base {
        result.baseline_state = Some(if finding.is_new { "new" } else { "unchanged" }.into());
    }
    if !finding.path.is_empty() {
        result.locations = Some(vec![place(finding)]);
    }
    if let Some(waiver) = &finding.waiver {
        let suppression = Suppression::builder()
            .kind("external")
            .justification(waiver.as_str())
            .build();
        result.suppressions = Some(vec![suppression]);
    }
    result
}

fn place(finding: &Finding) -> Location {
    let artifact = ArtifactLocation::builder()
        .uri(uri(&finding.path))
        .uri_base_id("%SRCROOT%")
        .build();
    let mut physical = PhysicalLocation::builder()
        .artifact_location(artifact)
        .build();
    if finding.line > 0 {
        physical.region = Some(
            Region::builder()
                .start_line(i64::from(finding.line))
                .build(),
        );
    }
    Location::builder().physical_location(physical).build()
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            uri.push_str(&hex::encode_upper([byte]));
        }
    }
    uri
}
