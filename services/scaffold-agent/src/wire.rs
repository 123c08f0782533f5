//! What a task came to, and why it came to nothing, as the contract says it. Decides nothing.

use std::error::Error as _;

use sha2::{Digest as _, Sha256};

use contracts::{
    error::Error,
    error_reason::ErrorReason,
    scaffold::{self, GeneratedFile, ProjectStructure, ScaffoldResult, StopReason},
    task::{
        ApprovalEffect, DecisionCategory, DecisionRequest, Outcome, Repository, Resolution,
        ResolvedDecision, Verdict,
    },
};

use crate::{
    agent::Work,
    brief::{Action, Brief},
    generator::{self, Stop},
    model,
    publication::Written,
    text,
};

/// Most bytes of what is shown for a decision (task.proto).
const DETAIL_BYTES: usize = 64 * 1024;

/// The result of a task. `decisions` are those that were made about this stage.
pub fn result(work: Work, decisions: &[ResolvedDecision]) -> ScaffoldResult {
    let decision = decision(&work).filter(|asked| !is_approved(asked, decisions));
    let Work {
        brief,
        ground,
        draft,
        backend,
        published,
        checkpoint,
        ..
    } = work;
    let tip = published
        .as_ref()
        .map(|published| published.commit)
        .or(ground.tip);
    let branch = if tip.is_some() {
        ground.branch
    } else {
        String::new()
    };
    let verdict = match decision {
        Some(_) => Verdict::NotProven,
        None => verdict(draft.stop),
    };
    let mut result = ScaffoldResult {
        analysis: draft.analysis,
        branch: branch.clone(),
        generator: Some(scaffold::Generator {
            backend: backend.to_owned(),
            model: draft.model,
            template: draft.template,
        }),
        round_count: i32::try_from(draft.round_count).unwrap_or(i32::MAX),
        stop_reason: stop_reason(draft.stop).into(),
        confidence: draft.confidence,
        ..ScaffoldResult::default()
    };
    let mut project_is_app = None;
    let mut written = Written::default();
    if let Some(published) = published {
        result.commit = published.commit.to_string();
        result.tree = published.tree;
        project_is_app = published.project_is_app;
        written = published.written;
    }
    result.created_count = count(written.created_count);
    result.changed_count = count(written.changed_count);
    result.deleted_count = count(written.deleted_count);
    result.outcome = Some(Outcome {
        verdict: verdict.into(),
        summary: draft.summary,
        findings: standing(&brief, draft.stop),
        repository: Some(Repository {
            url: ground.url,
            base_commit: ground.base.to_string(),
            head_commit: tip.map_or_else(String::new, |tip| tip.to_string()),
            branch,
            target_branch: ground.target_branch,
        }),
        decision,
        usage: Some(draft.usage),
        project_is_app,
        clarification: draft.question,
        exhausted: draft.exhausted.into(),
        checkpoint,
        ..Outcome::default()
    });
    let scripts = draft.scripts.into_iter().collect();
    result.structure = Some(structure(&brief, written, draft.dependencies, scripts));
    result
}

