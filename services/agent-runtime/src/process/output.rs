//! What a program prints: cut into lines for whoever watches, and its last part kept.
//! It refuses to hold more than its bounds, however much is printed and however long the lines are.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use service_runtime::redaction::Secrets;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest piece of a line that a sink is given at once; the bound of a log event in the contract.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// How much of both streams together is kept, for the last lines that people are shown.
pub(super) const COMBINED_BYTES: usize = 64 * 1024;

const READ_BYTES: usize = 32 * 1024;

/// Which stream of the program a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes lines as they appear. While it waits, the program is held back by its full pipe.
pub trait OutputSink: Send + Sync {
    /// One line without its end, or a piece of at most [`MAX_LINE_BYTES`] of a longer one.
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()>;

    /// What must reach neither it nor what is captured. It is taken out of whole lines, before long ones are cut.
    fn secrets(&self) -> Option<Secrets> {
        None
    }
}

impl<F> OutputSink for F
where
    F: Fn(LogStream, &str) + Send + Sync,
{
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        self(stream, text);
        Box::pin(std::future::ready(()))
    }
}

/// The last part of an output stream.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    /// The bytes as they were printed.
    pub bytes: Arc<[u8]>,
    /// Whether earlier output was dropped.
    pub truncated: bool,
    /// How much was printed in all.
    pub total_bytes: u64,
}

impl Captured {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The last `count` lines of `text`, oldest first, without empty ones at the end.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Keeps the last `limit` bytes of what passes.
#[derive(Debug)]
pub(super) struct Tail {
    limit: usize,
    kept: Mutex<(VecDeque<u8>, u64)>,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::new((VecDeque::new(), 0)),
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1 += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (kept.0.len() + new.len()).saturating_sub(self.limit);
        kept.0.drain(..excess);
        kept.0.extend(new);
    }

    pub(super) fn captured(&self) -> Captured {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let total_bytes = kept.1;
        let bytes: Arc<[u8]> = Arc::from(&*kept.0.make_contiguous());
        Captured {
            truncated: total_bytes > bytes.len() as u64,
            bytes,
            total_bytes,
        }
    }
}

/// Reads one stream to its end: keeps its tail and hands its lines on. A broken pipe is its end.
pub(super) async fn follow(
    mut source: impl AsyncRead + Unpin,
    stream: LogStream,
    tails: [Arc<Tail>; 2],
    sink: Option<Arc<dyn OutputSink>>,
) {
    let mut chunk = vec![0; READ_BYTES];
    let mut line = Vec::new();
    let mut cleaning = sink
        .as_ref()
        .and_then(|sink| Some(sink.secrets()?.stream()));
    loop {
        let count = match source.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        // A tail that begins in the middle of a secret would still show the rest of it.
        let read = match &mut cleaning {
            None => Cow::Borrowed(&chunk[..count]),
            Some(cleaning) => Cow::Owned(cleaning.lines(&chunk[..count])),
        };
        for tail in &tails {
            tail.push(&read);
        }
        if let Some(sink) = &sink {
            for part in read.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                let complete = line.last() == Some(&b'\n');
                pass_on(&mut line, complete, stream, &**sink).await;
            }
        }
    }
    if let Some(mut cleaning) = cleaning {
        let rest = cleaning.finish();
        for tail in &tails {
            tail.push(&rest);
        }
        line.extend_from_slice(&rest);
    }
    if let Some(sink) = &sink
        && !line.is_empty()
    {
        pass_on(&mut line, true, stream, &**sink).await;
    }
}

/// Hands on what is due of `line`: all of it when it is complete, else only full pieces.
async fn pass_on(line: &mut Vec<u8>, complete: bool, stream: LogStream, sink: &dyn OutputSink) {
    while line.len() > MAX_LINE_BYTES {
        // The lossy form of a byte may be three bytes long, so text is cut again after conversion.
        let rest = line.split_off(character_boundary(line, MAX_LINE_BYTES));
        let piece = std::mem::replace(line, rest);
        hand_over(&String::from_utf8_lossy(&piece), stream, sink).await;
    }
    if complete {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        hand_over(text.strip_suffix('\r').unwrap_or(text), stream, sink).await;
        line.clear();
    }
}

