//! Runs the programs that agents rely on: argument vectors with a scrubbed environment, a deadline and
//! bounded output, each in its own process group, whose whole tree is gone when the run is over.
//! It knows nothing of tasks, checkouts or what the programs are for.

mod environment;
mod error;
pub(crate) mod leftovers;
mod output;
mod running;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub use self::{
    environment::{find_program, path_with},
    error::ProcessError,
    output::{Captured, LogStream, MAX_LINE_BYTES, OutputSink},
    running::Running,
};

/// How much of each output stream is kept unless the caller says otherwise.
pub const DEFAULT_CAPTURE_BYTES: usize = 1024 * 1024;

/// How long a tree has between SIGTERM and SIGKILL unless the caller says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited by itself, with this code.
    Exited(i32),
    /// A signal ended it: a crash, the kernel's memory killer, or somebody's `kill`.
    Signalled(i32),
    /// Its deadline passed and the tree was killed.
    TimedOut,
    /// The task was cancelled and the tree was killed.
    Cancelled,
}

impl Ending {
    /// Whether the program said itself that all went well.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The exit code, if the program exited by itself.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signalled(_) | Self::TimedOut | Self::Cancelled => None,
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit code {code}"),
            Self::Signalled(signal) => write!(formatter, "signal {signal}"),
            Self::TimedOut => formatter.write_str("timed out"),
            Self::Cancelled => formatter.write_str("cancelled"),
        }
    }
}

/// What is known once a program is over and its tree is gone.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The argument vector that was run.
    pub argv: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// Wall time, until the tree was gone.
    pub duration: Duration,
    /// Standard output, its last part if it was long.
    pub stdout: Captured,
    /// Standard error, its last part if it was long.
    pub stderr: Captured,
    /// Both streams in the order in which they arrived; the last 64 KiB.
    pub combined: Captured,
    /// How many descendants were still running when the program itself was over, and were killed.
    /// A program that puts itself into the background leaves at least one.
    pub left_behind_count: usize,
}

impl Finished {
    /// Whether the program exited with code 0.
    pub fn is_success(&self) -> bool {
        self.ending.is_success()
    }

    /// The last `lines` lines of both streams, oldest first.
    pub fn last_lines(&self, lines: usize) -> String {
        output::last_lines(&self.combined.text(), lines)
    }
}

/// A program to run. The environment is scrubbed: only `PATH`, locale, time zone, certificates and
/// toolchain folders are inherited, `HOME` is an empty folder that lives as long as the run.
#[derive(Clone)]
pub struct Command {
    pub(super) argv: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    home: Option<PathBuf>,
    network: bool,
    input: Option<Arc<[u8]>>,
    timeout: Option<Duration>,
    grace: Duration,
    cancel: CancellationToken,
    capture_bytes: usize,
    sink: Option<Arc<dyn OutputSink>>,
}

impl Command {
    /// A program and its arguments; nothing is ever given to a shell. A program without `/` is looked
    /// up in `PATH`; a relative one with `/` is taken from the working directory of the run.
    pub fn new<I, A>(argv: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            directory: None,
            environment: Vec::new(),
            home: None,
            network: false,
            input: None,
            timeout: None,
            grace: DEFAULT_GRACE,
            cancel: CancellationToken::new(),
            capture_bytes: DEFAULT_CAPTURE_BYTES,
            sink: None,
        }
    }

    /// Appends one argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Working directory; without one it is the folder that stands in for `HOME`.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Sets one variable, over what is inherited.
    #[must_use]
    pub fn environment(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets several variables, over what is inherited.
    #[must_use]
    pub fn environments<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        for (key, value) in variables {
            self = self.environment(key, value);
        }
        self
    }

    /// A folder to use as `HOME` instead of an empty one.
    #[must_use]
    pub fn home(mut self, home: impl AsRef<Path>) -> Self {
        self.home = Some(home.as_ref().to_owned());
        self
    }

    /// Lets proxy and package-index settings of the host through, for the steps that may use the network.
    #[must_use]
    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Bytes for standard input; without them it is empty.
    #[must_use]
    pub fn input(mut self, input: impl Into<Arc<[u8]>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Wall time after which the tree is killed. Without one the program may run for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Time between SIGTERM and SIGKILL when the tree is killed.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Kills the tree when the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// How much of each output stream is kept.
    #[must_use]
    pub fn capture_bytes(mut self, bytes: usize) -> Self {
        self.capture_bytes = bytes;
        self
    }

    /// Where output lines go as they appear.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn OutputSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Starts the program. Dropping what is returned kills the tree.
    ///
    /// Must be called within a Tokio runtime.
    pub fn start(mut self) -> Result<Running, ProcessError> {
        if let Some(directory) = &self.directory {
            let place = leftovers::place(directory);
            self = self.environment(leftovers::FOLDER_VARIABLE, place);
        }
        running::start(self)
    }

    /// Runs the program to its end. Dropping the future kills the tree.
    pub async fn run(self) -> Result<Finished, ProcessError> {
        self.start()?.wait().await
    }

    /// The argument vector as text, for records.
    pub fn argv_text(&self) -> Vec<String> {
        self.argv
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect()
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values of variables may be secrets.
        formatter
            .debug_struct("Command")
            .field("argv", &self.argv)
            .field("directory", &self.directory)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
