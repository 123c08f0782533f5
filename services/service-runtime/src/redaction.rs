//! Takes the values of secrets out of what leaves a process: logs, events, results, artifacts. Knows
//! values and the forms that programs give them, and nothing of where they appear.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};

mod forms;

/// Shorter values are words of ordinary texts; taking them out would only show where they are.
pub const MIN_SECRET_BYTES: usize = 6;
// A secret that is renewed keeps its name; who still shows an old value shows one of these.
const VALUES_OF_A_NAME: usize = 4;

static PROCESS: LazyLock<Secrets> = LazyLock::new(Secrets::new);
// Whose secrets the process's own log must not show, as long as they are in use.
static SCOPES: Mutex<Vec<Weak<Known>>> = Mutex::new(Vec::new());

/// The secrets of one piece of work, or of the process. What one work knows is not taken out of the
/// texts of another: else whoever guesses a value could see that it is somebody's.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    values: Mutex<Vec<(String, String)>>,
    finder: RwLock<Option<Arc<Finder>>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Known").finish_non_exhaustive()
    }
}

/// What is written in the place of a value.
#[derive(Debug, Clone, Copy)]
enum Standin {
    Name,
    Mask,
}

impl Standin {
    fn write(self, into: &mut Vec<u8>, label: &str, hidden: usize) {
        match self {
            Self::Name => into.extend_from_slice(label.as_bytes()),
            Self::Mask => into.resize(into.len() + hidden, b'*'),
        }
    }
}

struct Finder {
    automaton: AhoCorasick,
    // What is written in the place of each pattern.
    labels: Vec<Arc<str>>,
    longest: usize,
}

/// Secrets of the process itself: what it read from its files and settings. They are taken out of everything.
pub fn process() -> &'static Secrets {
    &PROCESS
}

/// Takes the private key of a PEM file out from now on; the certificates beside it are no secret.
pub fn hide_key(pem: &str) {
    let mut sections = pem.split("-----BEGIN ").skip(1);
    if let Some(section) = sections.find(|section| section.contains("PRIVATE KEY-----")) {
        process().register("private key", &format!("-----BEGIN {section}"));
    }
}

/// The secrets that anything in this process uses at one moment, its own and those of all its works: what is told to
/// who operates the process holds none of them.
#[derive(Clone)]
pub struct InUse(Vec<Arc<Finder>>);

/// The secrets that are in use now.
pub fn in_use() -> InUse {
    // The process's own are among them.
    let scopes = lock(&SCOPES);
    let known = scopes.iter().filter_map(Weak::upgrade);
    InUse(known.filter_map(|known| known.finder()).collect())
}

/// A line for the log, without any secret that anything in this process uses.
pub fn clean_log_line(line: &[u8]) -> Cow<'_, [u8]> {
    in_use().clean_bytes(line)
}

impl InUse {
    /// The text without any of them.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.clean_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The same for what need not be a text.
    pub fn clean_bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        let mut cleaned = Cow::Borrowed(bytes);
        for finder in &self.0 {
            if let Some(bytes) = finder.replace(&cleaned, Standin::Name) {
                cleaned = Cow::Owned(bytes);
            }
        }
        cleaned
    }
}

impl Secrets {
    /// No secrets yet but those of the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes this value out from now on; what stands for it is its name. Values shorter than
    /// [`MIN_SECRET_BYTES`] are not: false.
    pub fn register(&self, name: &str, value: &str) -> bool {
        let value = value.trim();
        if value.len() < MIN_SECRET_BYTES {
            return false;
        }
        let mut values = lock(&self.known.values);
        if values
            .iter()
            .any(|(known, old)| known == name && old == value)
        {
            return true;
        }
        if values.is_empty() {
            let mut scopes = lock(&SCOPES);
            scopes.retain(|scope| scope.strong_count() > 0);
            scopes.push(Arc::downgrade(&self.known));
        }
        values.push((name.to_owned(), value.to_owned()));
        if values.iter().filter(|(known, _)| known == name).count() > VALUES_OF_A_NAME
            && let Some(oldest) = values.iter().position(|(known, _)| known == name)
        {
            values.remove(oldest);
        }
        let finder = Finder::of(&values);
        *self
            .known
            .finder
            .write()
            .unwrap_or_else(PoisonError::into_inner) = finder.map(Arc::new);
        true
    }

    /// Whether there is nothing to take out.
    pub fn is_empty(&self) -> bool {
        self.finders().iter().all(Option::is_none)
    }

