//! Events as lines for a pipe or a log file: time since the start, stage, sentence.

use contracts::orchestrator::WorkflowEvent;
use contracts::orchestrator::workflow_event::Payload;
use prost_types::Timestamp;

use crate::describe;
use crate::output::{Painter, clean};
use crate::progress::Progress;
use crate::words;

/// Remembers what a line would only repeat.
#[derive(Debug, Default)]
pub struct Lines {
    start: Option<Timestamp>,
    shown: std::collections::HashMap<String, (String, i64)>,
}

impl Lines {
    /// The line of an event. `None`: it says nothing new to a reader.
    pub fn event(
        &mut self,
        event: &WorkflowEvent,
        progress: &Progress,
        painter: Painter,
    ) -> Option<String> {
        if self.start.is_none() {
            self.start = progress.workflow.create_time.or(event.time);
        }
        if let Some(Payload::StageProgressed(progressed)) = &event.payload {
            let now = progressed.progress.clone().unwrap_or_default();
            // A line per phase and per quarter is news; the rest is for bars.
            let step = (now.percent / 25.0) as i64;
            let news = (now.phase, step);
            if self.shown.get(&event.stage) == Some(&news) {
                return None;
            }
            self.shown.insert(event.stage.clone(), news);
        }
        let text = describe::event(event, painter)?;
        let since = words::between(self.start, event.time).map_or_else(
            || "-".to_owned(),
            |since| format!("{:.1}s", since.as_secs_f64()),
        );
        Some(format!("{since:>8}  {:<12}  {text}", clean(&event.stage)))
    }
}

#[cfg(test)]
mod tests {
    use contracts::orchestrator::{StageProgressed, StageStarted};

    use super::*;

    fn at(seconds: i64, payload: Payload) -> WorkflowEvent {
        WorkflowEvent {
            stage: "e2e".into(),
            time: Some(Timestamp { seconds, nanos: 0 }),
            payload: Some(payload),
            ..WorkflowEvent::default()
        }
    }

    fn progressed(percent: f64, phase: &str) -> Payload {
        Payload::StageProgressed(StageProgressed {
            progress: Some(contracts::task::Progress {
                percent,
                phase: phase.into(),
                ..contracts::task::Progress::default()
            }),
        })
    }

    #[test]
    fn progress_is_told_by_phase_and_quarter() {
        let mut lines = Lines::default();
        let progress = Progress::default();
        let mut tell = |event| lines.event(&event, &progress, Painter::new(false));
        let started = tell(at(10, Payload::StageStarted(StageStarted::default())));
        assert_eq!(started.unwrap(), "    0.0s  e2e           started");
        let first = tell(at(11, progressed(3.0, "start"))).unwrap();
        assert_eq!(first, "    1.0s  e2e           3 % start");
        assert_eq!(tell(at(12, progressed(20.0, "start"))), None);
        assert!(tell(at(13, progressed(20.0, "suites"))).is_some());
        assert!(tell(at(14, progressed(26.0, "suites"))).is_some());
    }
}
