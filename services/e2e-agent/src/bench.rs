//! One commit made ready and running: its checkout, its dependencies, its app. Opened for the change, and once
//! more for the base when that can tell something. Whatever happens, nothing of it is left.

use std::{ffi::OsString, fs, path::PathBuf, sync::Arc};

use agent_runtime::{
    preparation::{PreparationError, Surroundings, install_dependencies},
    process::{Finished, OutputSink},
    project::{CheckKind, Project, StartBy},
    repository::{Checkout, CheckoutSettings, CommitId, Repository},
};
use service_runtime::redaction::Secrets;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Attendance, Launch, StartFailure, log::AppLog},
    plan::StartPlan,
    suites::Place,
};

/// Programs that compile what they start.
const COMPILING_STARTERS: [&str; 3] = ["cargo", "go", "make"];

/// What every bench of a task shares.
#[derive(Clone)]
pub struct Workshop {
    /// Folder of the attempt.
    pub folder: PathBuf,
    /// Stops everything.
    pub cancel: CancellationToken,
    /// Where output goes.
    pub sink: Option<Arc<dyn OutputSink>>,
    /// Values of the app's secrets.
    pub secrets: Vec<(String, String)>,
    /// What nothing that leaves may show.
    pub hidden: Secrets,
}

/// Why there is no running app.
#[derive(Debug, thiserror::Error)]
pub enum BenchFailure {
    /// Nothing is known about the project: a tool is missing, a download failed, this machine is broken.
    #[error("{0}")]
    NotProven(String),
    /// The project is broken before anything is started.
    #[error("{0}")]
    Broken(String),
    /// The app was started and is broken.
    #[error("the app {reason}")]
    App {
        /// What was seen.
        reason: String,
        /// How its process ended, if it did.
        finished: Option<Box<Finished>>,
    },
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// One commit, running.
pub struct Bench {
    app: App,
    place: Place,
    log: Arc<AppLog>,
    label: &'static str,
    round: usize,
    // Gone when the bench is.
    _checkout: Option<Checkout>,
}

/// What was left to say when a bench could not be opened, or was closed.
pub struct Remains {
    /// Programs that ran while it was made ready.
    pub runs: Vec<Finished>,
    /// The app's log; none: it never started.
    pub log: Option<Arc<AppLog>>,
}

impl Bench {
    /// Checks out, installs, builds where the app does not build itself, starts, and waits until it is ready.
    /// `label` names the folder: `head` or `base`.
    pub async fn open(
        workshop: &Workshop,
        commit: Option<(&Repository, &Project, CommitId)>,
        start: &StartPlan,
        label: &'static str,
    ) -> (Result<Self, BenchFailure>, Remains) {
        let mut remains = Remains {
            runs: Vec::new(),
            log: None,
        };
        let opened = Self::open_noting(workshop, commit, start, label, &mut remains).await;
        (opened, remains)
    }

