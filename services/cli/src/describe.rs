//! One event as one sentence. Pure; the same for `watch` in a pipe, for `events`, and beside bars.

use std::fmt::Write;

use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{
    Stage, StageFinished, StageProgressed, StageQueued, WorkflowEvent, WorkflowState,
};
use contracts::task::{Finding, Verdict};

use crate::output::{Paint, Painter, clean, cut};
use crate::words;

/// Longest foreign sentence on one line.
const SENTENCE: usize = 240;

fn queued_words(queued: &StageQueued) -> String {
    let attempt = match queued.attempt {
        ..=1 => String::new(),
        attempt => format!(" for attempt {attempt}"),
    };
    let key = match clean(&queued.concurrency_key) {
        key if key.is_empty() => String::new(),
        key => format!(", one at a time for {key}"),
    };
    format!("queued{attempt}{key}")
}

/// An event in one sentence. `None`: it says nothing that a person wants to read on its own.
pub fn event(event: &WorkflowEvent, painter: Painter) -> Option<String> {
    let text = match event.payload.as_ref()? {
        Payload::Created(created) => {
            let workflow = created.workflow.clone().unwrap_or_default();
            let stages: Vec<_> = workflow.stages.iter().map(|s| clean(&s.name)).collect();
            format!(
                "{} ({}) taken in: {}",
                clean(&workflow.name),
                words::workflow_type(workflow.r#type()),
                stages.join(" → ")
            )
        }
        Payload::StageQueued(queued) => queued_words(queued),
        Payload::StageStarted(started) if started.attempt > 1 => {
            format!("started, attempt {}", started.attempt)
        }
        Payload::StageStarted(_) => "started".to_owned(),
        Payload::StageProgressed(progressed) => progress(progressed)?,
        Payload::StageFinished(finished) => stage_end(finished, painter),
        Payload::DecisionAsked(asked) => {
            let request = asked.request.clone().unwrap_or_default();
            painter.paint(
                Paint::Doubt,
                &format!("asks for a decision: {}", sentence(&request.question)),
            )
        }
        Payload::DecisionResolved(resolved) => {
            let decision = resolved.decision.clone().unwrap_or_default();
            with_reason(
                &format!(
                    "decision {} by {}",
                    words::resolution(decision.resolution()),
                    or(&decision.actor, "somebody")
                ),
                &decision.rationale,
            )
        }
        Payload::ClarificationAsked(asked) => painter.paint(
            Paint::Doubt,
            &format!("asks: {}", sentence(&asked.question)),
        ),
        Payload::ClarificationAnswered(answered) => {
            format!("answered: {}", sentence(&answered.answer))
        }
        Payload::ArtifactStored(stored) => {
            let artifact = stored.artifact.clone().unwrap_or_default();
            format!(
                "artifact {} ({})",
                clean(&artifact.name),
                words::bytes(artifact.size_bytes)
            )
        }
        Payload::RetryScheduled(retry) => with_reason(
            &format!(
                "attempt {} {}, another one follows",
                retry.attempt,
                match retry.error_class.as_str() {
                    "lost" => "was lost with its agent",
                    "timed_out" => "ran out of time",
                    "refused" => "was refused",
                    _ => "failed",
                }
            ),
            &retry.reason,
        ),
        Payload::LeaseChanged(change) => with_reason(
            if change.adopted {
                "goes on with the same agent"
            } else {
                "lost its agent"
            },
            &change.reason,
        ),
        Payload::Paused(paused) => with_reason("paused", &paused.reason),
        Payload::Resumed(resumed) => with_reason("resumed", &resumed.reason),
        Payload::CancelRequested(cancel) => with_reason("cancelled", &cancel.reason),
        Payload::Retried(retried) => {
            format!(
                "goes on from {}",
                or(&retried.from_stage, "what did not succeed")
            )
        }
        Payload::RepairRequested(repair) => format!(
            "repair by {}, round {}, with {}",
            clean(&repair.repairing_stage),
            repair.round,
            words::count(
                usize::try_from(repair.finding_count).unwrap_or(0),
                "finding"
            )
        ),
        Payload::StageCompensated(undone) => with_reason(
            &format!("undone ({})", words::verdict(undone.verdict())),
            &undone.summary,
        ),
        Payload::Finished(finished) => workflow_end(finished.workflow.as_ref(), painter),
    };
    Some(text)
}

/// Whether an event is worth a line beside bars, which show the rest themselves.
pub fn is_worth_a_line(event: &WorkflowEvent) -> bool {
    matches!(
        event.payload,
        Some(
            Payload::DecisionResolved(_)
                | Payload::ClarificationAnswered(_)
                | Payload::RetryScheduled(_)
                | Payload::LeaseChanged(_)
                | Payload::Paused(_)
                | Payload::Resumed(_)
                | Payload::CancelRequested(_)
                | Payload::Retried(_)
                | Payload::RepairRequested(_)
                | Payload::StageCompensated(_)
        )
    )
}

fn progress(progressed: &StageProgressed) -> Option<String> {
    let progress = progressed.progress.as_ref()?;
    let mut text = format!("{:.0} %", progress.percent.clamp(0.0, 100.0));
    for part in [&progress.phase, &progress.message] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&sentence(part));
        }
    }
    if progress.total_count > 0 {
        let _ = write!(text, " ({}/{})", progress.done_count, progress.total_count);
    }
    Some(text)
}

