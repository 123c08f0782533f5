//! What an instance prints: a file of bounded size on disk, its last part in memory, and a watch for
//! the line that says that it is ready.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agent_runtime::process::{LogStream, OutputSink};
use futures::future::BoxFuture;
use regex::Regex;
use service_runtime::redaction::{self, Secrets};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

/// Bytes of the file before it becomes the older one; so an instance uses at most twice as much.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes kept in memory for reasons and forensics.
const TAIL_BYTES: usize = 64 * 1024;

/// The log of one instance over all its runs.
#[derive(Debug)]
pub struct InstanceLog {
    path: PathBuf,
    inner: Mutex<Inner>,
    matched: watch::Sender<Option<ReadyLine>>,
}

/// The line that said that the instance is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyLine {
    /// Port named by the line.
    pub port: Option<u16>,
}

#[derive(Debug)]
struct Inner {
    file: Option<File>,
    written: u64,
    tail: VecDeque<u8>,
    pattern: Option<Regex>,
}

impl InstanceLog {
    /// Opens the file, after what is in it already.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        let inner = Inner {
            file: Some(file),
            written,
            tail: VecDeque::new(),
            pattern: None,
        };
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(inner),
            matched: watch::Sender::new(None),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new run begins: a line of an earlier one no longer says that it is ready.
    pub fn begin_run(&self, pattern: Option<Regex>) {
        self.matched.send_replace(None);
        self.lock().pattern = pattern;
    }

    /// Waits for the line that says that the run is ready.
    pub async fn ready_line(&self) -> ReadyLine {
        let mut matched = self.matched.subscribe();
        loop {
            if let Some(line) = matched.borrow_and_update().clone() {
                return line;
            }
            if matched.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Adds a line of the agent's own.
    pub fn note(&self, text: &str) {
        self.add("agentic", text);
    }

    /// The last lines, oldest first.
    pub fn last_lines(&self, count: usize) -> String {
        let bytes: Vec<u8> = self.lock().tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The last line that the app itself printed.
    pub fn last_own_line(&self) -> Option<String> {
        self.last_lines(200)
            .lines()
            .rev()
            .filter_map(|line| line.split_once(' ').map(|(_, rest)| rest))
            .filter_map(|rest| {
                rest.strip_prefix("out ")
                    .or_else(|| rest.strip_prefix("err "))
            })
            .find(|text| !text.trim().is_empty())
            .map(|text| text.trim().to_owned())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, source: &str, text: &str) {
        let time = OffsetDateTime::now_utc();
        let stamp = time.format(&Rfc3339).unwrap_or_default();
        let text = &*redaction::process().clean(text);
        let line = format!("{stamp} {source} {text}\n");
        let mut inner = self.lock();
        inner.keep(line.as_bytes());
        // A short append goes to the page cache; the app is held back while it lasts, by design.
        if let Err(error) = inner.append(&self.path, line.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write an instance's log");
        }
        if source != "agentic"
            && let Some(found) = inner
                .pattern
                .as_ref()
                .and_then(|pattern| pattern.captures(text))
        {
            let port = found
                .name("port")
                .and_then(|port| port.as_str().parse().ok());
            self.matched.send_replace(Some(ReadyLine { port }));
            inner.pattern = None;
        }
    }
}

impl Inner {
    fn keep(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(new);
    }

    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + bytes.len() as u64 > FILE_BYTES {
            self.file = None;
            fs::rename(path, path.with_extension("log.1"))?;
            self.written = 0;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(path)?),
        };
        file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl OutputSink for InstanceLog {
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        self.add(
            match stream {
                LogStream::Stdout => "out",
                LogStream::Stderr => "err",
            },
            text,
        );
        Box::pin(std::future::ready(()))
    }

    fn secrets(&self) -> Option<Secrets> {
        Some(redaction::process().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_matches_says_ready_and_names_the_port() {
        let folder = tempfile::tempdir().unwrap();
        let log = InstanceLog::open(&folder.path().join("1.log")).unwrap();
        log.begin_run(Some(Regex::new(r"listening on .*:(?<port>\d+)").unwrap()));
        log.note("listening on nothing:1");
        log.line(LogStream::Stdout, "listening on 127.0.0.1:4711")
            .await;
        assert_eq!(log.ready_line().await, ReadyLine { port: Some(4711) });
        assert_eq!(
            log.last_own_line().as_deref(),
            Some("listening on 127.0.0.1:4711")
        );
    }

    #[test]
    fn the_file_never_grows_past_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        let log = InstanceLog::open(&path).unwrap();
        let line = "x".repeat(60_000);
        for _ in 0..200 {
            log.add("out", &line);
        }
        let sizes: Vec<u64> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= FILE_BYTES), "{sizes:?}");
        assert!(log.last_lines(10).len() <= TAIL_BYTES);
    }
}
