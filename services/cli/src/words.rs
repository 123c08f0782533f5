//! Names and numbers as people read them. Pure.

use std::time::{Duration, SystemTime};

use contracts::orchestrator::{AgentState, Priority, StageState, WorkflowState, WorkflowType};
use contracts::task::{DecisionCategory, Resolution, Verdict};
use prost_types::Timestamp;

/// A verdict.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::NotProven => "not proven",
        Verdict::Unspecified => "not judged",
    }
}

/// State of a workflow.
pub fn workflow_state(state: WorkflowState) -> &'static str {
    match state {
        WorkflowState::Unspecified => "unknown",
        WorkflowState::Pending => "pending",
        WorkflowState::Running => "running",
        WorkflowState::AwaitingDecision => "awaiting decision",
        WorkflowState::AwaitingClarification => "awaiting clarification",
        WorkflowState::AwaitingBudget => "awaiting budget",
        WorkflowState::Paused => "paused",
        WorkflowState::Compensating => "compensating",
        WorkflowState::Succeeded => "succeeded",
        WorkflowState::Failed => "failed",
        WorkflowState::Cancelled => "cancelled",
    }
}

/// Whether a workflow is over.
pub fn is_over(state: WorkflowState) -> bool {
    matches!(
        state,
        WorkflowState::Succeeded | WorkflowState::Failed | WorkflowState::Cancelled
    )
}

/// State of a stage.
pub fn stage_state(state: StageState) -> &'static str {
    match state {
        StageState::Unspecified => "unknown",
        StageState::Blocked => "blocked",
        StageState::Ready => "ready",
        StageState::Running => "running",
        StageState::Succeeded => "succeeded",
        StageState::Failed => "failed",
        StageState::Skipped => "skipped",
        StageState::Cancelled => "cancelled",
        StageState::AwaitingDecision => "awaiting decision",
        StageState::Repairing => "repairing",
    }
}

/// Kind of work.
pub fn workflow_type(kind: WorkflowType) -> &'static str {
    match kind {
        WorkflowType::Unspecified => "unknown",
        WorkflowType::App => "app",
        WorkflowType::Feature => "feature",
        WorkflowType::Bugfix => "bugfix",
        WorkflowType::Change => "change",
        WorkflowType::Custom => "custom",
    }
}

/// Priority.
pub fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Normal | Priority::Unspecified => "normal",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}

/// State of an agent.
pub fn agent_state(state: AgentState) -> &'static str {
    match state {
        AgentState::Unspecified => "unknown",
        AgentState::Connecting => "connecting",
        AgentState::Ready => "ready",
        AgentState::Unreachable => "unreachable",
        AgentState::Suspect => "suspect",
        AgentState::Lost => "lost",
        AgentState::Draining => "draining",
        AgentState::Gone => "gone",
        AgentState::Unfit => "unfit",
    }
}

/// What a decision is about.
pub fn category(category: DecisionCategory) -> &'static str {
    match category {
        DecisionCategory::Unspecified => "decision",
        DecisionCategory::TechnicalRefactor => "technical refactor",
        DecisionCategory::CostImpacting => "cost",
        DecisionCategory::ArchitecturalChange => "architectural change",
        DecisionCategory::DataMigration => "data migration",
        DecisionCategory::SecurityAffecting => "security",
        DecisionCategory::Deployment => "deployment",
        DecisionCategory::Merge => "merge",
        DecisionCategory::Waiver => "waiver",
    }
}

/// How a decision ended.
pub fn resolution(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Unspecified => "open",
        Resolution::Approve => "approved",
        Resolution::Revise => "sent back",
        Resolution::Reject => "rejected",
    }
}

/// A time span, in two figures at most.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else if seconds < 60 {
        format!("{:.1} s", span.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else if seconds < 86_400 {
        format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60)
    } else {
        format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600)
    }
}

/// A number of bytes.
pub fn bytes(count: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Money, from millionths of a US dollar.
pub fn cost(micros: i64) -> String {
    format!("${:.4}", micros as f64 / 1e6)
}

/// A count with its noun.
pub fn count(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// The time between two moments. `None`: one is missing or malformed, or they are in no order.
pub fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Duration> {
    let from = contracts::wire_time::system_time(from?)?;
    let to = contracts::wire_time::system_time(to?)?;
    to.duration_since(from).ok()
}

// The last second of the year 9999: what comes after has no RFC 3339 form.
const LAST_SECOND: i64 = 253_402_300_799;

/// A moment, in UTC.
pub fn moment(time: Option<Timestamp>) -> String {
    time.filter(|time| time.seconds <= LAST_SECOND)
        .and_then(contracts::wire_time::system_time)
        .map_or_else(
            || "-".to_owned(),
            |time| humantime::format_rfc3339_seconds(time).to_string(),
        )
}

/// How long ago, or how far ahead, of `now`.
pub fn relative(time: Option<Timestamp>, now: SystemTime) -> String {
    let Some(time) = time.and_then(contracts::wire_time::system_time) else {
        return "-".to_owned();
    };
    match now.duration_since(time) {
        Ok(since) if since < Duration::from_secs(1) => "now".to_owned(),
        Ok(since) => format!("{} ago", whole(since)),
        Err(ahead) => format!("in {}", whole(ahead.duration())),
    }
}

fn whole(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        for (millis, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_940, "59.9 s"),
            (61_000, "1 min 01 s"),
            (3_600_000, "1 h 00 min"),
            (90_000_000, "1 d 01 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn sizes_and_money_have_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(i64::MAX), "8388608.0 TiB");
        assert_eq!(bytes(-5), "-5 B");
        assert_eq!(cost(12_300), "$0.0123");
    }

    #[test]
    fn hostile_times_are_no_times() {
        let bad = Some(Timestamp {
            seconds: i64::MIN,
            nanos: -1,
        });
        let far = Some(Timestamp {
            seconds: i64::MAX,
            nanos: i32::MAX,
        });
        assert_eq!(moment(bad), "-");
        assert_eq!(relative(bad, SystemTime::now()), "-");
        assert_eq!(between(bad, far), None);
        // Shown or not, but never a panic.
        let _ = (moment(far), relative(far, SystemTime::now()));
    }
}
