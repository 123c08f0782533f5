//! The reports are read back with what reads such reports.

use std::time::Duration;

use agent_runtime::test_report::{CaseStatus, TestCase, TestReport, junit};
use serde_sarif::sarif::Sarif;

use super::{Page, write};
use crate::{
    assessment::{Assessment, CheckOutcome, ToolRecord},
    findings::{Finding, Severity},
    verdict::Judgement,
};

fn assessment() -> Assessment {
    let case = |name: &str, status, message: Option<&str>| TestCase {
        suite: "shop".into(),
        name: name.into(),
        status,
        message: message.map(ToOwned::to_owned),
        duration: Some(Duration::from_millis(3)),
        place: None,
    };
    let mut known =
        Finding::new("ruff", "E501", Severity::Warning, "long").at("src/a b.py", 3, Some("x"));
    known.is_new = false;
    known.waiver = Some("ada, until 2027-01-01: old".into());
    let check = CheckOutcome {
        name: "tests".into(),
        judgement: Judgement::failed("1 of 2 tests failed"),
        blocking: true,
        origin: "pyproject.toml".into(),
        tool_run: Some(ToolRecord {
            tool: "python3".into(),
            version: "3.11".into(),
            argv: vec!["python3".into(), "-m".into(), "pytest".into()],
            exit_code: Some(1),
            ending: String::new(),
            duration: Duration::from_millis(1500),
        }),
        report: Some(TestReport::from_cases(vec![
            case("adds", CaseStatus::Passed, None),
            case(
                "taxes",
                CaseStatus::Failed,
                Some("<script>alert(1)</script>\u{1b}[31m & more"),
            ),
            case("slow", CaseStatus::Skipped, Some("later")),
        ])),
        findings: vec![
            Finding::new(
                "secrets",
                "secret:github-token",
                Severity::Critical,
                "GitHub token (40 characters)",
            )
            .at("src/a.py", 7, None),
            known,
        ],
        cached: false,
        waiver: None,
    };
    Assessment {
        head: "a".repeat(40),
        base: Some("b".repeat(40)),
        checks: vec![check],
        policy_source: "base".into(),
        ..Assessment::default()
    }
}

fn report(name: &str) -> Vec<u8> {
    let page = Page::new().unwrap();
    write(&assessment(), &page)
        .unwrap()
        .into_iter()
        .find(|file| file.name == name)
        .unwrap()
        .bytes
}

#[test]
fn sarif_carries_places_fingerprints_news_and_waivers() {
    let sarif: Sarif = serde_json::from_slice(&report("validation.sarif")).unwrap();
    let results = sarif.runs[0].results.as_ref().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].rule_id.as_deref(), Some("secret:github-token"));
    assert_eq!(results[0].baseline_state, Some("new".into()));
    assert!(
        results[0]
            .partial_fingerprints
            .as_ref()
            .unwrap()
            .contains_key("agenticFingerprint/v1")
    );
    let place = results[1].locations.as_ref().unwrap()[0]
        .physical_location
        .as_ref()
        .unwrap();
    assert_eq!(
        place.artifact_location.as_ref().unwrap().uri.as_deref(),
        Some("src/a%20b.py")
    );
    assert_eq!(results[1].suppressions.as_ref().unwrap().len(), 1);
    assert_eq!(results[1].baseline_state, Some("unchanged".into()));
}

#[test]
fn junit_is_read_back_with_every_test() {
    let tests = junit::parse(&report("validation.junit.xml")).unwrap();
    let named = |name: &str| {
        tests
            .cases
            .iter()
            .find(|case| case.name == name)
            .unwrap()
            .status
    };
    assert_eq!(named("adds"), CaseStatus::Passed);
    assert_eq!(named("taxes"), CaseStatus::Failed);
    assert_eq!(named("slow"), CaseStatus::Skipped);
    assert_eq!(named("tests"), CaseStatus::Failed);
}

#[test]
fn the_page_escapes_what_it_shows() {
    let page = String::from_utf8(report("validation.html")).unwrap();
    assert!(page.contains("FAILED"));
    assert!(page.contains("&lt;script&gt;"));
    assert!(!page.contains("<script"));
}
