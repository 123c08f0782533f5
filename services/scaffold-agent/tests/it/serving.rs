//! A scaffold agent that serves on a free port, and a caller of it.

use std::{fs, path::PathBuf};

use clap::Parser as _;
use contracts::{
    agent::{AgentMessage, execute},
    client::{self, ClientChannel},
    error::Error,
    orchestrator::{StageTask, stage_result, stage_task::Task},
    scaffold::{ScaffoldResult, ScaffoldTask},
    task::{self, TaskContext, TaskEvent, task_event},
};
use futures::StreamExt as _;
use scaffold_agent::{Config, ServeError, config::Cli};
use service_runtime::config::ConfigError;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Fixed, so that commits are the same at every run of the tests.
pub const WORKFLOW: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// A running agent; dropping it ends it.
pub struct Serving {
    channel: ClientChannel,
    data: TempDir,
    _tasks: JoinSet<Result<(), ServeError>>,
}

/// The settings of an agent in this folder.
pub fn config(data: &TempDir, more: &[&str]) -> Config {
    try_config(data, more).unwrap()
}

pub fn try_config(data: &TempDir, more: &[&str]) -> Result<Config, ConfigError> {
    let folder = data.path().to_str().unwrap();
    let mut line = vec![
        "scaffold-agent",
        "--listen",
        "127.0.0.1:0",
        "--data",
        folder,
    ];
    line.extend(more);
    let cli = Cli::try_parse_from(line).unwrap();
    Config::new(cli.agent, cli.scaffold)
}

impl Serving {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = config(&data, more);
        let (tell, bound) = oneshot::channel();
        let mut serving = JoinSet::new();
        serving.spawn(scaffold_agent::serve(
            config,
            Some(tell),
            CancellationToken::new(),
        ));
        let address = bound.await.expect("it does not serve");
        Self {
            channel: client::channel(&format!("http://{address}"), None).unwrap(),
            data,
            _tasks: serving,
        }
    }

    /// Folders of the repositories that it made.
    pub fn made(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data.path().join("repositories")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Runs a task to its end.
    pub async fn run(
        &self,
        context: TaskContext,
        task: ScaffoldTask,
    ) -> Result<ScaffoldResult, Error> {
        self.watch(context, task).await.map(|(_, result)| result)
    }

    /// Runs a task to its end, and gives its events too.
    pub async fn watch(
        &self,
        context: TaskContext,
        task: ScaffoldTask,
    ) -> Result<(Vec<TaskEvent>, ScaffoldResult), Error> {
        let task = StageTask {
            task: Some(Task::Scaffold(task)),
        };
        let read = |status: &tonic::Status| Error::from_status(status).expect("a foreign status");
        let mut messages = execute(self.channel.clone(), context, task)
            .await
            .map_err(|status| read(&status))?;
        let mut events = Vec::new();
        while let Some(message) = messages.next().await {
            match message.map_err(|status| read(&status))? {
                AgentMessage::Event(event) => events.push(event),
                AgentMessage::Result(result) => {
                    assert!(
                        messages.next().await.is_none(),
                        "the result is not the last message"
                    );
                    let Some(stage_result::Result::Scaffold(result)) = result.result else {
                        panic!("a result of another agent")
                    };
                    return Ok((events, result));
                }
            }
        }
        panic!("no result")
    }
}

/// Phases and percentages that were reported.
pub fn progress(events: &[TaskEvent]) -> Vec<(f64, String)> {
    events
        .iter()
        .filter_map(|event| match &event.payload {
            Some(task_event::Payload::Progress(progress)) => {
                Some((progress.percent, progress.phase.clone()))
            }
            _ => None,
        })
        .collect()
}

/// The context of a task of the workflow.
pub fn context(task_id: &str, url: &str) -> TaskContext {
    TaskContext {
        workflow_id: WORKFLOW.to_owned(),
        workflow_name: "Shop".to_owned(),
        task_id: task_id.to_owned(),
        attempt: 1,
        repository: Some(task::Repository {
            url: url.to_owned(),
            ..task::Repository::default()
        }),
        ..TaskContext::default()
    }
}
