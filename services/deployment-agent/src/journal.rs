//! Writes down what a deployment does while it does it, for the account and for whoever watches.

use std::time::Instant;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::{
    account::{Happening, Step},
    verdict::Verdict,
};

/// Events that an account keeps (bound of the contract); later ones only go to the watcher.
const MAX_EVENTS: usize = 1000;

/// Notes that may wait for a slow watcher before the deployment waits too.
pub const NOTE_QUEUE: usize = 256;

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// Something happened.
    Event(String),
    /// A step began.
    Begun {
        /// Its name.
        name: String,
        /// How far the deployment is, 0 to 100.
        percent: f64,
    },
    /// A step ended.
    Ended(Step),
    /// A line of a program that prepares the revision.
    Output {
        /// It came from standard error.
        is_error: bool,
        /// The line.
        text: String,
    },
}

/// A step that has not ended yet.
#[derive(Debug)]
#[must_use = "a step that began must end"]
pub struct Begun {
    name: String,
    started: Instant,
}

/// What was written down so far.
#[derive(Debug)]
pub struct Journal {
    steps: Vec<Step>,
    events: Vec<Happening>,
    watcher: Option<mpsc::Sender<Note>>,
    percent: f64,
}

impl Journal {
    /// An empty journal, with or without a watcher.
    pub fn new(watcher: Option<mpsc::Sender<Note>>) -> Self {
        Self {
            steps: Vec::new(),
            events: Vec::new(),
            watcher,
            percent: 0.0,
        }
    }

    /// Writes down an event.
    pub async fn event(&mut self, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(%message, "deployment event");
        if self.events.len() < MAX_EVENTS {
            let time = OffsetDateTime::now_utc();
            self.events.push(Happening {
                time,
                message: message.clone(),
            });
        }
        self.tell(Note::Event(message)).await;
    }

    /// Passes on what an engine says while it builds or pushes.
    pub async fn output(&mut self, text: impl Into<String>) {
        self.tell(Note::Output {
            is_error: false,
            text: text.into(),
        })
        .await;
    }

    /// Where notes go, for programs that print while the journal is in use elsewhere.
    pub fn watcher(&self) -> Option<mpsc::Sender<Note>> {
        self.watcher.clone()
    }

    /// Writes down that a step began.
    pub async fn begin(&mut self, name: impl Into<String>, percent: f64) -> Begun {
        let name = name.into();
        self.percent = self.percent.max(percent);
        self.tell(Note::Begun {
            name: name.clone(),
            percent: self.percent,
        })
        .await;
        Begun {
            name,
            started: Instant::now(),
        }
    }

    /// Writes down how a step ended.
    pub async fn end(&mut self, begun: Begun, verdict: Verdict, reason: impl Into<String>) {
        let Begun { name, started } = begun;
        let step = Step {
            name,
            verdict,
            reason: reason.into(),
            duration: started.elapsed(),
        };
        self.steps.push(step.clone());
        self.tell(Note::Ended(step)).await;
    }

    /// Steps and events, in order.
    pub fn into_parts(self) -> (Vec<Step>, Vec<Happening>) {
        (self.steps, self.events)
    }

    async fn tell(&self, note: Note) {
        if let Some(watcher) = &self.watcher {
            // A watcher that went away does not stop the deployment.
            let _ = watcher.send(note).await;
        }
    }
}
