//! The app under test: started, watched until it is ready, and always torn down with everything it started.
//! Knows how to tell an app that runs from one that only seems to; knows no tests.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_runtime::{
    process::{Command, Ending, Finished, ProcessError, Running},
    project::{Ready, ReadyBy, StartBy, log_pattern},
};
use tokio_util::sync::CancellationToken;

use self::{
    container::Container,
    log::AppLog,
    ready::{Readiness, Watch},
};

mod container;
pub mod log;
mod ready;

/// How often a start is tried again when somebody else took the port that was meant for the app.
const PORT_ATTEMPTS: usize = 3;

/// How `docker run` ends when no container was started (its documentation, "Exit status").
const ENGINE_REFUSED: Ending = Ending::Exited(125);

/// How many lines of its log an app that fails is quoted with.
const QUOTED_LINES: usize = 20;

/// How to start an app.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What is started.
    pub by: StartBy,
    /// Variable that tells it its port.
    pub port_variable: String,
    /// Further variables, with the values of secrets.
    pub environment: Vec<(String, String)>,
    /// Variables of the preparation, such as a `PATH` with installed packages.
    pub surroundings: Vec<(String, std::ffi::OsString)>,
    /// Where it is started.
    pub checkout: PathBuf,
    /// When it is ready.
    pub ready: Ready,
    /// How long it may take to stop.
    pub stop_within: Duration,
}

/// Why an app is not running.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// It cannot be started here, which says nothing about it.
    #[error("{0}")]
    Unavailable(String),
    /// It was started, and is broken.
    #[error("{reason}")]
    Broken {
        /// What was seen, one sentence.
        reason: String,
        /// How its process ended, if it did.
        finished: Option<Box<Finished>>,
    },
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl StartFailure {
    fn broken(reason: impl Into<String>, finished: Option<Finished>) -> Self {
        Self::Broken {
            reason: reason.into(),
            finished: finished.map(Box::new),
        }
    }
}

/// An app that is ready.
#[derive(Debug)]
pub struct App {
    base_url: String,
    port: u16,
    ready_after: Duration,
    stop_within: Duration,
    running: Option<Running>,
    // Removed after its process, and on drop.
    container: Option<Container>,
}

/// What starts are given beside the launch itself.
#[derive(Clone)]
pub struct Attendance {
    /// Takes what the app prints.
    pub log: Arc<AppLog>,
    /// Stops everything.
    pub cancel: CancellationToken,
}

