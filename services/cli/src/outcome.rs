//! How a workflow ended, for people: verdict, commit, address, artifacts, time per stage, and on
//! anything but success the reason, the finding, and the next command to type. Pure.

use contracts::orchestrator::{Stage, StageState, Workflow, WorkflowOutcome, WorkflowState};
use contracts::task::{Finding, Outcome, Verdict};

use crate::budget;
use crate::describe;
use crate::output::{Paint, Painter, clean, cut, of_stage_end, of_workflow};
use crate::words;

// Room for what is left to do by hand where an undo did not succeed.
const REASON: usize = 1200;
const SUMMARY: usize = 100;

/// The lines that tell how a workflow ended.
pub fn lines(workflow: &Workflow, painter: Painter) -> Vec<String> {
    let outcome = workflow.outcome.clone().unwrap_or_default();
    let mut lines = vec![headline(workflow, painter)];
    let mut fact = |name: &str, value: String| {
        lines.push(format!(
            "  {} {value}",
            painter.paint(Paint::Faint, &format!("{name:<11}"))
        ));
    };
    if is_success(workflow) {
        if !outcome.reason.is_empty() {
            fact("result", cut(&clean(&outcome.reason), REASON));
        }
    } else {
        fact("reason", reason(workflow));
        if let Some(finding) = first_finding(workflow) {
            fact("finding", describe::finding(&finding));
        }
    }
    if !outcome.merged_commit.is_empty() {
        let target = workflow
            .repository
            .as_ref()
            .map(|repository| clean(&repository.target_branch))
            .filter(|target| !target.is_empty());
        fact(
            "merged",
            match target {
                Some(target) => format!("{} on {target}", clean(&outcome.merged_commit)),
                None => clean(&outcome.merged_commit),
            },
        );
    }
    if let Some(repository) = workflow.repository.as_ref().filter(|r| !r.url.is_empty()) {
        fact("code", clean(&repository.url));
    }
    if !outcome.endpoint.is_empty() {
        let revision = if outcome.revision.is_empty() {
            String::new()
        } else {
            format!(" (revision {})", clean(&outcome.revision))
        };
        fact("running", format!("{}{revision}", clean(&outcome.endpoint)));
    }
    lines.extend(stage_lines(workflow, painter));
    let mut fact = |name: &str, value: String| {
        lines.push(format!(
            "  {} {value}",
            painter.paint(Paint::Faint, &format!("{name:<11}"))
        ));
    };
    if outcomes(workflow).any(|(_, outcome)| !outcome.artifacts.is_empty()) {
        let id = clean(&workflow.workflow_id);
        fact("artifacts", format!("agentic artifacts list {id}"));
    }
    if let Some(usage) = outcome.usage.filter(|usage| usage.cost_micros > 0) {
        fact("cost", words::cost(usage.cost_micros));
    }
    if let Some(command) = next_command(workflow) {
        fact("next", painter.paint(Paint::Strong, &command));
    }
    lines
}

