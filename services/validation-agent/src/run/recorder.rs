//! Keeps what a command prints, in the order it came, while passing it on. Knows nothing of what it says.

use std::sync::{Mutex, PoisonError};

use agent_runtime::{
    Reporter,
    process::{LogStream, OutputSink},
};
use contracts::task;
use futures::future::BoxFuture;
use service_runtime::redaction::Secrets;

/// The last part of a longer output is kept: summaries stand at the end.
const MAXIMUM_BYTES: usize = 32 * 1024 * 1024;

pub(super) struct Recorder {
    reporter: Reporter,
    text: Mutex<String>,
}

impl Recorder {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            text: Mutex::new(String::new()),
        }
    }

    /// What was printed so far; afterwards it is gone from here.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, line: &str) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
        if text.len() > MAXIMUM_BYTES {
            let middle = text.len() / 2;
            let cut = text
                .get(..middle)
                .and_then(|half| half.rfind('\n'))
                .map_or(middle, |at| at + 1);
            let cut = (cut..text.len())
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(text.len());
            text.drain(..cut);
        }
    }
}

impl OutputSink for Recorder {
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        self.keep(text);
        let stream = match stream {
            LogStream::Stdout => task::LogStream::Stdout,
            LogStream::Stderr => task::LogStream::Stderr,
        };
        self.reporter.output(stream, text);
        Box::pin(std::future::ready(()))
    }

    fn secrets(&self) -> Option<Secrets> {
        Some(self.reporter.secrets().clone())
    }
}
