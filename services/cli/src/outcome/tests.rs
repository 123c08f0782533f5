//! What people read at the end of a workflow.

use contracts::orchestrator::{
    Stage, StageResult, StageState, Workflow, WorkflowOutcome, WorkflowState, WorkflowType,
    stage_result,
};
use contracts::task::{Artifact, Finding, Outcome, Severity, Verdict};
use contracts::validation::ValidationResult;
use prost_types::Timestamp;

use super::{lines, next_command};
use crate::output::Painter;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn failed() -> Workflow {
    let finding = |severity: Severity, path: &str, line, message: &str| Finding {
        severity: severity.into(),
        path: path.into(),
        line,
        message: message.into(),
        ..Finding::default()
    };
    let mut stage = Stage {
        name: "validation".into(),
        summary: "1 of 3 tests failed".into(),
        start_time: Some(at(100)),
        end_time: Some(at(104)),
        attempt_count: 2,
        result: Some(StageResult {
            result: Some(stage_result::Result::Validation(ValidationResult {
                outcome: Some(Outcome {
                    verdict: Verdict::Failed.into(),
                    findings: vec![
                        finding(Severity::Warning, "a.py", 1, "long line"),
                        finding(Severity::Error, "", 0, "tests failed"),
                        finding(Severity::Error, "shop.py", 12, "expected 2, got 3"),
                    ],
                    artifacts: vec![Artifact::default()],
                    ..Outcome::default()
                }),
                ..ValidationResult::default()
            })),
        }),
        ..Stage::default()
    };
    stage.set_state(StageState::Failed);
    stage.set_verdict(Verdict::Failed);
    let mut workflow = Workflow {
        workflow_id: "w1".into(),
        name: "shop".into(),
        create_time: Some(at(99)),
        end_time: Some(at(104)),
        stages: vec![stage],
        outcome: Some(WorkflowOutcome {
            verdict: Verdict::Failed.into(),
            reason: "1 of 3 tests failed".into(),
            stage: "validation".into(),
            ..WorkflowOutcome::default()
        }),
        ..Workflow::default()
    };
    workflow.set_state(WorkflowState::Failed);
    workflow.set_type(WorkflowType::Change);
    workflow
}

#[test]
fn a_failure_says_reason_finding_and_next_command() {
    let told = lines(&failed(), Painter::new(false));
    assert_eq!(
        told,
        [
            "FAILED  shop (change) in 5.0 s",
            "  reason      validation: 1 of 3 tests failed",
            "  finding     shop.py:12  expected 2, got 3",
            "  validation  failed            4.0 s  (attempt 2) 1 of 3 tests failed",
            "  artifacts   agentic artifacts list w1",
            "  next        agentic logs w1 --stage validation",
        ]
    );
}

#[test]
fn a_success_says_commit_and_address_and_no_next_command() {
    let mut workflow = failed();
    workflow.set_state(WorkflowState::Succeeded);
    workflow.outcome = Some(WorkflowOutcome {
        verdict: Verdict::Passed.into(),
        merged_commit: "a".repeat(40),
        endpoint: "http://127.0.0.1:4000".into(),
        revision: "3".into(),
        ..WorkflowOutcome::default()
    });
    let told = lines(&workflow, Painter::new(false)).join("\n");
    assert!(told.starts_with("SUCCEEDED  shop"), "{told}");
    assert!(
        told.contains(&format!("merged      {}", "a".repeat(40))),
        "{told}"
    );
    assert!(
        told.contains("running     http://127.0.0.1:4000 (revision 3)"),
        "{told}"
    );
    assert!(!told.contains("next"), "{told}");
}

#[test]
fn not_proven_is_its_own_word() {
    let mut workflow = failed();
    if let Some(outcome) = &mut workflow.outcome {
        outcome.verdict = Verdict::NotProven.into();
    }
    assert!(lines(&workflow, Painter::new(false))[0].starts_with("NOT PROVEN"));
    assert_eq!(
        next_command(&workflow).unwrap(),
        "agentic retry w1 --from validation"
    );
    workflow.set_state(WorkflowState::Succeeded);
    assert!(lines(&workflow, Painter::new(false))[0].starts_with("NOT PROVEN"));
}

#[test]
fn text_of_a_hostile_server_stays_on_its_line() {
    let mut workflow = failed();
    workflow.name = "x\u{1b}[2J\nnext agentic cancel".into();
    workflow.workflow_id = "w\nrm -rf".into();
    for line in lines(&workflow, Painter::new(false)) {
        assert!(!line.contains(['\n', '\u{1b}']), "{line:?}");
    }
}
