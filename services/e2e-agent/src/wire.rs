//! What came of a task, as the contract says it. Decides nothing.

use agent_runtime::{process::Finished, project::Project};
use contracts::{
    e2e::{AppRun, E2eResult, SuiteResult, TestFailure, TestStatus},
    task::{
        ApprovalEffect, DecisionCategory, DecisionRequest, Finding, Outcome, Repository, Severity,
        ToolRun, Verdict,
    },
    wire_time::wire_duration,
};
use sha2::{Digest as _, Sha256};

use crate::{
    examination::{AppOutcome, Examined, SuiteOutcome},
    plan::{Plan, StartPlan},
    subject::Subject,
    tally::Test,
};

/// Bounds of the contract.
const FAILURES_MOST: usize = 200;
const FINDINGS_MOST: usize = 200;
const LOG_TAIL_BYTES: usize = 8 * 1024;
const MESSAGE_CHARACTERS: usize = 4000;

/// What a result says about the project and its commits.
pub struct Frame<'a> {
    /// The repository as the task named it.
    pub asked: Option<&'a Repository>,
    /// The commits.
    pub subject: Option<&'a Subject>,
    /// The project.
    pub project: Option<&'a Project>,
}

/// A result of a task that had something to start.
pub fn result(frame: &Frame<'_>, plan: &Plan, start: &StartPlan, examined: Examined) -> E2eResult {
    let findings = examined
        .suites
        .iter()
        .flat_map(findings)
        .take(FINDINGS_MOST)
        .collect();
    let outcome = Outcome {
        verdict: examined.judgement.verdict.into(),
        summary: examined.judgement.reason,
        findings,
        repository: frame.repository(),
        tool_runs: examined.evidence.runs.iter().map(tool_run).collect(),
        artifacts: examined.evidence.artifacts,
        project_is_app: Some(true),
        ..Outcome::default()
    };
    E2eResult {
        outcome: Some(outcome),
        suites: examined.suites.iter().map(suite).collect(),
        app: Some(app_run(&examined.app, start)),
        description_source: plan.description_source.to_owned(),
        p95_latency_ms: examined.p95_latency_ms,
    }
}

/// A result of a task that had nothing to start.
pub fn nothing_to_start(frame: &Frame<'_>, plan: &Plan, reason: &str) -> E2eResult {
    E2eResult {
        outcome: Some(Outcome {
            verdict: Verdict::NotProven.into(),
            summary: reason.to_owned(),
            repository: frame.repository(),
            project_is_app: frame.project.map(Project::is_app),
            ..Outcome::default()
        }),
        description_source: plan.description_source.to_owned(),
        ..E2eResult::default()
    }
}

/// Asks a person about a change that touches its own judges.
pub fn ask_about(result: &mut E2eResult, touched: &[String]) {
    let detail = touched
        .iter()
        .map(|line| format!("- {line}"))
        .collect::<Vec<_>>()
        .join("\n");
    let digest = digest_of(touched);
    if let Some(outcome) = &mut result.outcome {
        outcome.verdict = Verdict::NotProven.into();
        outcome.summary = format!(
            "the change touches the tests that judge it: {}",
            touched.join("; ")
        );
        outcome.decision = Some(DecisionRequest {
            category: DecisionCategory::SecurityAffecting.into(),
            question: "May this change alter the end-to-end tests that judge it?".to_owned(),
            subject_digest: digest,
            detail,
            choices: Vec::new(),
            on_approval: ApprovalEffect::Accept.into(),
            confidence: 0.0,
        });
    }
}

/// What a person's answer is bound to.
pub fn digest_of(touched: &[String]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(touched.join("\n"))))
}

impl Frame<'_> {
    fn repository(&self) -> Option<Repository> {
        let mut repository = self.asked?.clone();
        if let Some(subject) = self.subject {
            repository.head_commit = subject.head.to_string();
            if let Some(base) = subject.base {
                repository.base_commit = base.to_string();
            }
        }
        Some(repository)
    }
}

