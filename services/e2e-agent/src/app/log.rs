//! What an app prints: kept in a file up to a bound, shown live up to a smaller one, and searched for the
//! line that says that it is ready.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use agent_runtime::process::{LogStream, OutputSink};
use futures::future::BoxFuture;
use regex::Regex;
use service_runtime::redaction::Secrets;
use tokio::sync::watch;

/// Most bytes of the file; what is printed beyond is counted, not kept.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Most lines that are shown live.
const MAX_LIVE_LINES: u64 = 2000;

/// What is looked for in the lines.
#[derive(Debug, Clone)]
pub(super) enum Watch {
    /// Nothing.
    Nothing,
    /// A line like this.
    Pattern(Regex),
}

/// A line that was looked for was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matched {
    /// What its group `port` said.
    pub(super) port: Option<u16>,
}

/// Takes what an app prints.
pub struct AppLog {
    path: PathBuf,
    live: Option<Arc<dyn OutputSink>>,
    hidden: Secrets,
    state: Mutex<State>,
}

struct State {
    file: Option<BufWriter<File>>,
    bytes: u64,
    lines: u64,
    watch: Watch,
    matched: watch::Sender<Option<Matched>>,
}

impl AppLog {
    /// Keeps the log in a new file at `path`, without secrets; shows its beginning to `live`.
    pub fn create(
        path: &Path,
        live: Option<Arc<dyn OutputSink>>,
        hidden: Secrets,
    ) -> std::io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            path: path.to_owned(),
            live,
            hidden,
            state: Mutex::new(State {
                file: Some(BufWriter::new(file)),
                bytes: 0,
                lines: 0,
                watch: Watch::Nothing,
                matched: watch::Sender::new(None),
            }),
        })
    }

    /// The file, complete up to now.
    pub fn flushed(&self) -> &Path {
        if let Some(file) = &mut self.state().file {
            // What could not be written is missing from a log, which no verdict hangs on.
            let _ = file.flush();
        }
        &self.path
    }

    /// Whether anything was printed.
    pub fn is_empty(&self) -> bool {
        self.state().bytes == 0
    }

    /// Looks for something in the lines from now on.
    pub(super) fn watch(&self, watch: Watch) -> watch::Receiver<Option<Matched>> {
        let mut state = self.state();
        state.watch = watch;
        state.matched.send_replace(None);
        state.matched.subscribe()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the line, and says whether it is to be shown.
    fn take(&self, text: &str) -> bool {
        let mut state = self.state();
        state.lines += 1;
        if state.bytes < MAX_FILE_BYTES
            && let Some(file) = &mut state.file
            && writeln!(file, "{text}").is_err()
        {
            // A full disk must not stop the app under test.
            state.file = None;
        }
        state.bytes += text.len() as u64 + 1;
        if let Watch::Pattern(pattern) = &state.watch
            && state.matched.borrow().is_none()
            && let Some(found) = pattern.captures(text)
        {
            let port = found
                .name("port")
                .and_then(|port| port.as_str().parse().ok());
            state.matched.send_replace(Some(Matched { port }));
        }
        state.lines <= MAX_LIVE_LINES
    }
}

impl OutputSink for AppLog {
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        let text = self.hidden.clean(text);
        match (&self.live, self.take(&text)) {
            (Some(live), true) => Box::pin(async move { live.line(stream, &text).await }),
            (Some(_) | None, _) => Box::pin(std::future::ready(())),
        }
    }

    fn secrets(&self) -> Option<Secrets> {
        Some(self.hidden.clone())
    }
}

impl std::fmt::Debug for AppLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AppLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_looked_for_is_met_once_and_tells_the_port() {
        let folder = tempfile::tempdir().unwrap();
        let log = AppLog::create(&folder.path().join("app.log"), None, Secrets::new()).unwrap();
        let pattern = Regex::new(r"listening on .*:(?<port>\d+)").unwrap();
        let seen = log.watch(Watch::Pattern(pattern));
        log.line(LogStream::Stdout, "hello").await;
        assert_eq!(*seen.borrow(), None);
        log.line(LogStream::Stderr, "listening on 127.0.0.1:4711")
            .await;
        log.line(LogStream::Stderr, "listening on 127.0.0.1:4712")
            .await;
        assert_eq!(*seen.borrow(), Some(Matched { port: Some(4711) }));
        let text = std::fs::read_to_string(log.flushed()).unwrap();
        assert_eq!(text.lines().count(), 3);
    }

    #[tokio::test]
    async fn only_the_beginning_is_shown_live() {
        let folder = tempfile::tempdir().unwrap();
        let shown = Arc::new(Mutex::new(0));
        let live = {
            let shown = Arc::clone(&shown);
            move |_: LogStream, _: &str| *shown.lock().unwrap() += 1
        };
        let log = AppLog::create(
            &folder.path().join("app.log"),
            Some(Arc::new(live)),
            Secrets::new(),
        )
        .unwrap();
        for _ in 0..MAX_LIVE_LINES + 10 {
            log.line(LogStream::Stdout, "x").await;
        }
        assert_eq!(*shown.lock().unwrap(), MAX_LIVE_LINES);
    }
}
