//! How work says what is going on. Never blocks the work, and never fails it: the journal behind
//! it is lossless, and when even that cannot be written the whole attempt ends.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use prost::{Message, Name};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::task::{
    Artifact, ArtifactProduced, Beat, Log, LogLevel, LogStream, Progress, TaskContext, TaskEvent,
    Usage, task_event,
};
use contracts::{texts, wire_time};
use service_runtime::redaction::Secrets;

use crate::artifacts::ArtifactSink;
use crate::journal::Journal;
use crate::process;

mod redacted;

/// Most bytes of one log event.
pub const LOG_BYTES: usize = 64 * 1024;
/// Most bytes of a checkpoint.
pub const CHECKPOINT_BYTES: usize = 64 * 1024;

/// A cheap handle on the journal of one attempt.
#[derive(Debug, Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    // Sequence of the newest event; readers wait for it to change.
    newest: watch::Sender<i64>,
    state: Mutex<Activity>,
    // Fires when the journal could not be written.
    broken: CancellationToken,
    // Why it could not.
    broken_by: OnceLock<String>,
    sink: ArtifactSink,
    context: TaskContext,
    // Nothing that leaves here has them.
    secrets: Secrets,
}

#[derive(Debug)]
struct Activity {
    // Not a time of day: a clock that is set must not look like work that is stuck.
    last: Instant,
    percent: f64,
    checkpoint: Vec<u8>,
    usage: Option<Usage>,
}

impl Reporter {
    pub(crate) fn new(journal: Journal, sink: ArtifactSink, context: TaskContext) -> Self {
        let checkpoint = context.checkpoint.clone();
        Self {
            shared: Arc::new(Shared {
                journal: Mutex::new(journal),
                newest: watch::Sender::new(0),
                state: Mutex::new(Activity {
                    last: Instant::now(),
                    percent: 0.0,
                    checkpoint,
                    usage: None,
                }),
                broken: CancellationToken::new(),
                broken_by: OnceLock::new(),
                sink,
                context,
                secrets: Secrets::new(),
            }),
        }
    }

    /// Takes the value of a secret out of everything that is said, kept and answered from now on; its
    /// name stands for it.
    pub fn secret(&self, name: &str, value: &str) {
        if !self.shared.secrets.register(name, value) {
            tracing::warn!(name, "a secret is too short to be taken out of texts");
        }
    }

    /// What is taken out.
    pub fn secrets(&self) -> &Secrets {
        &self.shared.secrets
    }

    /// Says how far the work is. Percentages are clamped to 0–100 and never go back.
    pub fn progress(&self, percent: f64, phase: &str, message: impl Into<String>) {
        self.progress_counted(percent, phase, message, 0, 0);
    }

    /// Says how far the work is, in units.
    pub fn progress_counted(
        &self,
        percent: f64,
        phase: &str,
        message: impl Into<String>,
        done_count: i64,
        total_count: i64,
    ) {
        let percent = {
            let mut state = self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let asked = if percent.is_finite() {
                percent.clamp(0.0, 100.0)
            } else {
                0.0
            };
            state.percent = state.percent.max(asked);
            state.percent
        };
        self.active();
        self.push(task_event::Payload::Progress(Progress {
            percent,
            phase: self.clean(phase).into_owned(),
            done_count,
            total_count,
            message: self.clean(&message.into()).into_owned(),
        }));
    }

    /// Says something itself.
    pub fn log(&self, level: LogLevel, text: impl AsRef<str>) {
        self.line(LogStream::Agent, level, text.as_ref());
    }

    /// Passes on a line of a child process.
    pub fn output(&self, stream: LogStream, text: &str) {
        self.line(stream, LogLevel::Unspecified, text);
    }

    /// Where the work could go on after a crash. Cut off at 64 KiB: a longer one is refused.
    pub fn checkpoint(&self, checkpoint: Vec<u8>) -> Result<(), Error> {
        if checkpoint.len() > CHECKPOINT_BYTES {
            return Err(Error::invalid_field(
                "checkpoint",
                format!("has {} bytes, at most {CHECKPOINT_BYTES}", checkpoint.len()),
            ));
        }
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .checkpoint = checkpoint;
        self.active();
        self.beat();
        Ok(())
    }

