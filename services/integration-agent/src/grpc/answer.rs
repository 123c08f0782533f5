//! Writes results down: everything that was seen, bounded, and in one sentence for people.

use agent_runtime::{
    process::{Ending, Finished},
    repository::CommitId,
};
use contracts::{
    integration::{self as proto, ConflictStrategy, ConflictType, IntegrationResult},
    task::{
        ApprovalEffect, Artifact, DecisionCategory, DecisionRequest, Finding, Outcome, Repository,
        Severity, ToolRun, Verdict as WireVerdict,
    },
    wire_time,
};

use crate::{
    checks::{CheckRun, Side as CheckSide},
    conflict::{Choice, Conflict, Kind, Side, bounded_text},
    decision::Question,
    integrate::{End, Order, Report},
    ladder::{Rung, Verdict},
    merge,
    strategy::Strategy,
};

/// Most conflicts and findings of a result.
const ITEMS_MOST: usize = 200;
/// Most changed files of a result.
const FILES_MOST: usize = 1000;

/// The result of a merge.
pub fn of_merge(
    order: &Order,
    report: &Report,
    conflicts: Vec<proto::Conflict>,
    artifacts: Vec<Artifact>,
) -> IntegrationResult {
    let text = |commit: &dyn ToString| commit.to_string();
    let before = report
        .target_before
        .as_ref()
        .map_or_else(String::new, |it| text(it));
    let source = report.source.to_string();
    let target = &report.target;
    let (verdict, summary, commit) = match order.strategy {
        Strategy::Merge => ending(order, report, "merged into"),
        Strategy::Squash => ending(order, report, "squashed into"),
        Strategy::Rebase => ending(order, report, "rebased onto"),
        Strategy::FastForward => ending(order, report, "moved forward into"),
        Strategy::Revert { .. } => taken_back(order, report),
    };
    let decision = match &report.end {
        End::Unmerged { question, .. } => question.as_ref().map(decision),
        End::Merged { .. } | End::AlreadyContained { .. } => None,
    };
    let merged_commit = commit.map_or_else(String::new, |commit| commit.to_string());
    let head = match (&report.end, commit) {
        (_, Some(commit)) => commit.to_string(),
        // The target is what has the change.
        (End::AlreadyContained { .. }, None) => before.clone(),
        (End::Merged { .. } | End::Unmerged { .. }, None) => source.clone(),
    };
    let unmerged = matches!(report.end, End::Unmerged { .. });
    let open = report
        .conflicts
        .iter()
        .filter(|conflict| conflict.is_open())
        .count();
    let outcome = Outcome {
        verdict: wire(verdict).into(),
        summary,
        findings: findings(report),
        repository: Some(Repository {
            url: order.url.to_string(),
            base_commit: before.clone(),
            head_commit: head,
            branch: if unmerged {
                order.source_name.clone()
            } else {
                target.clone()
            },
            target_branch: target.clone(),
        }),
        decision,
        tool_runs: report.programs.iter().map(tool_run).collect(),
        artifacts,
        merged_commit: merged_commit.clone(),
        ..Outcome::default()
    };
    IntegrationResult {
        outcome: Some(outcome),
        merge: Some(proto::MergeReport {
            strategy: strategy(order.strategy).into(),
            rollback: commit.map_or_else(String::new, |commit| {
                rollback(order.strategy, &before, &commit.to_string())
            }),
            merge_commit: merged_commit,
            target_before: before,
            source_commit: source,
            target: target.clone(),
            already_contained: matches!(report.end, End::AlreadyContained { .. }),
            resolved_count: count(report.conflicts.len() - open),
            remaining_count: count(open),
            conflicts,
            changed_files: report
                .changed
                .iter()
                .take(FILES_MOST)
                .map(|path| path.display().to_string())
                .collect(),
            rungs: report.rungs.iter().map(rung).collect(),
            remerge_count: i32::try_from(report.remerge_count).unwrap_or(i32::MAX),
        }),
        updates: Vec::new(),
        checks: check_runs(&report.checks),
    }
}

/// The verdict, one sentence, and the commit that the target got.
fn ending(order: &Order, report: &Report, how: &str) -> (Verdict, String, Option<CommitId>) {
    let target = &report.target;
    match &report.end {
        End::Merged { commit, waived_by } => {
            let mut summary = format!("{} {how} {target} as {commit}", order.source_name);
            if let Some(actor) = waived_by {
                summary = format!("{summary}; what was not proven was waived by {actor}");
            }
            (Verdict::Passed, summary, Some(*commit))
        }
        End::AlreadyContained {
            commit: Some(commit),
        } => (
            Verdict::Passed,
            format!("{} is in {target} already, by {commit}", order.source_name),
            Some(*commit),
        ),
        End::AlreadyContained { commit: None } => (
            Verdict::Passed,
            format!(
                "{} is in {target} already: nothing to merge",
                order.source_name
            ),
            None,
        ),
        End::Unmerged {
            verdict, reason, ..
        } => (*verdict, format!("not merged: {reason}"), None),
    }
}