    async fn open_noting(
        workshop: &Workshop,
        commit: Option<(&Repository, &Project, CommitId)>,
        start: &StartPlan,
        label: &'static str,
        remains: &mut Remains,
    ) -> Result<Self, BenchFailure> {
        let scratch = workshop.folder.join(label);
        fs::create_dir_all(&scratch)
            .map_err(|error| BenchFailure::NotProven(format!("no folder for the work: {error}")))?;
        let checkout = match commit {
            None => None,
            Some((repository, _, id)) => {
                let into = workshop.folder.join("checkouts");
                let checkout = repository
                    .checkout(id, &into, CheckoutSettings::default())
                    .await;
                Some(checkout.map_err(|error| BenchFailure::NotProven(error.to_string()))?)
            }
        };
        let root = checkout
            .as_ref()
            .map_or_else(|| scratch.clone(), |checkout| checkout.path().to_owned());
        let surroundings = match commit {
            Some((_, project, _)) if !matches!(start.start.by, StartBy::Url(_)) => {
                make_ready(workshop, project, start, &root, &scratch, remains).await?
            }
            Some(_) | None => Vec::new(),
        };
        let log = AppLog::create(
            &scratch.join("app.log"),
            workshop.sink.clone(),
            workshop.hidden.clone(),
        )
        .map_err(|error| BenchFailure::NotProven(format!("no file for the app's log: {error}")))?;
        let log = Arc::new(log);
        remains.log = Some(Arc::clone(&log));
        let environment = start.start.environment.iter();
        let launch = Launch {
            by: start.start.by.clone(),
            port_variable: start.start.port_variable.to_string(),
            environment: environment
                .map(|(name, value)| (name.to_string(), value.clone()))
                .chain(workshop.secrets.iter().cloned())
                .collect(),
            surroundings: surroundings.clone(),
            checkout: root.clone(),
            ready: start.ready.clone(),
            stop_within: start.stop_within,
        };
        let attendance = Attendance {
            log: Arc::clone(&log),
            cancel: workshop.cancel.clone(),
        };
        let app = App::start(&launch, &attendance)
            .await
            .map_err(|failure| match failure {
                StartFailure::Unavailable(reason) => BenchFailure::NotProven(reason),
                StartFailure::Broken { reason, finished } => BenchFailure::App { reason, finished },
                StartFailure::Cancelled => BenchFailure::Cancelled,
            })?;
        let place = Place {
            checkout: root,
            scratch,
            surroundings,
            base_url: app.base_url().to_owned(),
            cancel: workshop.cancel.clone(),
            sink: workshop.sink.clone(),
        };
        Ok(Self {
            app,
            place,
            log,
            label,
            round: 0,
            _checkout: checkout,
        })
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The app's log.
    pub fn log(&self) -> &Arc<AppLog> {
        &self.log
    }

    /// Which bench this is: `head` or `base`.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// A place for one run of a suite, with a folder that nothing else uses, and the number of the run.
    pub fn place(&mut self) -> std::io::Result<(Place, usize)> {
        self.round += 1;
        let mut place = self.place.clone();
        place.scratch = place.scratch.join(format!("run-{}", self.round));
        fs::create_dir_all(&place.scratch)?;
        Ok((place, self.round))
    }

    /// Stops the app and everything it started.
    pub async fn close(self) -> Option<Finished> {
        self.app.stop().await
    }
}

async fn make_ready(
    workshop: &Workshop,
    project: &Project,
    start: &StartPlan,
    root: &std::path::Path,
    scratch: &std::path::Path,
    remains: &mut Remains,
) -> Result<Vec<(String, OsString)>, BenchFailure> {
    let around = Surroundings {
        checkout: root.to_owned(),
        scratch: scratch.to_owned(),
        cancel: workshop.cancel.clone(),
        sink: workshop.sink.clone(),
    };
    let cancelled = |failure: BenchFailure| {
        if workshop.cancel.is_cancelled() {
            BenchFailure::Cancelled
        } else {
            failure
        }
    };
    let prepared = install_dependencies(project, &around)
        .await
        .map_err(|error| {
            // A download that failed and a package that does not exist look alike.
            let text = match &error {
                PreparationError::NotRun { source, .. } => format!("{error}: {source}"),
                PreparationError::Failed { .. } => error.to_string(),
            };
            cancelled(BenchFailure::NotProven(format!(
                "the dependencies cannot be installed: {text}"
            )))
        })?;
    remains.runs.extend(prepared.runs);

    let compiles_itself = match &start.start.by {
        StartBy::Command(argv) => COMPILING_STARTERS.contains(&argv.as_slice()[0].as_str()),
        StartBy::Image(_) | StartBy::Compose(_) | StartBy::Url(_) => true,
    };
    let builds = project
        .checks
        .iter()
        .filter(|check| check.kind == CheckKind::Build);
    for check in builds.filter(|_| !compiles_itself) {
        let mut command = check
            .step
            .in_checkout(root)
            .environments(prepared.environment.clone())
            .cancel(workshop.cancel.clone());
        if let Some(sink) = &workshop.sink {
            command = command.sink(Arc::clone(sink));
        }
        let name = &check.name;
        let finished = command.run().await.map_err(|error| {
            BenchFailure::NotProven(format!("`{name}` cannot be run before the start: {error}"))
        })?;
        let success = finished.is_success();
        let (ending, last) = (finished.ending, finished.last_lines(10));
        remains.runs.push(finished);
        if !success {
            let reason = format!("the project does not build: `{name}` failed ({ending}): {last}");
            return Err(cancelled(BenchFailure::Broken(reason)));
        }
    }
    Ok(prepared.environment)
}
