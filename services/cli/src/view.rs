//! How a followed workflow is shown: bars on a terminal, plain lines in a pipe, JSON, or nothing.

mod bars;
mod lines;

use contracts::orchestrator::{Workflow, WorkflowEvent};

use crate::error::Error;
use crate::outcome;
use crate::output::{Output, Paint};
use crate::progress::Progress;

/// One way of showing.
pub enum View<'a> {
    /// One bar per stage.
    Bars(&'a Output, bars::Bars),
    /// One line per event.
    Lines(&'a Output, lines::Lines),
    /// One JSON object per event.
    Json(&'a Output),
    /// Only how it ended, when it did not end well.
    Quiet(&'a Output),
}

impl<'a> View<'a> {
    /// The way that suits the output.
    pub fn new(output: &'a Output) -> Self {
        if output.is_json() {
            Self::Json(output)
        } else if output.is_quiet() {
            Self::Quiet(output)
        } else if output.is_terminal() {
            Self::Bars(output, bars::Bars::new(output.painter()))
        } else {
            Self::Lines(output, lines::Lines::default())
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: &WorkflowEvent, progress: &Progress) -> Result<(), Error> {
        match self {
            Self::Bars(_, bars) => {
                bars.event(event, progress);
                Ok(())
            }
            Self::Lines(output, lines) => match lines.event(event, progress, output.painter()) {
                Some(line) => output.line(line),
                None => Ok(()),
            },
            Self::Json(output) => output.message(event),
            Self::Quiet(_) => Ok(()),
        }
    }

    /// Says something beside the events, on standard error.
    pub fn note(&self, text: &str) {
        match self {
            Self::Bars(_, bars) => bars.line(text),
            Self::Lines(output, _) | Self::Json(output) => output.note(text),
            Self::Quiet(_) => {}
        }
    }

    /// Makes room for a question, or takes it back.
    pub fn make_room(&self, room: bool) {
        if let Self::Bars(_, bars) = self {
            bars.hide(room);
        }
    }

    /// Takes down what moves.
    pub fn close(&mut self) {
        if let Self::Bars(_, bars) = self {
            bars.close();
        }
    }

    /// The workflow ended.
    pub fn end(&mut self, workflow: &Workflow) -> Result<(), Error> {
        self.close();
        match self {
            Self::Bars(output, _) | Self::Lines(output, _) => {
                for line in outcome::lines(workflow, output.painter()) {
                    output.line(line)?;
                }
                Ok(())
            }
            Self::Json(output) => output.message(workflow),
            Self::Quiet(output) => {
                if crate::exit::Exit::of_workflow(workflow) != crate::exit::Exit::Succeeded {
                    let reason = outcome::reason(workflow);
                    output.notice(output.painter().paint(Paint::Bad, &reason));
                }
                Ok(())
            }
        }
    }
}