/// What a person must say about a change that touches its own judge.
fn decision(work: &Work) -> Option<DecisionRequest> {
    let published = work
        .published
        .as_ref()
        .filter(|_| !work.touches.is_empty())?;
    let lines: Vec<String> = work
        .touches
        .iter()
        .map(|touch| format!("- {} {}", text::markdown(&touch.path), touch.what))
        .collect();
    let list = lines.join("\n");
    let digest = Sha256::digest(format!("{}\n{list}", published.tree));
    let heading = format!(
        "The change of commit {} touches what judges it:",
        published.commit
    );
    Some(DecisionRequest {
        category: DecisionCategory::SecurityAffecting.into(),
        question: format!(
            "May this change touch {} file(s) that decide whether it is good?",
            work.touches.len()
        ),
        subject_digest: format!("sha256:{}", hex::encode(digest)),
        detail: cut(&format!("{heading}\n\n{list}\n"), DETAIL_BYTES).to_owned(),
        on_approval: ApprovalEffect::Accept.into(),
        confidence: work.draft.confidence,
        ..DecisionRequest::default()
    })
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn is_approved(asked: &DecisionRequest, decisions: &[ResolvedDecision]) -> bool {
    decisions.iter().any(|decision| {
        decision.resolution() == Resolution::Approve
            && decision.subject_digest == asked.subject_digest
    })
}

fn structure(
    brief: &Brief,
    written: Written,
    dependencies: Vec<String>,
    scripts: std::collections::HashMap<String, String>,
) -> ProjectStructure {
    ProjectStructure {
        root: brief.subject.name.clone(),
        directories: written.directories.into_iter().collect(),
        files: written
            .files
            .into_iter()
            .map(|file| GeneratedFile {
                path: file.path,
                kind: file.kind.to_owned(),
                size_bytes: i64::try_from(file.bytes).unwrap_or(i64::MAX),
                sha256: file.sha256,
            })
            .collect(),
        dependencies,
        scripts,
    }
}

/// What ran out says nothing about the work; what was tried and did not succeed does.
fn verdict(stop: Stop) -> Verdict {
    match stop {
        Stop::Done => Verdict::Passed,
        Stop::Rounds | Stop::Stuck | Stop::Refused => Verdict::Failed,
        Stop::Tokens | Stop::Cost | Stop::WallTime | Stop::Context | Stop::Asked => {
            Verdict::NotProven
        }
    }
}

/// What a repair that was not made leaves standing.
fn standing(brief: &Brief, stop: Stop) -> Vec<contracts::task::Finding> {
    if brief.action == Action::Repair && stop != Stop::Done {
        brief.findings.clone()
    } else {
        Vec::new()
    }
}

fn stop_reason(stop: Stop) -> StopReason {
    match stop {
        Stop::Done => StopReason::Done,
        Stop::Rounds => StopReason::Rounds,
        Stop::Tokens => StopReason::Tokens,
        Stop::Cost => StopReason::Cost,
        Stop::WallTime => StopReason::WallTime,
        Stop::Stuck => StopReason::Stuck,
        Stop::Refused => StopReason::Refused,
        Stop::Context => StopReason::Context,
        Stop::Asked => StopReason::Asked,
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Why there is no draft, as callers are told.
pub fn generator_error(error: generator::Error) -> Error {
    use generator::Error as Cause;
    match error {
        Cause::UnknownTemplate(unknown) => {
            let wire = Error::invalid_field("task.template", unknown.to_string());
            match unknown.nearest {
                Some(nearest) => wire.with("nearest", nearest),
                None => wire,
            }
        }
        Cause::Parameters(wrong) => Error::invalid_fields(
            wrong
                .into_iter()
                .map(|wrong| {
                    (
                        format!("task.template_parameters[{}]", wrong.name),
                        wrong.problem,
                    )
                })
                .collect(),
        ),
        Cause::Render { ref source, .. } => {
            let cause = source
                .source()
                .map_or(String::new(), |cause| format!(": {cause}"));
            Error::invalid_field("task.template", format!("{error}: {source}{cause}"))
        }
        Cause::Unable { .. } => Error::new(ErrorReason::CapabilityMissing, error.to_string()),
        Cause::Repository(error) => error.into(),
        Cause::Model(error) => model_error(&error),
        Cause::Cancelled => Error::new(ErrorReason::Cancelled, error.to_string()),
    }
}

/// A provider that is away is a fault of the surroundings; a request that it takes for wrong is not.
fn model_error(error: &model::Error) -> Error {
    let reason = match error {
        model::Error::Overloaded { .. }
        | model::Error::Unreachable { .. }
        | model::Error::NotKept { .. } => ErrorReason::Infrastructure,
        model::Error::Rejected { .. } | model::Error::NotRecorded(_) => {
            ErrorReason::CapabilityMissing
        }
    };
    let wire = Error::new(reason, error.to_string());
    match error.retry_after() {
        Some(delay) => wire.retry_after(delay),
        None => wire,
    }
}