impl App {
    /// Starts the app and waits until it is ready.
    pub async fn start(launch: &Launch, attendance: &Attendance) -> Result<Self, StartFailure> {
        if let StartBy::Url(address) = &launch.by {
            return Self::reach(launch, address, attendance).await;
        }
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match Self::start_on(launch, port, attendance).await {
                // Between our asking for a free port and the app's taking it, somebody else was faster.
                Err(StartFailure::Broken { .. }) if attempt < PORT_ATTEMPTS && is_taken(port) => {
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    }

    /// Where it answers, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The port it was told, or listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Time from start to ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// How it ended, if it ended by itself.
    pub fn ended(&self) -> Option<Finished> {
        self.running.as_ref()?.finished()
    }

    /// Stops it and everything it started. None: it was not ours to stop.
    pub async fn stop(mut self) -> Option<Finished> {
        let running = self.running.take()?;
        let finished = running.stop(self.stop_within).await.ok();
        if let Some(container) = self.container.take() {
            container.remove().await;
        }
        finished
    }

    async fn reach(
        launch: &Launch,
        address: &str,
        attendance: &Attendance,
    ) -> Result<Self, StartFailure> {
        let base_url = address.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&base_url)
            .map_err(|_| StartFailure::Unavailable(format!("{base_url:?} is not a URL")))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let started = Instant::now();
        let readiness =
            Readiness::for_url(&launch.ready.by, &base_url).map_err(StartFailure::Unavailable)?;
        let ready = tokio::select! {
            biased;
            () = attendance.cancel.cancelled() => return Err(StartFailure::Cancelled),
            ready = readiness.wait(launch.ready.within.get()) => ready,
        };
        match ready {
            Ok(_) => Ok(Self {
                base_url,
                port,
                ready_after: started.elapsed(),
                stop_within: launch.stop_within,
                running: None,
                container: None,
            }),
            Err(last) => Err(StartFailure::broken(
                format!(
                    "{base_url} was not ready within {}: {last}",
                    launch.ready.within
                ),
                None,
            )),
        }
    }

    async fn start_on(
        launch: &Launch,
        port: u16,
        attendance: &Attendance,
    ) -> Result<Self, StartFailure> {
        let watch = match &launch.ready.by {
            ReadyBy::Log(pattern) => {
                Watch::Pattern(log_pattern(pattern).map_err(StartFailure::Unavailable)?)
            }
            ReadyBy::Http(_) | ReadyBy::Tcp | ReadyBy::DockerHealth => Watch::Nothing,
        };
        let seen = attendance.log.watch(watch);
        let container = Container::of(&launch.by, port, launch).await?;
        let command = match (&container, &launch.by) {
            (Some(container), _) => container.command(),
            (None, StartBy::Command(argv)) => Command::new(argv.as_slice().iter().cloned()),
            (None, _) => return Err(StartFailure::Unavailable("nothing to start".to_owned())),
        };
        let readiness = Readiness::for_port(&launch.ready.by, port, seen, container.as_ref())
            .map_err(StartFailure::Unavailable)?;
        let started = Instant::now();
        let running = command
            .directory(&launch.checkout)
            .environments(
                launch
                    .surroundings
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .environments(launch.environment.iter().map(|(name, value)| (name, value)))
            .environment(&launch.port_variable, port.to_string())
            .grace(launch.stop_within)
            .cancel(attendance.cancel.clone())
            .sink(Arc::clone(&attendance.log) as _)
            .start()
            .map_err(|error| not_started(&error))?;

        let within = launch.ready.within.get();
        let ready = tokio::select! {
            biased;
            () = attendance.cancel.cancelled() => {
                // The tree is being killed; it must be gone before anybody is told.
                let _ = running.wait().await;
                remove(container).await;
                return Err(StartFailure::Cancelled);
            }
            finished = running.wait() => {
                let is_boxed = container.is_some();
                remove(container).await;
                return Err(match finished {
                    Ok(finished) if is_boxed && finished.ending == ENGINE_REFUSED => {
                        let said = finished.last_lines(6);
                        StartFailure::Unavailable(format!("the engine did not start the container: {said}"))
                    }
                    Ok(finished) => left_early(finished),
                    Err(error) => StartFailure::Unavailable(error.to_string()),
                });
            }
            ready = readiness.wait(within) => ready,
        };
        match ready {
            // What answered was left behind by a program that is gone.
            Ok(_) if running.has_left() => {
                let finished = running.wait().await;
                remove(container).await;
                Err(finished.map_or_else(
                    |error| StartFailure::Unavailable(error.to_string()),
                    left_early,
                ))
            }
            Ok(base_url) => Ok(Self {
                port: port_of(&base_url).unwrap_or(port),
                base_url,
                ready_after: started.elapsed(),
                stop_within: launch.stop_within,
                running: Some(running),
                container,
            }),
            Err(last) => {
                let finished = running.stop(launch.stop_within).await.ok();
                remove(container).await;
                let log = finished.as_ref().map(quoted).unwrap_or_default();
                let reason = format!("not ready within {}: {last}{log}", launch.ready.within);
                Err(StartFailure::broken(reason, finished))
            }
        }
    }
}

async fn remove(container: Option<Container>) {
    if let Some(container) = container {
        container.remove().await;
    }
}

fn port_of(base_url: &str) -> Option<u16> {
    reqwest::Url::parse(base_url).ok()?.port_or_known_default()
}

fn not_started(error: &ProcessError) -> StartFailure {
    match error {
        // A file of the project that cannot be run is the project's fault; a tool that is missing is not.
        ProcessError::NotExecutable { .. } => StartFailure::broken(error.to_string(), None),
        ProcessError::ProgramNotFound { program } if program.contains('/') => {
            StartFailure::broken(format!("the project has no file `{program}`"), None)
        }
        ProcessError::ProgramNotFound { .. }
        | ProcessError::InterpreterNotFound { .. }
        | ProcessError::EmptyArgv
        | ProcessError::DirectoryMissing { .. }
        | ProcessError::Home { .. }
        | ProcessError::Start { .. }
        | ProcessError::Abandoned { .. } => StartFailure::Unavailable(error.to_string()),
    }
}

/// An app that is over before it was ready is broken, also when it says that all went well.
fn left_early(finished: Finished) -> StartFailure {
    let reason = if finished.left_behind_count > 0 {
        how_it_ended(&finished)
    } else {
        format!("ended before it was ready ({})", finished.ending)
    };
    StartFailure::broken(reason + &quoted(&finished), Some(finished))
}

/// How an app ended by itself, in words that follow "the app".
pub fn how_it_ended(finished: &Finished) -> String {
    match finished.left_behind_count {
        0 => format!("ended ({})", finished.ending),
        count => format!(
            "put itself into the background: its process ended ({}) while {count} of its descendants ran on, \
             so that nobody could supervise it",
            finished.ending
        ),
    }
}

fn quoted(finished: &Finished) -> String {
    let lines = finished.last_lines(QUOTED_LINES);
    if lines.is_empty() {
        "; it printed nothing".to_owned()
    } else {
        format!("; the end of its log:\n{lines}")
    }
}

fn free_port() -> Result<u16, StartFailure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| StartFailure::Unavailable(format!("no free port: {error}")))
}

/// Whether somebody listens on the port.
fn is_taken(port: u16) -> bool {
    [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ]
    .into_iter()
    .any(|host| {
        TcpListener::bind(SocketAddr::new(host, port))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    })
}
