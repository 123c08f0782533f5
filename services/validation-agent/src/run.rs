//! Runs one command of the project in a checkout and collects what it said: output, tests, coverage. Judges
//! nothing.

mod recorder;
mod report_file;
mod unable;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent_runtime::{
    Reporter,
    process::{self, Command, ProcessError},
    project::{ConfinedPath, Language, PlannedCheck, Step},
    test_report::{ReportError, TestReport, junit},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    assessment::ToolRecord,
    coverage::Coverage,
    instrument::{Abilities, CoverageSource, OutputForm, TestSource, instrument},
    reports::{Ending, cobertura, go_cover, go_json, lcov, node_text, python_text, rust_text},
    toolchain::{Tool, Toolchain},
};

use self::{
    recorder::Recorder,
    report_file::ReportPath,
    unable::{missing_tool, not_run},
};

/// Limit of a step that installs dependencies and names none. An installer whose registry does not answer waits
/// far longer than anybody who looks at it.
const INSTALL_LIMIT: Duration = Duration::from_mins(5);

/// How often a command that says nothing is told to be at work: its own limit ends it, not the limit of agents
/// that do nothing.
const SILENT_WORK: Duration = Duration::from_secs(30);

/// Why a run says nothing about the change.
#[derive(Debug, Error)]
pub enum RunError {
    /// Somebody does not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// This machine.
    #[error("running a check")]
    Process(#[from] ProcessError),
    /// A folder of ours.
    #[error("making {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// What it printed, both streams in the order they came.
    pub output: String,
    /// How it ran, for the record.
    pub record: ToolRecord,
    /// Its tests, if it is about tests.
    pub tests: Option<Result<TestReport, ReportError>>,
    /// Its coverage, if it measures any.
    pub coverage: Option<Result<Coverage, ReportError>>,
}

/// A checkout with what tools find beside it: a home, a place for reports, packages installed for it.
pub struct Workshop<'a> {
    checkout: &'a Path,
    home: PathBuf,
    reports: PathBuf,
    python: Option<PathBuf>,
    environment: PathBuf,
    toolchain: &'a Toolchain,
    reporter: &'a Reporter,
    cancel: &'a CancellationToken,
}

impl<'a> Workshop<'a> {
    /// Everything beside the checkout goes into `folder`.
    pub fn new(
        checkout: &'a Path,
        folder: &Path,
        toolchain: &'a Toolchain,
        reporter: &'a Reporter,
        cancel: &'a CancellationToken,
    ) -> Result<Self, RunError> {
        let make = |name: &str| {
            let path = folder.join(name);
            match std::fs::create_dir_all(&path) {
                Ok(()) => Ok(path),
                Err(source) => Err(RunError::Folder { path, source }),
            }
        };
        Ok(Self {
            checkout,
            home: make("home")?,
            reports: make("reports")?,
            python: None,
            environment: folder.join("python"),
            toolchain,
            reporter,
            cancel,
        })
    }

    /// The tool that a command would run here.
    pub async fn tool(&self, argv: &[String]) -> Option<Tool> {
        self.toolchain.tool(argv, &self.home).await
    }

    /// Installs what the project depends on. `Err` in the answer: why it is not there.
    pub async fn install(
        &mut self,
        steps: &[Step],
        remaining: Duration,
    ) -> Result<Vec<(ToolRecord, Result<(), String>)>, RunError> {
        let mut installed = Vec::new();
        for step in steps {
            if step.language == Some(Language::Python) && self.python.is_none() {
                // Packages of a project never go into the machine's own Python.
                let argv = ["python3", "-m", "venv", "--system-site-packages"]
                    .map(ToOwned::to_owned)
                    .to_vec();
                let argv: Vec<String> = argv
                    .into_iter()
                    .chain([self.environment.display().to_string()])
                    .collect();
                let run = self
                    .execute(argv, None, &[], INSTALL_LIMIT.min(remaining), false)
                    .await?;
                if run.ending == Ending::Exited(0) {
                    self.python = Some(self.environment.join("bin/python3"));
                }
            }
            let environment = variables(step);
            let limit = step.timeout.unwrap_or(INSTALL_LIMIT).min(remaining);
            let argv = step.command.as_slice().to_vec();
            let directory = step.directory.as_ref().map(ConfinedPath::as_str);
            let run = self
                .execute(argv, directory, &environment, limit, step.network)
                .await?;
            let outcome = if run.ending == Ending::Exited(0) {
                Ok(())
            } else {
                Err(format!("`{}`: {}", step.command, run.ending.describe()))
            };
            installed.push((run.record, outcome));
        }
        Ok(installed)
    }