    /// The text without the values.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut cleaned = Cow::Borrowed(text);
        for finder in self.finders().into_iter().flatten() {
            if let Some(bytes) = finder.replace(cleaned.as_bytes(), Standin::Name) {
                cleaned = Cow::Owned(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        cleaned
    }

    /// Cleans what comes in pieces.
    pub fn stream(&self) -> Stream {
        self.stream_with(Standin::Name)
    }

    /// Cleans bytes in which nothing may move, such as those of an archive: asterisks stand for a value, as many as
    /// it had bytes.
    pub fn masking_stream(&self) -> Stream {
        self.stream_with(Standin::Mask)
    }

    fn stream_with(&self, standin: Standin) -> Stream {
        Stream {
            secrets: self.clone(),
            standin,
            held: [Vec::new(), Vec::new()],
        }
    }

    // Its own, and those of the process.
    fn finders(&self) -> [Option<Arc<Finder>>; 2] {
        let process = &process().known;
        let own = self.known.finder();
        if Arc::ptr_eq(process, &self.known) {
            [own, None]
        } else {
            [own, process.finder()]
        }
    }
}

impl Known {
    fn finder(&self) -> Option<Arc<Finder>> {
        self.finder
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Finder {
    fn of(values: &[(String, String)]) -> Option<Self> {
        let mut patterns: Vec<(Vec<u8>, Arc<str>)> = Vec::new();
        for (name, value) in values {
            let label: Arc<str> = format!("[secret {name}]").into();
            let found = forms::of(value)
                .into_iter()
                .map(|form| (form, label.clone()));
            patterns.extend(found);
        }
        let longest = patterns.iter().map(|(pattern, _)| pattern.len()).max()?;
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Unanchored)
            .build(patterns.iter().map(|(pattern, _)| pattern))
            // It fails only beyond two billion bytes of patterns.
            .ok()?;
        Some(Self {
            automaton,
            labels: patterns.into_iter().map(|(_, label)| label).collect(),
            longest,
        })
    }

    // `None`: there is nothing to replace.
    fn replace(&self, bytes: &[u8], standin: Standin) -> Option<Vec<u8>> {
        let first = self.next(bytes, 0)?;
        let mut cleaned = Vec::with_capacity(bytes.len());
        let mut done = 0;
        let mut found = Some(first);
        while let Some((start, end, label)) = found {
            cleaned.extend_from_slice(&bytes[done..start]);
            standin.write(&mut cleaned, label, end - start);
            done = end;
            found = self.next(bytes, done);
        }
        cleaned.extend_from_slice(&bytes[done..]);
        Some(cleaned)
    }

    // Cleans what can be cleaned of `held`, and leaves what might be the beginning of a secret.
    fn advance(&self, held: &mut Vec<u8>, into: &mut Vec<u8>, standin: Standin) {
        // Whatever begins before this has its end in what is held.
        let sure = (held.len() + 1).saturating_sub(self.longest);
        let mut done = 0;
        while let Some((start, end, label)) = self.next(held, done) {
            if start >= sure {
                break;
            }
            into.extend_from_slice(&held[done..start]);
            standin.write(into, label, end - start);
            done = end;
        }
        if sure > done {
            into.extend_from_slice(&held[done..sure]);
            done = sure;
        }
        held.drain(..done);
    }

    fn next(&self, bytes: &[u8], from: usize) -> Option<(usize, usize, &str)> {
        let input = Input::new(bytes)
            .span(from..bytes.len())
            .anchored(Anchored::No);
        let found = self.automaton.find(input)?;
        let label = self.labels.get(found.pattern().as_usize())?;
        Some((found.start(), found.end(), label))
    }
}

/// Cleans bytes that come in pieces, wherever they are cut. Holds back no more than the longest
/// form of a secret.
#[derive(Debug)]
pub struct Stream {
    secrets: Secrets,
    standin: Standin,
    // Before its own secrets, and before those of the process.
    held: [Vec<u8>; 2],
}

impl Stream {
    /// What is sure to hold no secret of what came so far.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.pass(piece, false)
    }

    /// The same for lines: a text ends with its line, so nothing of a complete one is held back.
    pub fn lines(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            clean.append(&mut self.push(part));
            if part.ends_with(b"\n") {
                clean.append(&mut self.finish());
            }
        }
        clean
    }

    /// The rest. Whatever comes next is a text of its own.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pass(&[], true)
    }

    fn pass(&mut self, piece: &[u8], is_last: bool) -> Vec<u8> {
        let mut bytes = piece.to_vec();
        for (finder, held) in self.secrets.finders().into_iter().zip(&mut self.held) {
            held.append(&mut bytes);
            match finder {
                None => bytes = std::mem::take(held),
                Some(finder) if is_last => {
                    let rest = std::mem::take(held);
                    bytes = finder.replace(&rest, self.standin).unwrap_or(rest);
                }
                Some(finder) => finder.advance(held, &mut bytes, self.standin),
            }
        }
        bytes
    }
}

/// Writes log lines without secrets. A line is one call of `write`, as the log's layer does it.
#[derive(Debug)]
pub struct CleanWriter<W>(pub W);

impl<W: Write> Write for CleanWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&clean_log_line(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
