//! What a task came to, and why it came to nothing, as the contract says it. Decides nothing.

use std::error::Error as _;

use contracts::{
    error::Error,
    error_reason::ErrorReason,
    scaffold::{self, GeneratedFile, ProjectStructure, ScaffoldResult, StopReason},
    task::{Outcome, Repository, Verdict},
};

use crate::{
    agent::Work,
    brief::{Action, Brief},
    generator::{self, Stop},
    publication::Written,
};

/// The result of a task.
pub fn result(work: Work) -> ScaffoldResult {
    let Work {
        brief,
        ground,
        draft,
        backend,
        published,
    } = work;
    let tip = published
        .as_ref()
        .map(|published| published.commit)
        .or(ground.tip);
    let commit = published
        .as_ref()
        .map_or_else(String::new, |published| published.commit.to_string());
    let branch = if tip.is_some() {
        ground.branch
    } else {
        String::new()
    };
    let outcome = Outcome {
        verdict: verdict(draft.stop).into(),
        summary: draft.summary,
        findings: standing(&brief, draft.stop),
        repository: Some(Repository {
            url: ground.url,
            base_commit: ground.base.to_string(),
            head_commit: tip.map_or_else(String::new, |tip| tip.to_string()),
            branch: branch.clone(),
            target_branch: ground.target_branch,
        }),
        usage: Some(draft.usage),
        project_is_app: published
            .as_ref()
            .and_then(|published| published.project_is_app),
        ..Outcome::default()
    };
    let (tree, written) = published.map_or_else(Default::default, |published| {
        (published.tree, published.written)
    });
    ScaffoldResult {
        outcome: Some(outcome),
        analysis: draft.analysis,
        commit,
        branch,
        tree,
        created_count: count(written.created_count),
        changed_count: count(written.changed_count),
        deleted_count: count(written.deleted_count),
        structure: Some(structure(
            &brief,
            written,
            draft.dependencies,
            draft.scripts.into_iter().collect(),
        )),
        generator: Some(scaffold::Generator {
            backend: backend.to_owned(),
            model: draft.model,
            template: draft.template,
        }),
        round_count: i32::try_from(draft.round_count).unwrap_or(i32::MAX),
        stop_reason: stop_reason(draft.stop).into(),
        confidence: draft.confidence,
    }
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
        Stop::Tokens | Stop::Cost | Stop::WallTime => Verdict::NotProven,
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
        Cause::Cancelled => Error::new(ErrorReason::Cancelled, error.to_string()),
    }
}