fn headline(workflow: &Workflow, painter: Painter) -> String {
    let state = workflow.state();
    let (word, paint) = match (state, verdict(workflow)) {
        (
            WorkflowState::Failed | WorkflowState::Succeeded,
            Verdict::NotProven | Verdict::Unspecified,
        ) => ("NOT PROVEN".to_owned(), Paint::Doubt),
        _ => (
            words::workflow_state(state).to_uppercase(),
            of_workflow(state),
        ),
    };
    let took = words::between(workflow.create_time, workflow.end_time)
        .map_or_else(String::new, |took| format!(" in {}", words::duration(took)));
    format!(
        "{}  {} ({}){took}",
        painter.paint(paint, &word),
        painter.paint(Paint::Strong, &clean(&workflow.name)),
        words::workflow_type(workflow.r#type()),
    )
}

/// Stages as a small table: name, how it stands, time, sentence.
pub fn stage_lines(workflow: &Workflow, painter: Painter) -> Vec<String> {
    let width = workflow
        .stages
        .iter()
        .map(|stage| clean(&stage.name).chars().count())
        .max()
        .unwrap_or(0);
    workflow
        .stages
        .iter()
        .map(|stage| {
            let word = format!("{:<10}", describe::stage_word(stage));
            let took = words::between(stage.start_time, stage.end_time)
                .map_or_else(String::new, words::duration);
            let mut notes = Vec::new();
            if stage.attempt_count > 1 {
                notes.push(format!("attempt {}", stage.attempt_count));
            }
            if stage.repair_round_count > 0 {
                notes.push(format!("repair round {}", stage.repair_round_count));
            }
            let cost = stage
                .result
                .as_ref()
                .and_then(|result| result.outcome())
                .and_then(|outcome| outcome.usage.as_ref())
                .map_or(0, |usage| usage.cost_micros);
            if cost > 0 {
                notes.push(words::cost(cost));
            }
            let notes = if notes.is_empty() {
                String::new()
            } else {
                format!("({}) ", notes.join(", "))
            };
            format!(
                "  {:<width$}  {}  {took:>11}  {notes}{}",
                clean(&stage.name),
                painter.paint(of_stage_end(stage), &word),
                painter.paint(Paint::Faint, &cut(&clean(&stage.summary), SUMMARY)),
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

/// Why it is no success, in one sentence.
pub fn reason(workflow: &Workflow) -> String {
    let outcome = workflow.outcome.clone().unwrap_or_default();
    let reason = if outcome.reason.is_empty() {
        "the mesh gave no reason".to_owned()
    } else {
        cut(&clean(&outcome.reason), REASON)
    };
    if outcome.stage.is_empty() || reason.contains(&outcome.stage) {
        reason
    } else {
        format!("{}: {reason}", clean(&outcome.stage))
    }
}

/// The finding to look at first: the worst one of the stage that decided the end, one with a place
/// before one without.
pub fn first_finding(workflow: &Workflow) -> Option<Finding> {
    let decided = workflow
        .outcome
        .as_ref()
        .map_or("", |outcome| outcome.stage.as_str());
    let of = |only: Option<&str>| {
        outcomes(workflow)
            .filter(|(stage, outcome)| match only {
                Some(name) => stage.name == name,
                None => outcome.verdict() != Verdict::Passed,
            })
            .flat_map(|(_, outcome)| outcome.findings.iter())
            .max_by_key(|finding| (finding.severity, !finding.path.is_empty(), finding.line > 0))
            .cloned()
    };
    of(Some(decided)).or_else(|| of(None))
}

/// The command that most likely comes next.
pub fn next_command(workflow: &Workflow) -> Option<String> {
    let id = clean(&workflow.workflow_id);
    let stage = workflow
        .outcome
        .as_ref()
        .map(|outcome| clean(&outcome.stage))
        .filter(|stage| !stage.is_empty());
    match workflow.state() {
        WorkflowState::Succeeded if is_success(workflow) => None,
        WorkflowState::Succeeded => Some(format!("agentic show {id}")),
        WorkflowState::Failed => match (verdict(workflow), stage) {
            (Verdict::Failed, Some(stage)) => Some(format!("agentic logs {id} --stage {stage}")),
            (_, Some(stage)) => Some(format!("agentic retry {id} --from {stage}")),
            (_, None) => Some(format!("agentic show {id}")),
        },
        WorkflowState::Cancelled => Some(format!("agentic retry {id}")),
        WorkflowState::Paused => Some(format!("agentic resume {id}")),
        WorkflowState::AwaitingBudget => {
            Some(format!("agentic resume {id} {}", budget::doubled(workflow)))
        }
        WorkflowState::AwaitingDecision | WorkflowState::AwaitingClarification => {
            Some(format!("agentic decisions {id}"))
        }
        WorkflowState::Pending
        | WorkflowState::Running
        | WorkflowState::Compensating
        | WorkflowState::Unspecified => Some(format!("agentic watch {id}")),
    }
}

fn is_success(workflow: &Workflow) -> bool {
    crate::exit::Exit::of_workflow(workflow) == crate::exit::Exit::Succeeded
}

fn verdict(workflow: &Workflow) -> Verdict {
    workflow
        .outcome
        .as_ref()
        .map_or(Verdict::Unspecified, WorkflowOutcome::verdict)
}

fn outcomes(workflow: &Workflow) -> impl Iterator<Item = (&Stage, &Outcome)> {
    workflow
        .stages
        .iter()
        .filter(|stage| stage.state() != StageState::Skipped)
        .filter_map(|stage| Some((stage, stage.result.as_ref()?.outcome()?)))
}

#[cfg(test)]
mod tests;