async fn hand_over(mut text: &str, stream: LogStream, sink: &dyn OutputSink) {
    while text.len() > MAX_LINE_BYTES {
        let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_LINE_BYTES));
        sink.line(stream, piece).await;
        text = rest;
    }
    sink.line(stream, text).await;
}

/// The last place at or before `limit` that does not split a UTF-8 character.
fn character_boundary(bytes: &[u8], limit: usize) -> usize {
    let continues = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    (limit - 3..=limit)
        .rev()
        .find(|&place| !continues(bytes[place]))
        .unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Arc<Mutex<Vec<String>>>;

    async fn lines_of(input: &[u8]) -> (Vec<String>, Captured) {
        let lines: Lines = Arc::default();
        let sink = {
            let lines = Arc::clone(&lines);
            move |_: LogStream, text: &str| lines.lock().unwrap().push(text.to_owned())
        };
        let tail = Arc::new(Tail::new(1000));
        let tails = [Arc::clone(&tail), Arc::new(Tail::new(10))];
        follow(input, LogStream::Stdout, tails, Some(Arc::new(sink))).await;
        let lines = lines.lock().unwrap().clone();
        (lines, tail.captured())
    }

    #[tokio::test]
    async fn lines_lose_their_ends_and_the_last_one_needs_none() {
        let (lines, captured) = lines_of(b"one\r\n\ntwo\nthree").await;
        assert_eq!(lines, ["one", "", "two", "three"]);
        assert_eq!(captured.text(), "one\r\n\ntwo\nthree");
        assert!(!captured.truncated);
    }

    #[tokio::test]
    async fn a_long_line_comes_in_pieces_that_split_no_character() {
        let long = "ä".repeat(100_000);
        let (lines, captured) = lines_of(format!("{long}\nshort\n").as_bytes()).await;
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(lines[..lines.len() - 1].concat(), long);
        assert_eq!(lines.last().unwrap(), "short");
        assert!(captured.truncated);
        assert_eq!(captured.bytes.len(), 1000);
        assert_eq!(captured.total_bytes, 200_007);
    }

    #[tokio::test]
    async fn bytes_that_are_not_text_do_not_grow_past_the_bound() {
        let (lines, _) = lines_of(&vec![0xff; 200_000]).await;
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(lines.concat().chars().count(), 200_000);
    }

    #[tokio::test]
    async fn a_secret_is_taken_out_where_a_long_line_is_cut() {
        struct Sink(Lines, Secrets);
        impl OutputSink for Sink {
            fn line<'a>(&'a self, _: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
                self.0.lock().unwrap().push(text.to_owned());
                Box::pin(std::future::ready(()))
            }

            fn secrets(&self) -> Option<Secrets> {
                Some(self.1.clone())
            }
        }
        let secrets = Secrets::new();
        secrets.register("KEY", "correct-horse");
        let lines = Lines::default();
        let sink = Arc::new(Sink(Arc::clone(&lines), secrets));
        for before in MAX_LINE_BYTES - 20..MAX_LINE_BYTES + 5 {
            let input = format!(
                "{}correct-horse\ncorrect-\nhorse correct-horse",
                "x".repeat(before)
            );
            let tails = [Arc::new(Tail::new(10)), Arc::new(Tail::new(10))];
            follow(
                input.as_bytes(),
                LogStream::Stdout,
                tails,
                Some(sink.clone()),
            )
            .await;
            let text = std::mem::take(&mut *lines.lock().unwrap()).join("|");
            assert!(
                !text.replace('|', "").contains("xcorrect"),
                "cut at {before}"
            );
            assert!(text.ends_with("|correct-|horse [secret KEY]"), "{before}");
            assert!(text.replace('|', "").contains("x[secret KEY]"), "{before}");
        }
    }

    #[test]
    fn the_last_lines_are_the_newest_ones() {
        assert_eq!(last_lines("a\nb\nc\n\n", 2), "b\nc");
        assert_eq!(last_lines("a", 5), "a");
        assert_eq!(last_lines("", 5), "");
    }
}