/// The same of a revert.
fn taken_back(order: &Order, report: &Report) -> (Verdict, String, Option<CommitId>) {
    let (source, target) = (report.source, &report.target);
    match &report.end {
        End::Merged { commit, waived_by } => {
            let mut summary = format!("{source} was taken back from {target} by {commit}");
            if let Some(actor) = waived_by {
                summary = format!("{summary}; what was not proven was waived by {actor}");
            }
            (Verdict::Passed, summary, Some(*commit))
        }
        End::AlreadyContained {
            commit: Some(commit),
        } => (
            Verdict::Passed,
            format!("{source} was taken back from {target} already, by {commit}"),
            Some(*commit),
        ),
        End::AlreadyContained { commit: None } => (
            Verdict::Passed,
            format!("{target} has nothing of {source}: nothing to take back"),
            None,
        ),
        End::Unmerged {
            verdict, reason, ..
        } => (
            *verdict,
            format!(
                "{source} was not taken back from {target}: {reason}; by hand: `{}` on {target}",
                order.by_hand
            ),
            None,
        ),
    }
}

/// The result of a revert that had nothing to look at.
pub fn of_nothing(
    repository: Option<Repository>,
    verdict: Verdict,
    summary: String,
) -> IntegrationResult {
    IntegrationResult {
        outcome: Some(Outcome {
            verdict: wire(verdict).into(),
            summary,
            repository,
            ..Outcome::default()
        }),
        ..IntegrationResult::default()
    }
}

/// The result of running checks alone.
pub fn of_checks(
    repository: Repository,
    judged: &Rung,
    runs: &[CheckRun],
    programs: &[Finished],
) -> IntegrationResult {
    IntegrationResult {
        outcome: Some(Outcome {
            verdict: wire(judged.verdict).into(),
            summary: judged.reason.clone(),
            findings: check_findings(runs).take(ITEMS_MOST).collect(),
            repository: Some(repository),
            tool_runs: programs.iter().map(tool_run).collect(),
            ..Outcome::default()
        }),
        merge: None,
        updates: Vec::new(),
        checks: check_runs(runs),
    }
}

/// Conflicts with the text of their sides.
pub fn conflicts(
    objects: &git2::Repository,
    conflicts: &[Conflict],
) -> Result<Vec<proto::Conflict>, merge::Error> {
    conflicts
        .iter()
        .take(ITEMS_MOST)
        .map(|conflict| {
            let side = |side: &Option<Side>| side.as_ref().map(|side| wire_side(objects, side));
            let resolution = conflict.resolution.as_ref();
            let resolved = resolution.and_then(|resolution| resolution.result);
            Ok(proto::Conflict {
                path: conflict.path.display().to_string(),
                r#type: kind(conflict.kind).into(),
                base: side(&conflict.base),
                ours: side(&conflict.ours),
                theirs: side(&conflict.theirs),
                strategy: resolution
                    .map_or(
                        ConflictStrategy::Unspecified,
                        |resolution| match resolution.choice {
                            Choice::Ours => ConflictStrategy::Ours,
                            Choice::Theirs => ConflictStrategy::Theirs,
                        },
                    )
                    .into(),
                resolution: resolved
                    .and_then(|blob| objects.find_blob(blob).ok())
                    .map_or_else(String::new, |blob| bounded_text(blob.content()).0),
                evidence: match resolution {
                    None => conflict.explanation.clone(),
                    Some(resolution) => match &resolution.author {
                        crate::conflict::Author::Task => "the task said so".to_owned(),
                        crate::conflict::Author::Person(actor) => format!("chosen by {actor}"),
                    },
                },
            })
        })
        .collect()
}

fn wire_side(objects: &git2::Repository, side: &Side) -> proto::ConflictSide {
    // A submodule's commit is not here.
    let (text, truncated) = objects.find_blob(side.blob).map_or_else(
        |_| (String::new(), false),
        |blob| bounded_text(blob.content()),
    );
    proto::ConflictSide {
        path: side.path.display().to_string(),
        blob: side.blob.to_string(),
        mode: i32::try_from(side.mode).unwrap_or_default(),
        text,
        truncated,
    }
}

fn decision(question: &Question) -> DecisionRequest {
    DecisionRequest {
        category: DecisionCategory::Merge.into(),
        question: question.question.clone(),
        subject_digest: question.digest.clone(),
        detail: question.detail.clone(),
        choices: question
            .choices
            .iter()
            .map(|choice| (*choice).to_owned())
            .collect(),
        on_approval: ApprovalEffect::Rerun.into(),
        confidence: 0.0,
    }
}

