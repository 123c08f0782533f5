//! Runs a suite once against a running app and says what was seen, test by test. Each kind of suite has its own
//! module; counting, running again and judging are somebody else's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_runtime::{
    process::{Command, Ending, Finished, OutputSink, ProcessError},
    project::{Argv, Browser, FilePattern, Report},
};
use tokio_util::sync::CancellationToken;

use crate::{endpoints::Question, tally::Seen};

mod command;
mod hurl;
mod playwright;

/// A suite to run, on one browser where there is one.
#[derive(Debug, Clone)]
pub struct PlannedSuite {
    /// Its name.
    pub name: String,
    /// What runs it.
    pub kind: SuiteKind,
    /// Limit of one run.
    pub timeout: Duration,
    /// Whether it may use the network.
    pub network: bool,
}

/// What runs a suite.
#[derive(Debug, Clone)]
pub enum SuiteKind {
    /// We ourselves.
    Endpoints(Vec<Question>),
    /// The Hurl program.
    Hurl(Vec<FilePattern>),
    /// The project's own Playwright tests.
    Playwright {
        /// Where they are.
        folder: String,
        /// On which browser they run.
        browser: Browser,
    },
    /// A program of the project's own.
    Command {
        /// Program and arguments.
        argv: Argv,
        /// Where it leaves its report.
        report: Option<Report>,
    },
}

impl PlannedSuite {
    /// The browser, as results show it; empty: none.
    pub fn browser(&self) -> String {
        match &self.kind {
            SuiteKind::Playwright { browser, .. } => browser.to_string(),
            SuiteKind::Endpoints(_) | SuiteKind::Hurl(_) | SuiteKind::Command { .. } => {
                String::new()
            }
        }
    }
}

/// Where a suite runs.
#[derive(Clone)]
pub struct Place {
    /// The checkout.
    pub checkout: PathBuf,
    /// A folder of the run's own, for reports.
    pub scratch: PathBuf,
    /// Variables of the preparation.
    pub surroundings: Vec<(String, std::ffi::OsString)>,
    /// Where the app answers.
    pub base_url: String,
    /// Stops everything.
    pub cancel: CancellationToken,
    /// Where output goes.
    pub sink: Option<Arc<dyn OutputSink>>,
}

/// Why what a run showed cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The tool is not on this machine.
    #[error("{0}")]
    ToolMissing(String),
    /// It did not end.
    #[error("did not end within {}s", .0.as_secs())]
    Hung(Duration),
    /// Report and exit code, or parts of the report, say different things.
    #[error("{0}")]
    Contradiction(String),
    /// It could not be run.
    #[error("{0}")]
    NotRun(String),
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What one run showed.
#[derive(Debug, Default)]
pub struct Run {
    /// Test by test.
    pub seen: Vec<(String, Seen)>,
    /// Why that cannot be believed.
    pub doubt: Option<Doubt>,
    /// Programs that ran.
    pub runs: Vec<Finished>,
    /// Reports worth keeping: name, media type, file.
    pub reports: Vec<(String, &'static str, PathBuf)>,
}

impl Run {
    fn doubtful(doubt: Doubt) -> Self {
        Self {
            doubt: Some(doubt),
            ..Self::default()
        }
    }
}

/// Runs the suite once; `only` names the tests that matter, where a suite can be run in parts.
pub async fn run(suite: &PlannedSuite, place: &Place, only: Option<&[String]>) -> Run {
    match &suite.kind {
        SuiteKind::Endpoints(questions) => endpoints(questions, place, only).await,
        SuiteKind::Hurl(patterns) => hurl::run(patterns, suite, place, only).await,
        SuiteKind::Playwright { folder, browser } => {
            playwright::run(folder, *browser, suite, place).await
        }
        SuiteKind::Command { argv, report } => {
            command::run(argv, report.as_ref(), suite, place).await
        }
    }
}

async fn endpoints(questions: &[Question], place: &Place, only: Option<&[String]>) -> Run {
    let mut run = Run::default();
    for question in questions {
        let name = question.name();
        if only.is_some_and(|only| !only.contains(&name)) {
            continue;
        }
        let seen = tokio::select! {
            biased;
            () = place.cancel.cancelled() => {
                run.doubt = Some(Doubt::Cancelled);
                return run;
            }
            seen = question.ask(&place.base_url) => seen,
        };
        run.seen.push((name, seen));
    }
    run
}

/// A program of a suite, as it is run in the checkout.
fn prepared(command: Command, suite: &PlannedSuite, place: &Place) -> Command {
    let command = command
        .directory(&place.checkout)
        .environments(place.surroundings.iter().map(|(name, value)| (name, value)))
        .environment("BASE_URL", &place.base_url)
        .environment("CI", "true")
        .timeout(suite.timeout)
        .cancel(place.cancel.clone());
    let command = match &place.sink {
        Some(sink) => command.sink(Arc::clone(sink)),
        None => command,
    };
    if suite.network {
        command.network()
    } else {
        command
    }
}

/// What an ending alone says about a run: nothing when the program ended by itself.
fn doubt_of(ending: Ending, suite: &PlannedSuite) -> Option<Doubt> {
    match ending {
        Ending::TimedOut => Some(Doubt::Hung(suite.timeout)),
        Ending::Cancelled => Some(Doubt::Cancelled),
        Ending::Exited(_) | Ending::Signalled(_) => None,
    }
}

fn not_run(error: &ProcessError) -> Doubt {
    if error.is_tool_missing() {
        Doubt::ToolMissing(error.to_string())
    } else {
        Doubt::NotRun(error.to_string())
    }
}

/// A small report, read whole. None: it is not there.
fn read_report(path: &Path, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if !found.is_file() => Err(std::io::Error::other("it is not a regular file")),
        Ok(found) if found.len() > limit as u64 => Err(std::io::Error::other("it is too large")),
        Ok(_) => std::fs::read(path).map(Some),
    }
}