fn stage_end(finished: &StageFinished, painter: Painter) -> String {
    let Some(stage) = &finished.stage else {
        return "ended".to_owned();
    };
    let verdict = stage_word(stage);
    let mut text = painter.paint(crate::output::of_stage_end(stage), verdict);
    if let Some(took) = words::between(stage.start_time, stage.end_time) {
        let _ = write!(text, " in {}", words::duration(took));
    }
    with_reason(&text, &stage.summary)
}

/// How a stage ended, or what it does, in a word or two.
pub fn stage_word(of: &Stage) -> &'static str {
    use contracts::orchestrator::StageState;
    match (of.state(), of.verdict()) {
        (StageState::Succeeded, _) if of.waived => "waived",
        (StageState::Succeeded | StageState::Failed, verdict)
            if verdict != Verdict::Unspecified =>
        {
            words::verdict(verdict)
        }
        (state, _) => words::stage_state(state),
    }
}

fn workflow_end(workflow: Option<&contracts::orchestrator::Workflow>, painter: Painter) -> String {
    let Some(workflow) = workflow else {
        return "ended".to_owned();
    };
    let outcome = workflow.outcome.clone().unwrap_or_default();
    let state = workflow.state();
    let word = match (state, outcome.verdict()) {
        (WorkflowState::Failed, Verdict::NotProven) => "not proven",
        _ => words::workflow_state(state),
    };
    // The reason of a cancellation says so itself.
    let reason = outcome
        .reason
        .strip_prefix(word)
        .map_or(outcome.reason.as_str(), |rest| {
            rest.trim_start_matches(": ")
        });
    with_reason(
        &painter.paint(crate::output::of_workflow(state), word),
        reason,
    )
}

/// A finding on one line: place, message, rule.
pub fn finding(finding: &Finding) -> String {
    let mut text = String::new();
    if !finding.path.is_empty() {
        text.push_str(&clean(&finding.path));
        if finding.line > 0 {
            let _ = write!(text, ":{}", finding.line);
        }
        text.push_str("  ");
    }
    text.push_str(&sentence(&finding.message));
    if !finding.rule.is_empty() {
        let _ = write!(text, "  [{}]", clean(&finding.rule));
    }
    text
}

fn sentence(text: &str) -> String {
    cut(&clean(text), SENTENCE)
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() {
        otherwise.to_owned()
    } else {
        clean(text)
    }
}

fn with_reason(text: &str, reason: &str) -> String {
    if reason.is_empty() {
        text.to_owned()
    } else {
        format!("{text}: {}", sentence(reason))
    }
}

#[cfg(test)]
mod tests;