fn suite(outcome: &SuiteOutcome) -> SuiteResult {
    let tally = &outcome.tally;
    let failures = tally
        .tests()
        .iter()
        .filter(|test| test.status() != TestStatus::Passed)
        .take(FAILURES_MOST);
    SuiteResult {
        name: outcome.suite.name.clone(),
        browser: outcome.suite.browser(),
        verdict: outcome.judgement.verdict.into(),
        reason: outcome.judgement.reason.clone(),
        total_count: count(tally.tests().len()),
        passed_count: count(tally.count(TestStatus::Passed)),
        failed_count: count(tally.count(TestStatus::Failed)),
        skipped_count: count(tally.skipped_count()),
        flaky_count: count(tally.count(TestStatus::Flaky)),
        duration: Some(wire_duration(outcome.duration)),
        failures: failures.map(failure).collect(),
    }
}

fn failure(test: &Test) -> TestFailure {
    let (message, step) = test.complaint().unwrap_or(("it was skipped", ""));
    TestFailure {
        name: test.name.clone(),
        message: message.chars().take(MESSAGE_CHARACTERS).collect(),
        step: step.to_owned(),
        status: test.status().into(),
        fails_at_base: test.fails_at_base(),
        attempt_count: count(test.head.len()),
    }
}

fn findings(outcome: &SuiteOutcome) -> Vec<Finding> {
    let bad = |status| matches!(status, TestStatus::Failed | TestStatus::Flaky);
    outcome
        .tally
        .tests()
        .iter()
        .filter(|test| bad(test.status()))
        .map(|test| {
            let (message, _) = test.complaint().unwrap_or_default();
            let rule = format!("e2e:{}", outcome.suite.name);
            Finding {
                severity: Severity::Error.into(),
                message: format!("{}: {message}", test.name)
                    .chars()
                    .take(MESSAGE_CHARACTERS)
                    .collect(),
                path: String::new(),
                line: 0,
                fingerprint: hex::encode(Sha256::digest(format!("{rule}\n{}", test.name))),
                tool: "e2e".to_owned(),
                new: !test.fails_at_base(),
                rule,
            }
        })
        .collect()
}

fn app_run(app: &AppOutcome, start: &StartPlan) -> AppRun {
    use agent_runtime::project::StartBy;
    let start_command = match &start.start.by {
        StartBy::Command(argv) => argv.as_slice().to_vec(),
        StartBy::Image(image) => vec!["docker".to_owned(), "run".to_owned(), image.clone()],
        StartBy::Compose(file) => vec![
            "docker-compose".to_owned(),
            "up".to_owned(),
            file.to_string(),
        ],
        StartBy::Url(_) => Vec::new(),
    };
    let ending = match &app.finished {
        None if start_command.is_empty() => "not ours".to_owned(),
        None => "not started".to_owned(),
        Some(_) if app.stopped_by_us => "stopped by us".to_owned(),
        Some(finished) => finished.ending.to_string(),
    };
    let exit_code = app
        .finished
        .as_ref()
        .filter(|_| !app.stopped_by_us)
        .and_then(|finished| finished.ending.exit_code());
    AppRun {
        ready_after: app.ready_after.map(wire_duration),
        exit_code,
        ending,
        start_command,
        log_tail: app.finished.as_ref().map(tail).unwrap_or_default(),
    }
}

fn tail(finished: &Finished) -> String {
    let text = finished.combined.text();
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL_BYTES));
    text[from..].to_owned()
}

fn tool_run(finished: &Finished) -> ToolRun {
    let exit_code = finished.ending.exit_code();
    ToolRun {
        tool: finished.argv.first().cloned().unwrap_or_default(),
        version: String::new(),
        argv: finished.argv.clone(),
        exit_code,
        ending: if exit_code.is_some() {
            String::new()
        } else {
            finished.ending.to_string()
        },
        duration: Some(wire_duration(finished.duration)),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
