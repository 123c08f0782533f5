//! Makes a checkout ready to be built, tested or started: installs what the project depends on, apart from
//! anything on the machine. Knows no verdicts: it says what went wrong, and whether that was the project's doing.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    process::{Command, Finished, OutputSink, ProcessError, path_with},
    project::{Project, Step},
};

/// Limit of a step that declares none.
pub const STEP_TIMEOUT: Duration = Duration::from_mins(5);

/// Programs that install Python packages into the environment they run in.
const PYTHON_INSTALLERS: [&str; 5] = ["pip", "pip3", "python", "python3", "uv"];

/// What steps run with.
#[derive(Clone)]
pub struct Surroundings {
    /// The checkout.
    pub checkout: PathBuf,
    /// A folder beside it for what is installed.
    pub scratch: PathBuf,
    /// Stops everything.
    pub cancel: CancellationToken,
    /// Where output goes.
    pub sink: Option<Arc<dyn OutputSink>>,
}

/// Variables that steps after the preparation need, and what was run.
#[derive(Debug, Clone, Default)]
pub struct Preparation {
    /// Variables, such as a `PATH` that finds the installed packages first.
    pub environment: Vec<(String, OsString)>,
    /// Every program that was run.
    pub runs: Vec<Finished>,
}

/// Why a checkout could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PreparationError {
    /// A program could not be run at all.
    #[error("cannot run `{command}`")]
    NotRun {
        /// The command.
        command: String,
        /// Why.
        source: ProcessError,
    },
    /// A step ended badly.
    #[error("`{command}` failed ({}): {}", .finished.ending, .finished.last_lines(5))]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        finished: Box<Finished>,
    },
}

impl Step {
    /// The step as a command in a checkout. Steps that declare no limit get [`STEP_TIMEOUT`].
    pub fn in_checkout(&self, checkout: &Path) -> Command {
        let directory = match &self.directory {
            None => checkout.to_owned(),
            Some(folder) => checkout.join(folder.as_str()),
        };
        let command = Command::new(self.command.as_slice().iter().cloned())
            .directory(directory)
            .environments(
                self.environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), value)),
            )
            .timeout(self.timeout.unwrap_or(STEP_TIMEOUT));
        if self.network {
            command.network()
        } else {
            command
        }
    }
}

/// Installs the dependencies of `project`. Nothing is done where it has none.
pub async fn install_dependencies(
    project: &Project,
    around: &Surroundings,
) -> Result<Preparation, PreparationError> {
    let mut preparation = Preparation::default();
    let installs_python = |step: &Step| {
        let program = &step.command.as_slice()[0];
        PYTHON_INSTALLERS.contains(&program.as_str())
    };
    if project.dependencies.iter().any(installs_python) {
        // Never into the machine's own Python.
        let folder = around.scratch.join("python");
        let make = Command::new(["python3", "-m", "venv", "--system-site-packages"])
            .argument(&folder)
            .timeout(STEP_TIMEOUT);
        run(make, &mut preparation, around).await?;
        preparation.environment = vec![
            ("PATH".to_owned(), path_with(&folder.join("bin"))),
            ("VIRTUAL_ENV".to_owned(), folder.into_os_string()),
        ];
    }
    for step in &project.dependencies {
        let command = step
            .in_checkout(&around.checkout)
            .environments(preparation.environment.clone());
        run(command, &mut preparation, around).await?;
    }
    Ok(preparation)
}

async fn run(
    command: Command,
    preparation: &mut Preparation,
    around: &Surroundings,
) -> Result<(), PreparationError> {
    let text = command.argv_text().join(" ");
    let mut command = command.cancel(around.cancel.clone());
    if let Some(sink) = &around.sink {
        command = command.sink(Arc::clone(sink));
    }
    let finished = command
        .run()
        .await
        .map_err(|source| PreparationError::NotRun {
            command: text.clone(),
            source,
        })?;
    preparation.runs.push(finished.clone());
    if finished.is_success() {
        Ok(())
    } else {
        Err(PreparationError::Failed {
            command: text,
            finished: Box::new(finished),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::{Folder, Project};

    fn around(folder: &Path) -> Surroundings {
        let (checkout, scratch) = (folder.join("checkout"), folder.join("scratch"));
        fs::create_dir_all(&scratch).unwrap();
        Surroundings {
            checkout,
            scratch,
            cancel: CancellationToken::new(),
            sink: None,
        }
    }

    fn project(folder: &Path, yaml: &str) -> Project {
        fs::create_dir_all(folder.join("checkout/.agentic")).unwrap();
        fs::write(folder.join("checkout/.agentic/project.yaml"), yaml).unwrap();
        Project::read(&Folder::open(folder.join("checkout")).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn python_packages_never_reach_the_machines_own_python() {
        let folder = tempfile::tempdir().unwrap();
        let yaml =
            "version: 1\ndependencies: {command: [python3, -c, 'import sys; print(sys.prefix)']}\n";
        let project = project(folder.path(), yaml);
        let preparation = install_dependencies(&project, &around(folder.path()))
            .await
            .unwrap();
        let prefix = preparation.runs.last().unwrap().stdout.text();
        let expected = folder.path().join("scratch/python");
        assert_eq!(Path::new(prefix.trim()), expected.canonicalize().unwrap());
        assert_eq!(preparation.environment[0].0, "PATH");
    }

    #[tokio::test]
    async fn a_failed_step_says_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let yaml =
            "version: 1\ndependencies: {command: [sh, -c, 'echo no such package; exit 3']}\n";
        let project = project(folder.path(), yaml);
        let error = install_dependencies(&project, &around(folder.path()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("exit code 3"), "{error}");
        assert!(error.to_string().contains("no such package"), "{error}");
    }

    #[tokio::test]
    async fn nothing_is_run_for_a_project_without_dependencies() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), "version: 1\n");
        let preparation = install_dependencies(&project, &around(folder.path()))
            .await
            .unwrap();
        assert!(preparation.runs.is_empty() && preparation.environment.is_empty());
    }
}
