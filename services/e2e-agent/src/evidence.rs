//! What is kept of a task beside its verdict: the programs that ran, reports, the app's log. Losing evidence is
//! logged and never changes a verdict.

use std::path::PathBuf;

use agent_runtime::{process::Finished, reporter::Reporter};
use contracts::task::{Artifact, LogLevel};

use crate::app::log::AppLog;

/// Most programs that a result lists.
const MAX_RUNS: usize = 500;

/// Most artifacts of a task.
const MAX_ARTIFACTS: usize = 200;

/// What is kept.
#[derive(Default)]
pub struct Evidence {
    /// Programs that ran, in order.
    pub runs: Vec<Finished>,
    /// Artifacts, in order.
    pub artifacts: Vec<Artifact>,
}

impl Evidence {
    /// Keeps programs that ran.
    pub fn keep_runs(&mut self, runs: Vec<Finished>) {
        let room = MAX_RUNS.saturating_sub(self.runs.len());
        self.runs.extend(runs.into_iter().take(room));
    }

    /// Keeps reports, each under `folder`.
    pub async fn keep_reports(
        &mut self,
        folder: &str,
        reports: Vec<(String, &'static str, PathBuf)>,
        reporter: &Reporter,
    ) {
        for (name, media_type, path) in reports {
            let name = sound_name(&format!("{folder}/{name}"));
            self.keep_file(&name, media_type, &path, reporter).await;
        }
    }

    /// Keeps the app's log, if it said anything.
    pub async fn keep_app_log(&mut self, name: &str, log: Option<&AppLog>, reporter: &Reporter) {
        let Some(log) = log.filter(|log| !log.is_empty()) else {
            return;
        };
        let path = log.flushed().to_owned();
        self.keep_file(name, "text/plain; charset=utf-8", &path, reporter)
            .await;
    }

    async fn keep_file(
        &mut self,
        name: &str,
        media_type: &str,
        path: &std::path::Path,
        reporter: &Reporter,
    ) {
        if self.artifacts.len() >= MAX_ARTIFACTS {
            return;
        }
        match reporter.artifact_file(name, media_type, path).await {
            Ok(artifact) => self.artifacts.push(artifact),
            Err(error) => {
                reporter.log(
                    LogLevel::Warn,
                    format!("`{name}` could not be kept: {error}"),
                );
            }
        }
    }
}

/// What the contract allows in the name of an artifact.
fn sound_name(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '/' => character,
            _ => '_',
        })
        .take(256)
        .collect()
}