    /// Runs a check.
    pub async fn check(&self, check: &PlannedCheck, limit: Duration) -> Result<Run, RunError> {
        let abilities = self.abilities(check).await;
        let instrumented = instrument(check, self.checkout, &self.reports, abilities);
        let report_path = match &instrumented.tests {
            Some(TestSource::Junit(path)) => {
                Some(ReportPath::clear(path, self.checkout, &self.reports))
            }
            Some(TestSource::Output(_)) | None => None,
        };
        let coverage_path = instrumented
            .coverage
            .as_ref()
            .map(|source| ReportPath::clear(source.path(), self.checkout, &self.reports));
        let started = SystemTime::now();
        let step = &check.step;
        let directory = step.directory.as_ref().map(ConfinedPath::as_str);
        let mut run = self
            .execute(
                instrumented.argv,
                directory,
                &variables(step),
                limit,
                step.network,
            )
            .await?;
        run.tests = match (&instrumented.tests, report_path) {
            (Some(TestSource::Junit(_)), Some(path)) => {
                Some(path.read(started).and_then(|bytes| junit::parse(&bytes)))
            }
            (Some(TestSource::Output(form)), _) => Some(read_output(*form, &run)),
            (Some(TestSource::Junit(_)) | None, _) => None,
        };
        if let Some(convert) = instrumented.convert {
            // What it says is in the log; without its file there is no coverage.
            let converted = self
                .execute(convert, directory, &variables(step), limit, false)
                .await?;
            run.output.push_str(&converted.output);
        }
        run.coverage = match (&instrumented.coverage, coverage_path) {
            (Some(source), Some(path)) => Some(
                path.read(started)
                    .and_then(|bytes| self.read_coverage(source, &bytes))
                    .map(|coverage| coverage.relative_to(&self.checkout.display().to_string())),
            ),
            (Some(_) | None, _) => None,
        };
        Ok(run)
    }

    async fn abilities(&self, check: &PlannedCheck) -> Abilities {
        let program = check
            .step
            .command
            .as_slice()
            .first()
            .map_or("", String::as_str);
        let python = match &self.python {
            Some(python) => python.display().to_string(),
            None => program.to_owned(),
        };
        let is_python = matches!(program, "python3" | "python");
        Abilities {
            node: if program == "node" {
                self.toolchain.node(&self.home).await
            } else {
                None
            },
            python_coverage: is_python
                && is_set_up_for_coverage(self.checkout)
                && self
                    .toolchain
                    .has_python_module(&python, "coverage", &self.home)
                    .await,
        }
    }

    fn read_coverage(
        &self,
        source: &CoverageSource,
        bytes: &[u8],
    ) -> Result<Coverage, ReportError> {
        match source {
            CoverageSource::Lcov(_) => lcov::parse(bytes),
            CoverageSource::Cobertura(_) => cobertura::parse(bytes),
            CoverageSource::GoProfile(_) => {
                let manifest =
                    std::fs::read_to_string(self.checkout.join("go.mod")).unwrap_or_default();
                let module = manifest
                    .lines()
                    .find_map(|line| line.strip_prefix("module "));
                go_cover::parse(bytes, module.unwrap_or_default().trim())
            }
        }
    }

    /// Waits for a command, and says that it goes on.
    async fn watched<T>(&self, command: impl Future<Output = T>) -> T {
        let mut command = std::pin::pin!(command);
        loop {
            match tokio::time::timeout(SILENT_WORK, &mut command).await {
                Ok(outcome) => return outcome,
                Err(_still_running) => self.reporter.active(),
            }
        }
    }

