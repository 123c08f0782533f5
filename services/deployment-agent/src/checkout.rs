//! Makes a release of a commit: its files, what it depends on, and what its build leaves behind.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use agent_runtime::{
    preparation::{PreparationError, Surroundings, install_dependencies},
    process::{Finished, LogStream, OutputSink},
    project::{CheckKind, Language, PlannedCheck, Project},
    repository::{CheckoutSettings, CommitId, Repository},
};
use futures::future::BoxFuture;
use service_runtime::redaction::{self, Secrets};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Journal, Note},
    site::{Bounds, CHECKOUT_FOLDER, Source},
    spec::Spec,
    strategy::{Failure, FailureKind},
};

/// A commit to make releases of.
pub struct CommitSource {
    repository: Repository,
    commit: CommitId,
    project: Arc<Project>,
    runs: Arc<Mutex<Vec<Finished>>>,
}

impl CommitSource {
    /// A commit and what its project declares.
    pub fn new(repository: Repository, commit: CommitId, project: Arc<Project>) -> Self {
        Self {
            repository,
            commit,
            project,
            runs: Arc::default(),
        }
    }

    /// Programs that were run; grows while a release is made.
    pub fn runs(&self) -> Arc<Mutex<Vec<Finished>>> {
        Arc::clone(&self.runs)
    }

    /// Puts the files of the commit into the release.
    pub(crate) async fn check_out(
        &self,
        folder: &Path,
        journal: &mut Journal,
    ) -> Result<String, Failure> {
        let unseen = |reason: String| Failure {
            kind: FailureKind::Inconclusive,
            reason,
        };
        let checkout = self
            .repository
            .checkout(self.commit, folder, CheckoutSettings::default())
            .await
            .map_err(|error| unseen(format!("cannot check the commit out: {error}")))?;
        for link in checkout.escaping_links() {
            journal
                .event(format!(
                    "left out a link that leads out of the checkout: {}",
                    link.display()
                ))
                .await;
        }
        for path in checkout.submodules() {
            journal
                .event(format!("left out a submodule: {}", path.display()))
                .await;
        }
        let count = checkout.file_count();
        checkout
            .keep(&folder.join(CHECKOUT_FOLDER))
            .map_err(|error| unseen(format!("cannot keep the checkout: {error}")))?;
        Ok(format!("{count} files of {}", self.commit))
    }

    async fn install(
        &self,
        folder: &Path,
        spec: &mut Spec,
        sink: Arc<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> Result<usize, Failure> {
        let checkout = folder.join(CHECKOUT_FOLDER);
        let around = Surroundings {
            checkout: checkout.clone(),
            scratch: folder.to_owned(),
            cancel: cancel.clone(),
            sink: Some(Arc::clone(&sink)),
        };
        let installed = install_dependencies(&self.project, &around).await;
        let preparation = installed.map_err(|error| self.failed(error))?;
        self.keep_runs(preparation.runs);
        for (name, value) in &preparation.environment {
            // What the project declares for its start is more particular than where packages are.
            let value = value.to_string_lossy().into_owned();
            spec.environment.entry(name.clone()).or_insert(value);
        }
        let builds = self
            .project
            .checks
            .iter()
            .filter(|check| is_needed_to_start(check));
        let mut count = 0;
        for check in builds {
            let command = check
                .step
                .in_checkout(&checkout)
                .environments(preparation.environment.clone())
                .cancel(cancel.clone())
                .sink(Arc::clone(&sink));
            let text = command.argv_text().join(" ");
            let finished = command.run().await.map_err(|source| {
                self.failed(PreparationError::NotRun {
                    command: text.clone(),
                    source,
                })
            })?;
            self.keep_runs([finished.clone()]);
            if !finished.is_success() {
                let finished = Box::new(finished);
                return Err(self.failed(PreparationError::Failed {
                    command: text,
                    finished,
                }));
            }
            count += 1;
        }
        Ok(count)
    }

    fn keep_runs(&self, runs: impl IntoIterator<Item = Finished>) {
        self.runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(runs);
    }

    /// A step that failed says something about the project; one that could not be run does not.
    fn failed(&self, error: PreparationError) -> Failure {
        match error {
            PreparationError::NotRun { source, command } => Failure {
                kind: FailureKind::Inconclusive,
                reason: format!("cannot run `{command}`: {source}"),
            },
            PreparationError::Failed { ref finished, .. } => {
                self.keep_runs([finished.as_ref().clone()]);
                Failure::sick(error.to_string())
            }
        }
    }
}

/// A declared build may make what the app starts from. Compiled languages build when they start.
fn is_needed_to_start(check: &PlannedCheck) -> bool {
    check.kind == CheckKind::Build
        && (check.declared || check.step.language == Some(Language::Node))
}

impl Source for CommitSource {
    fn prepare<'a>(
        &'a self,
        folder: &'a Path,
        spec: &'a mut Spec,
        journal: &'a mut Journal,
        bounds: &'a Bounds,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let files = self.check_out(folder, journal).await?;
            let sink: Arc<dyn OutputSink> = Arc::new(WatchedOutput(journal.watcher()));
            let cancel = bounds.cancel.child_token();
            let installing = self.install(folder, spec, sink, cancel.clone());
            let builds = tokio::select! {
                biased;
                failure = bounds.passed() => {
                    cancel.cancel();
                    return Err(failure);
                }
                builds = installing => builds,
            };
            let steps = self.project.dependencies.len() + builds?;
            Ok(match steps {
                0 => files,
                steps => format!("{files}, {steps} steps run"),
            })
        })
    }
}

/// Hands lines of programs to whoever watches the deployment.
struct WatchedOutput(Option<tokio::sync::mpsc::Sender<Note>>);

impl OutputSink for WatchedOutput {
    fn line<'a>(&'a self, stream: LogStream, text: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Some(watcher) = &self.0 {
                let is_error = stream == LogStream::Stderr;
                let note = Note::Output {
                    is_error,
                    text: text.to_owned(),
                };
                // A watcher that went away does not stop the program.
                let _ = watcher.send(note).await;
            }
        })
    }

    fn secrets(&self) -> Option<Secrets> {
        Some(redaction::process().clone())
    }
}