fn findings(report: &Report) -> Vec<Finding> {
    let conflicts = report
        .conflicts
        .iter()
        .filter(|conflict| conflict.is_open())
        .map(|conflict| Finding {
            rule: "merge:conflict".to_owned(),
            severity: Severity::Error.into(),
            message: conflict.explanation.clone(),
            path: conflict.path.display().to_string(),
            fingerprint: format!("merge:conflict:{}", conflict.path.display()),
            tool: "git".to_owned(),
            new: true,
            ..Finding::default()
        });
    conflicts
        .chain(check_findings(&report.checks))
        .take(ITEMS_MOST)
        .collect()
}

fn check_findings(runs: &[CheckRun]) -> impl Iterator<Item = Finding> {
    runs.iter()
        .filter(|run| run.verdict != Verdict::Passed)
        .flat_map(|run| {
            let severity = if run.verdict == Verdict::Failed {
                Severity::Error
            } else {
                Severity::Warning
            };
            let finding = move |message: String| Finding {
                rule: format!("check:{}", run.name),
                severity: severity.into(),
                fingerprint: format!("check:{}:{message}", run.name),
                message,
                tool: run.name.clone(),
                new: true,
                ..Finding::default()
            };
            let failures = run
                .counts
                .failures
                .iter()
                .map(move |test| finding(format!("{test} failed")));
            std::iter::once(finding(run.reason.clone())).chain(failures)
        })
}

fn check_runs(runs: &[CheckRun]) -> Vec<proto::CheckRun> {
    runs.iter()
        .flat_map(|run| {
            run.sides.iter().map(|side| proto::CheckRun {
                side: match side {
                    CheckSide::Target => "target".to_owned(),
                    CheckSide::Source => "source".to_owned(),
                },
                name: run.name.clone(),
                verdict: wire(run.verdict).into(),
                reason: run.reason.clone(),
                total_count: count(run.counts.total() as usize),
                passed_count: count(run.counts.passed as usize),
                failed_count: count(run.counts.failed as usize),
                skipped_count: count(run.counts.skipped as usize),
                failures: run
                    .counts
                    .failures
                    .iter()
                    .take(ITEMS_MOST)
                    .cloned()
                    .collect(),
            })
        })
        .collect()
}

fn rung(rung: &Rung) -> proto::Rung {
    proto::Rung {
        name: rung.name.to_string(),
        verdict: wire(rung.verdict).into(),
        reason: rung.reason.clone(),
    }
}

fn tool_run(finished: &Finished) -> ToolRun {
    ToolRun {
        tool: finished.argv.first().cloned().unwrap_or_default(),
        version: String::new(),
        argv: finished.argv.clone(),
        exit_code: finished.ending.exit_code(),
        ending: match finished.ending {
            Ending::Exited(_) => String::new(),
            Ending::Signalled(_) | Ending::TimedOut | Ending::Cancelled => {
                finished.ending.to_string()
            }
        },
        duration: Some(wire_time::wire_duration(finished.duration)),
    }
}

fn rollback(strategy: Strategy, before: &str, commit: &str) -> String {
    match strategy {
        Strategy::Merge => format!("git revert -m 1 {commit}"),
        Strategy::Squash | Strategy::Revert { .. } => format!("git revert {commit}"),
        Strategy::Rebase | Strategy::FastForward => format!("git revert {before}..{commit}"),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn wire(verdict: Verdict) -> WireVerdict {
    match verdict {
        Verdict::Passed => WireVerdict::Passed,
        Verdict::Failed => WireVerdict::Failed,
        Verdict::NotProven => WireVerdict::NotProven,
    }
}

fn strategy(strategy: Strategy) -> proto::MergeStrategy {
    match strategy {
        Strategy::Merge => proto::MergeStrategy::Merge,
        Strategy::Squash => proto::MergeStrategy::Squash,
        Strategy::Rebase => proto::MergeStrategy::Rebase,
        Strategy::FastForward => proto::MergeStrategy::FastForward,
        Strategy::Revert { .. } => proto::MergeStrategy::Revert,
    }
}

fn kind(kind: Kind) -> ConflictType {
    match kind {
        Kind::Content => ConflictType::Content,
        Kind::Rename => ConflictType::Rename,
        Kind::Delete => ConflictType::Delete,
        Kind::Add => ConflictType::Add,
        Kind::Mode => ConflictType::Mode,
        Kind::Type => ConflictType::Type,
        Kind::Binary => ConflictType::Binary,
        Kind::Submodule => ConflictType::Submodule,
        Kind::Driver => ConflictType::Driver,
    }
}