    async fn execute(
        &self,
        mut argv: Vec<String>,
        directory: Option<&str>,
        environment: &[(String, String)],
        limit: Duration,
        network: bool,
    ) -> Result<Run, RunError> {
        // `python3`, `pytest`, `ruff` and their like, as the project's dependencies installed them.
        if let (Some(bin), Some(program)) = (
            self.python.as_ref().and_then(|python| python.parent()),
            argv.first_mut(),
        ) && !program.contains('/')
            && bin.join(&*program).exists()
        {
            *program = bin.join(&*program).display().to_string();
        }
        let tool = self.tool(&argv).await;
        let recorder = Arc::new(Recorder::new(self.reporter.clone()));
        let mut command = Command::new(argv.clone())
            .directory(directory.map_or_else(
                || self.checkout.to_owned(),
                |directory| self.checkout.join(directory),
            ))
            .home(&self.home)
            .environments(environment.iter().map(|(name, value)| (name, value)))
            .timeout(limit)
            .cancel(self.cancel.clone())
            .capture_bytes(1)
            .sink(recorder.clone());
        if self.python.is_some() {
            command = command.environment("VIRTUAL_ENV", &self.environment);
        }
        if network {
            command = command.network();
        }
        let outcome = self.watched(command.run()).await;
        let (ending, duration) = match outcome {
            Ok(finished) => {
                let ending = match finished.ending {
                    process::Ending::Exited(code) => Ending::Exited(code),
                    process::Ending::Signalled(signal) => Ending::Signalled(signal),
                    process::Ending::TimedOut => Ending::TimedOut(limit),
                    process::Ending::Cancelled => return Err(RunError::Cancelled),
                };
                (ending, finished.duration)
            }
            Err(error) => (not_run(error)?, Duration::ZERO),
        };
        let output = recorder.take();
        let ending = match (missing_tool(&argv, &ending, &output), ending) {
            (Some(tool), Ending::Exited(_)) => Ending::NotFound(tool),
            (_, ending) => ending,
        };
        let record = ToolRecord {
            tool: argv
                .first()
                .map(|program| program.rsplit('/').next().unwrap_or(program).to_owned())
                .unwrap_or_default(),
            version: tool.map(|tool| tool.version).unwrap_or_default(),
            argv,
            exit_code: match ending {
                Ending::Exited(code) => Some(code),
                Ending::Signalled(_)
                | Ending::TimedOut(_)
                | Ending::NotFound(_)
                | Ending::Absent(_) => None,
            },
            ending: if matches!(ending, Ending::Exited(_)) {
                String::new()
            } else {
                ending.describe()
            },
            duration,
        };
        Ok(Run {
            ending,
            output,
            record,
            tests: None,
            coverage: None,
        })
    }
}

fn variables(step: &Step) -> Vec<(String, String)> {
    step.environment
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
        .collect()
}

/// Whether a Python project is configured for `coverage`, and its tests do not measure by themselves already: what is
/// not made to run under it may fail there.
fn is_set_up_for_coverage(checkout: &Path) -> bool {
    let text = |name: &str| std::fs::read_to_string(checkout.join(name)).unwrap_or_default();
    let configured = checkout.join(".coveragerc").is_file()
        || text("pyproject.toml").contains("[tool.coverage.")
        || ["setup.cfg", "tox.ini"]
            .iter()
            .any(|name| text(name).contains("[coverage:"));
    let by_itself = [
        "pyproject.toml",
        "pytest.ini",
        ".pytest.ini",
        "setup.cfg",
        "tox.ini",
    ]
    .iter()
    .any(|name| {
        text(name)
            .lines()
            .any(|line| line.contains("addopts") && line.contains("--cov"))
    });
    configured && !by_itself
}

fn read_output(form: OutputForm, run: &Run) -> Result<TestReport, ReportError> {
    let output = run.output.as_str();
    match form {
        OutputForm::Cargo => rust_text::parse(output),
        OutputForm::GoJson => go_json::parse(output),
        OutputForm::Python => python_text::parse(output),
        OutputForm::Node => node_text::parse(output),
        OutputForm::Any => {
            let readers = [
                rust_text::parse,
                go_json::parse,
                node_text::parse,
                python_text::parse,
            ];
            readers
                .into_iter()
                .map(|read| read(output))
                .find(|read| read != &Err(ReportError::Missing))
                .unwrap_or(Err(ReportError::Missing))
        }
    }
}
