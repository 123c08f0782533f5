//! One bar per stage on a terminal: percent, phase, elapsed time.

use std::time::{Duration, SystemTime};

use contracts::orchestrator::{StageState, WorkflowEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::describe;
use crate::output::{Painter, clean, cut, of_stage_end};
use crate::progress::{Progress, StageProgress};
use crate::words;

const TICK: Duration = Duration::from_millis(200);
const NAME: usize = 14;
const MESSAGE: usize = 70;

/// The bars.
pub struct Bars {
    all: MultiProgress,
    stages: Vec<(String, ProgressBar, StageState)>,
    painter: Painter,
}

impl Bars {
    /// No bars yet.
    pub fn new(painter: Painter) -> Self {
        Self {
            all: MultiProgress::new(),
            stages: Vec::new(),
            painter,
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: &WorkflowEvent, progress: &Progress) {
        for stage in &progress.stages {
            if !self.stages.iter().any(|(name, ..)| name == stage.name()) {
                self.add(stage);
            }
        }
        for stage in &progress.stages {
            self.show(stage);
        }
        if describe::is_worth_a_line(event)
            && let Some(text) = describe::event(event, self.painter)
        {
            self.line(&format!("{:<NAME$} {text}", clean(&event.stage)));
        }
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        // A terminal that cannot be written to shows no bars either.
        let _ = self.all.println(text);
    }

    /// Takes the bars away for a while, or brings them back.
    pub fn hide(&self, hide: bool) {
        if hide {
            let _ = self.all.clear();
            self.all.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            self.all.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bars away for good.
    pub fn close(&mut self) {
        for (_, bar, _) in self.stages.drain(..) {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }

    fn add(&mut self, stage: &StageProgress) {
        // Styled before it is added: adding draws it.
        let bar = ProgressBar::new(100)
            .with_style(waiting())
            .with_prefix(cut(&clean(stage.name()), NAME));
        let bar = self.all.add(bar);
        self.stages
            .push((stage.name().to_owned(), bar, StageState::Unspecified));
    }

    fn show(&mut self, known: &StageProgress) {
        let Some((_, bar, shown)) = self
            .stages
            .iter_mut()
            .find(|(name, ..)| name == known.name())
        else {
            return;
        };
        let state = known.stage.state();
        let is_new = *shown != state;
        *shown = state;
        match state {
            StageState::Running => {
                if is_new {
                    bar.reset();
                    bar.set_style(running());
                    bar.set_elapsed(since(known));
                    bar.enable_steady_tick(TICK);
                }
                bar.set_position(known.stage.percent as u64);
                bar.set_message(doing(known));
            }
            StageState::Succeeded
            | StageState::Failed
            | StageState::Skipped
            | StageState::Cancelled => {
                if is_new {
                    bar.set_style(waiting());
                    bar.abandon_with_message(ended(known, self.painter));
                }
            }
            StageState::Unspecified
            | StageState::Blocked
            | StageState::Ready
            | StageState::AwaitingDecision
            | StageState::Repairing => {
                if is_new {
                    bar.reset();
                    bar.disable_steady_tick();
                    bar.set_style(waiting());
                }
                let word = describe::stage_word(&known.stage);
                bar.set_message(self.painter.paint(of_stage_end(&known.stage), word));
                bar.tick();
            }
        }
    }
}

fn doing(stage: &StageProgress) -> String {
    let mut parts = Vec::new();
    if stage.attempt > 1 {
        parts.push(format!("attempt {}", stage.attempt));
    }
    for part in [&stage.stage.phase, &stage.message] {
        if !part.is_empty() {
            parts.push(clean(part));
        }
    }
    cut(&parts.join("  "), MESSAGE)
}

fn ended(stage: &StageProgress, painter: Painter) -> String {
    let stage = &stage.stage;
    let word = painter.paint(of_stage_end(stage), describe::stage_word(stage));
    let took = words::between(stage.start_time, stage.end_time)
        .map_or_else(String::new, |took| format!(" in {}", words::duration(took)));
    format!("{word}{took}  {}", cut(&clean(&stage.summary), MESSAGE))
}

fn since(stage: &StageProgress) -> Duration {
    let start = stage
        .stage
        .start_time
        .and_then(contracts::wire_time::system_time);
    start
        .and_then(|start| SystemTime::now().duration_since(start).ok())
        .unwrap_or_default()
}

fn running() -> ProgressStyle {
    style("{prefix:14} {bar:24} {percent:>3} %  {took:>8}  {wide_msg}").progress_chars("━╸─")
}

fn waiting() -> ProgressStyle {
    style("{prefix:14} {wide_msg}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "took",
            |state: &ProgressState, line: &mut dyn std::fmt::Write| {
                // Writing to a string does not fail.
                let _ = write!(line, "{}", words::duration(state.elapsed()));
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [
            "{prefix:14} {bar:24} {percent:>3} %  {took:>8}  {wide_msg}",
            "{prefix:14} {wide_msg}",
        ] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn a_new_attempt_is_told_beside_the_phase() {
        let mut stage = StageProgress {
            attempt: 2,
            message: "shop\u{1b}[2J".into(),
            ..StageProgress::default()
        };
        stage.stage.phase = "tests".into();
        assert_eq!(doing(&stage), "attempt 2  tests  shop [2J");
    }
}
