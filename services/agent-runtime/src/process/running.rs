//! A started program: watched by a task that keeps its output, its deadline and its cancellation, and
//! that ends the whole tree however the run is over.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::Child,
    sync::watch,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::{
    Captured, Command, Ending, Finished, LogStream, ProcessError, environment,
    output::{self, COMBINED_BYTES, Tail},
    tree::Tree,
};

/// How long a program that is over may keep its pipes open through children before they are killed:
/// a pipeline's last member may still be writing, and a helper that was told to go may be on its way out.
const LINGER: Duration = Duration::from_millis(500);

/// How long the last output may take to reach the sink once the tree is gone.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// A started program. Dropping it kills the tree.
#[derive(Debug)]
pub struct Running {
    id: u32,
    program: String,
    combined: Arc<Tail>,
    stop: watch::Sender<Option<Duration>>,
    left: watch::Receiver<bool>,
    finished: watch::Receiver<Option<Finished>>,
    tree: Option<Tree>,
    // Aborts the watching task when dropped; Tokio then reaps the child.
    _watching: JoinSet<()>,
}

pub(super) fn start(command: Command) -> Result<Running, ProcessError> {
    let program = command.argv.first().ok_or(ProcessError::EmptyArgv)?;
    let name = program.to_string_lossy().into_owned();
    let span = tracing::info_span!(
        parent: None,
        "process",
        otel.name = %name,
        process.exit_code = tracing::field::Empty,
    );
    // A child in the trace only: an app that runs on must not hold open the span of what started it.
    let _ = span.set_parent(tracing::Span::current().context());
    let entered = span.enter();

    let scratch =
        match &command.home {
            Some(_) => None,
            None => Some(TempDir::with_prefix("agentic-home-").map_err(|source| {
                ProcessError::Home {
                    program: name.clone(),
                    source,
                }
            })?),
        };
    let home = match (&command.home, &scratch) {
        (Some(home), _) => home.clone(),
        (None, Some(scratch)) => scratch.path().to_owned(),
        (None, None) => PathBuf::from("/"),
    };
    let directory = command.directory.clone().unwrap_or_else(|| home.clone());
    if !directory.is_dir() {
        return Err(ProcessError::DirectoryMissing { directory });
    }

    let marker = Uuid::now_v7().to_string();
    let mut variables = environment::scrubbed(&home, command.network, &marker);
    variables.extend(command.environment.iter().cloned());
    let search = variables
        .get(&OsString::from("PATH"))
        .cloned()
        .unwrap_or_default();
    let path = environment::resolve(program, &search, &directory)?;

    let mut child = tokio::process::Command::new(&path);
    child
        .arg0(program)
        .args(&command.argv[1..])
        .current_dir(&directory)
        .env_clear()
        .envs(variables)
        .stdin(match command.input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let started = Instant::now();
    let child = child
        .spawn()
        .map_err(|source| refused(name.clone(), path, source))?;
    drop(entered);

    let id = child.id().unwrap_or_default();
    let tree = Tree::new(id, marker);
    let combined = Arc::new(Tail::new(COMBINED_BYTES));
    let (stop, stop_requests) = watch::channel(None);
    let (leave, left) = watch::channel(false);
    let (publish, finished) = watch::channel(None);
    let watch = Watch {
        argv: command.argv_text(),
        child,
        tree: tree.clone(),
        started,
        timeout: command.timeout,
        grace: command.grace,
        cancel: command.cancel.clone(),
        stop_requests,
        leave,
        combined: Arc::clone(&combined),
        _scratch: scratch,
    };
    let mut watching = JoinSet::new();
    watching.spawn(
        async move {
            let end = watch.follow(command).await;
            if let Some(code) = end.ending.exit_code() {
                tracing::Span::current().record("process.exit_code", code);
            }
            // Nobody listening is fine: the tree is gone.
            let _ = publish.send(Some(end));
        }
        .instrument(span),
    );
    Ok(Running {
        id,
        program: name,
        combined,
        stop,
        left,
        finished,
        tree: Some(tree),
        _watching: watching,
    })
}

/// The file was there and executable a moment ago: what the system says now is about its first line.
fn refused(program: String, path: PathBuf, source: io::Error) -> ProcessError {
    if source.kind() == io::ErrorKind::NotFound {
        ProcessError::InterpreterNotFound { program, path }
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        ProcessError::NotExecutable { program, path }
    } else {
        ProcessError::Start { program, source }
    }
}

impl Running {
    /// Process id, which is also the id of its process group.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the program is over and its tree is gone. May be called, and given up, repeatedly.
    pub async fn wait(&self) -> Result<Finished, ProcessError> {
        let mut finished = self.finished.clone();
        let end = finished.wait_for(Option::is_some).await;
        match end.ok().and_then(|end| end.clone()) {
            Some(end) => Ok(end),
            None => Err(ProcessError::Abandoned {
                program: self.program.clone(),
            }),
        }
    }

    /// Whether the program itself is gone, though what it left behind may not be yet.
    pub fn has_left(&self) -> bool {
        *self.left.borrow()
    }

    /// What is known of the end, if the program is over.
    pub fn finished(&self) -> Option<Finished> {
        self.finished.borrow().clone()
    }

    /// Asks the tree to stop, forces it after `grace`, and says how the program itself ended.
    pub async fn stop(&self, grace: Duration) -> Result<Finished, ProcessError> {
        // The watching task is gone only when the program is over.
        let _ = self.stop.send(Some(grace));
        self.wait().await
    }

    /// The last `lines` lines of both streams so far, oldest first.
    pub fn last_lines(&self, lines: usize) -> String {
        output::last_lines(&self.combined.captured().text(), lines)
    }

    /// The last 64 KiB of both streams so far.
    pub fn log_tail(&self) -> Captured {
        self.combined.captured()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.finished.borrow().is_some() {
            return;
        }
        if let Some(tree) = self.tree.take() {
            tree.end_now();
        }
    }
}

/// What the watching task holds.
struct Watch {
    argv: Vec<String>,
    child: Child,
    tree: Tree,
    started: Instant,
    timeout: Option<Duration>,
    grace: Duration,
    cancel: CancellationToken,
    stop_requests: watch::Receiver<Option<Duration>>,
    leave: watch::Sender<bool>,
    combined: Arc<Tail>,
    // Lives as long as the processes that may use it.
    _scratch: Option<TempDir>,
}

/// Why the run is over.
enum Over {
    Left(io::Result<ExitStatus>),
    Cancelled,
    TimedOut,
    Stop(Duration),
}

impl Watch {
    async fn follow(mut self, command: Command) -> Finished {
        let stdout = Arc::new(Tail::new(command.capture_bytes));
        let stderr = Arc::new(Tail::new(command.capture_bytes));
        let mut streams = JoinSet::new();
        if let Some(pipe) = self.child.stdout.take() {
            let tails = [Arc::clone(&stdout), Arc::clone(&self.combined)];
            let sink = command.sink.clone();
            streams.spawn(output::follow(pipe, LogStream::Stdout, tails, sink));
        }
        if let Some(pipe) = self.child.stderr.take() {
            let tails = [Arc::clone(&stderr), Arc::clone(&self.combined)];
            let sink = command.sink.clone();
            streams.spawn(output::follow(pipe, LogStream::Stderr, tails, sink));
        }
        let mut feeding = JoinSet::new();
        if let (Some(mut pipe), Some(input)) = (self.child.stdin.take(), command.input.clone()) {
            feeding.spawn(async move {
                // A program that does not read its input is free not to.
                let _ = pipe.write_all(&input).await;
            });
        }

        let (ending, left_behind_count) = match self.over().await {
            Over::Left(status) => {
                self.leave.send_replace(true);
                let settled = async {
                    drain(&mut streams).await;
                    self.tree.gone().await;
                };
                let left_behind = match timeout(LINGER, settled).await {
                    Ok(()) => 0,
                    Err(_) => self.tree.members().len(),
                };
                self.tree.end(self.grace.min(LINGER)).await;
                (ending_of(status), left_behind)
            }
            Over::Cancelled => {
                drop(self.end_tree(self.grace).await);
                (Ending::Cancelled, 0)
            }
            Over::TimedOut => {
                drop(self.end_tree(self.grace).await);
                (Ending::TimedOut, 0)
            }
            Over::Stop(grace) => (ending_of(self.end_tree(grace).await), 0),
        };
        if timeout(DRAIN_WITHIN, drain(&mut streams)).await.is_err() {
            tracing::warn!(argv = ?self.argv, "output was cut: its pipe or its reader is stuck");
        }
        Finished {
            argv: self.argv,
            ending,
            duration: self.started.elapsed(),
            stdout: stdout.captured(),
            stderr: stderr.captured(),
            combined: self.combined.captured(),
            left_behind_count,
        }
    }

    async fn over(&mut self) -> Over {
        let deadline = self
            .timeout
            .and_then(|limit| self.started.checked_add(limit));
        let past_deadline = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let stop_requests = &mut self.stop_requests;
        let stopped = async {
            let request = stop_requests.wait_for(Option::is_some).await;
            match request.map(|grace| grace.unwrap_or_default()) {
                Ok(grace) => grace,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Over::Cancelled,
            grace = stopped => Over::Stop(grace),
            status = self.child.wait() => Over::Left(status),
            () = past_deadline => Over::TimedOut,
        }
    }

    /// Ends the tree while reaping the leader, whose zombie would otherwise stay.
    async fn end_tree(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        let (status, ()) = tokio::join!(self.child.wait(), self.tree.end(grace));
        status
    }
}

async fn drain(streams: &mut JoinSet<()>) {
    while streams.join_next().await.is_some() {}
}

fn ending_of(status: io::Result<ExitStatus>) -> Ending {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, Some(signal)) => Ending::Signalled(signal),
            (None, None) => Ending::Signalled(Signal::SIGKILL as i32),
        },
        // Somebody else reaped our child: how it ended is unknown, and unknown is never success.
        Err(error) => {
            tracing::error!(%error, "the end of a child process was lost");
            Ending::Signalled(Signal::SIGKILL as i32)
        }
    }
}