    /// What the attempt has spent so far, in all. It counts also when the attempt comes to nothing.
    pub fn spent(&self, usage: Usage) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .usage = Some(usage);
        self.active();
        self.beat();
    }

    /// The work did something.
    pub fn active(&self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last = Instant::now();
    }

    /// Keeps bytes as an artifact of the task, without secrets.
    pub async fn artifact(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Artifact, Error> {
        let bytes = redacted::bytes(self.secrets(), media_type, bytes);
        let name = &self.clean(name);
        let artifact = self
            .shared
            .sink
            .store(&self.shared.context, name, media_type, &bytes)
            .await?;
        self.produced(&artifact);
        Ok(artifact)
    }

    /// Keeps a file as an artifact of the task, without secrets; the file stays as it is.
    pub async fn artifact_file(
        &self,
        name: &str,
        media_type: &str,
        path: &Path,
    ) -> Result<Artifact, Error> {
        let clean = redacted::file(self.secrets(), media_type, path)
            .await
            .map_err(|error| {
                let problem = format!("could not read artifact {name}: {error}");
                Error::new(ErrorReason::Infrastructure, problem)
            })?;
        let path = clean.as_ref().map_or(path, |clean| clean.path());
        let name = &self.clean(name);
        let artifact = self
            .shared
            .sink
            .store_file(&self.shared.context, name, media_type, path)
            .await?;
        self.produced(&artifact);
        Ok(artifact)
    }

    /// Takes the output of child processes.
    pub fn process_sink(&self) -> Arc<dyn process::OutputSink> {
        Arc::new(ProcessSink(self.clone()))
    }

    // What the attempt ended with, as others may see it.
    pub(crate) fn clean_ending<R>(&self, ending: Result<R, Error>) -> Result<R, Error>
    where
        R: Message + Name + Default,
    {
        let keep = |text: &str| self.cleaned(text);
        match ending {
            Ok(result) => match texts::rewritten(&result, &keep) {
                Ok(clean) => Ok(clean.unwrap_or(result)),
                Err(error) => {
                    tracing::error!(%error, "a result could not be looked through for secrets");
                    Err(Error::internal())
                }
            },
            Err(mut error) => {
                error.each_text(|text| {
                    if let Some(clean) = keep(text) {
                        *text = clean;
                    }
                });
                Err(error)
            }
        }
    }

    fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.shared.secrets.clean(text)
    }

    // `None`: it may stay as it is.
    fn cleaned(&self, text: &str) -> Option<String> {
        match self.clean(text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some(clean),
        }
    }

    fn produced(&self, artifact: &Artifact) {
        self.active();
        self.push(task_event::Payload::ArtifactProduced(ArtifactProduced {
            artifact: Some(artifact.clone()),
        }));
    }

    fn line(&self, stream: LogStream, level: LogLevel, text: &str) {
        self.active();
        for piece in pieces(&self.clean(text), LOG_BYTES) {
            self.push(task_event::Payload::Log(Log {
                stream: stream.into(),
                level: level.into(),
                text: piece.to_owned(),
            }));
        }
    }

    pub(crate) fn beat(&self) {
        let (last, checkpoint, usage) = {
            let state = self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let last = SystemTime::now() - state.last.elapsed();
            (last, state.checkpoint.clone(), state.usage)
        };
        self.push(task_event::Payload::Beat(Beat {
            last_activity_time: Some(wire_time::timestamp(last)),
            checkpoint,
            usage,
        }));
    }

    pub(crate) fn push(&self, payload: task_event::Payload) {
        let event = TaskEvent {
            sequence: 0,
            time: Some(wire_time::now()),
            payload: Some(payload),
        };
        let mut journal = self
            .shared
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match journal.push(event) {
            Ok(sequence) => {
                self.shared.newest.send_replace(sequence);
            }
            Err(error) => {
                tracing::error!(%error, task_id = self.shared.context.task_id, "event not kept");
                let _ = self.shared.broken_by.set(error.to_string());
                self.shared.broken.cancel();
            }
        }
    }

    pub(crate) fn read(&self, after: i64) -> Result<Vec<TaskEvent>, Error> {
        let journal = self
            .shared
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        journal.read(after).map_err(|error| {
            Error::new(
                ErrorReason::Infrastructure,
                format!("events cannot be read back: {error}"),
            )
        })
    }

    pub(crate) fn last_sequence(&self) -> i64 {
        *self.shared.newest.borrow()
    }

    pub(crate) fn newest(&self) -> watch::Receiver<i64> {
        self.shared.newest.subscribe()
    }

    pub(crate) fn broken(&self) -> CancellationToken {
        self.shared.broken.clone()
    }

    pub(crate) fn broken_by(&self) -> &str {
        self.shared.broken_by.get().map_or("", String::as_str)
    }
}

struct ProcessSink(Reporter);

impl process::OutputSink for ProcessSink {
    fn line<'a>(&'a self, stream: process::LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        let stream = match stream {
            process::LogStream::Stdout => LogStream::Stdout,
            process::LogStream::Stderr => LogStream::Stderr,
        };
        self.0.output(stream, text);
        Box::pin(std::future::ready(()))
    }

    fn secrets(&self) -> Option<Secrets> {
        Some(self.0.secrets().clone())
    }
}

// Cuts at character boundaries. An empty line is one empty piece.
fn pieces(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.len() <= most {
            return Some(text);
        }
        let cut = (0..=most)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        let (piece, after) = text.split_at(cut);
        rest = Some(after);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_character_boundaries_and_nothing_is_lost() {
        let text = "ä".repeat(100);
        let cut: Vec<_> = pieces(&text, 7).collect();
        assert!(
            cut.iter()
                .all(|piece| piece.len() <= 7 && !piece.is_empty())
        );
        assert_eq!(cut.concat(), text);
        assert_eq!(pieces("", 7).collect::<Vec<_>>(), [""]);
    }
}
