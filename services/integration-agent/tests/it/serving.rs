//! An integration agent that serves on a free port, and a caller of it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use agent_runtime::{repository::CommitId, serve::AgentError};
use clap::Parser as _;
use contracts::{
    agent::{AgentMessage, Cancellation, cancel, execute},
    client::{self, ClientChannel},
    error::Error,
    integration::{
        IntegrationResult, IntegrationTask, Merge, MergeReport, integration_task::Action,
    },
    orchestrator::{StageTask, stage_result, stage_task::Task},
    task::{Repository, TaskContext, TaskEvent, Verdict},
};
use futures::StreamExt as _;
use integration_agent::{Config, config::Cli};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::world::{World, commit_all, git};

/// Fixed, so that commits are the same at every run of the tests.
pub const TASK: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// A running agent; dropping it ends it.
pub struct Serving {
    pub channel: ClientChannel,
    _data: TempDir,
    _tasks: JoinSet<Result<(), AgentError>>,
}

impl Serving {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let line = [
            "integration-agent",
            "--listen",
            "127.0.0.1:0",
            "--data",
            folder,
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        let config = Config::new(cli.agent, cli.integration).unwrap();
        let (tell, bound) = oneshot::channel();
        let mut serving = JoinSet::new();
        let stop = CancellationToken::new();
        serving.spawn(integration_agent::serve(config, Some(tell), stop));
        let address = bound.await.expect("it does not serve");
        Self {
            channel: client::channel(&format!("http://{address}"), None).unwrap(),
            _data: data,
            _tasks: serving,
        }
    }

    /// Runs a task to its end.
    pub async fn run(
        &self,
        context: TaskContext,
        action: Action,
    ) -> Result<IntegrationResult, Error> {
        self.watch(context, action, |_| {}).await
    }

    /// Runs a task to its end, and shows its events as they come.
    pub async fn watch(
        &self,
        context: TaskContext,
        action: Action,
        mut seen: impl FnMut(&TaskEvent),
    ) -> Result<IntegrationResult, Error> {
        let task = StageTask {
            task: Some(Task::Integration(IntegrationTask {
                action: Some(action),
            })),
        };
        let read = |status: &tonic::Status| {
            Error::from_status(status).unwrap_or_else(|| panic!("a foreign status: {status:?}"))
        };
        let mut messages = execute(self.channel.clone(), context, task)
            .await
            .map_err(|status| read(&status))?;
        while let Some(message) = messages.next().await {
            match message.map_err(|status| read(&status))? {
                AgentMessage::Event(event) => seen(&event),
                AgentMessage::Result(result) => {
                    let Some(stage_result::Result::Integration(result)) = result.result else {
                        panic!("a result of another agent")
                    };
                    return Ok(result);
                }
            }
        }
        panic!("no result")
    }

    /// Merges, and expects a result.
    pub async fn merge(&self, context: TaskContext, merge: Merge) -> IntegrationResult {
        self.run(context, Action::Merge(merge)).await.unwrap()
    }

    pub async fn cancel(&self, task_id: &str) -> bool {
        let cancellation = Cancellation {
            task_id: task_id.to_owned(),
            lease_epoch: 0,
            grace: std::time::Duration::from_secs(10),
        };
        let agent_type = contracts::task::AgentType::Integration;
        cancel(self.channel.clone(), agent_type, cancellation)
            .await
            .unwrap()
    }
}

/// What a workflow would say about a change on `topic` for `main`.
pub fn context(repository: &Path) -> TaskContext {
    TaskContext {
        task_id: TASK.to_owned(),
        workflow_id: "0190163d-8694-739b-aea5-966c26f8ad90".to_owned(),
        workflow_name: "Add a basket".to_owned(),
        repository: Some(Repository {
            url: repository.to_str().unwrap().to_owned(),
            branch: "topic".to_owned(),
            target_branch: "main".to_owned(),
            ..Repository::default()
        }),
        ..TaskContext::default()
    }
}

pub fn verdict(result: &IntegrationResult) -> Verdict {
    result.outcome.as_ref().unwrap().verdict()
}

pub fn summary(result: &IntegrationResult) -> &str {
    &result.outcome.as_ref().unwrap().summary
}

pub fn report(result: &IntegrationResult) -> &MergeReport {
    result.merge.as_ref().unwrap()
}

/// Verdict of one rung.
pub fn rung(result: &IntegrationResult, name: &str) -> Verdict {
    let rungs = &report(result).rungs;
    let rung = rungs.iter().find(|rung| rung.name == name);
    rung.unwrap_or_else(|| panic!("no rung {name}: {rungs:?}"))
        .verdict()
}

/// A project whose tests are a script, and which has `main` with a commit on it.
pub struct Project {
    pub path: std::path::PathBuf,
}

impl Project {
    /// `check` is the test script; it passes when `values` has no line `broken`.
    pub fn new(world: &World) -> Self {
        let path = world.repository("shop");
        let project = Self { path };
        project.write(
            ".agentic/project.yaml",
            "version: 1\nchecks:\n  tests: {command: [./check]}\n",
        );
        project.write_check("grep -q broken values && { echo '1 failed in 0.1s'; exit 1; }\n");
        project.write("values", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
        project.commit("Begin");
        project
    }

    /// A test script that does this, and then says that one test passed.
    pub fn write_check(&self, script: &str) {
        self.write(
            "check",
            &format!("#!/bin/sh\n{script}echo '1 passed in 0.1s'\n"),
        );
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path.join("check"), mode).unwrap();
    }

    pub fn write(&self, path: &str, content: &str) {
        let place = self.path.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }

    pub fn commit(&self, message: &str) -> CommitId {
        commit_all(&self.path, message)
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    /// Two branches from here: `main` does this, `topic` does that. Leaves no branch checked out.
    pub fn part(&self, main: impl FnOnce(&Self), topic: impl FnOnce(&Self)) {
        self.git(&["checkout", "-q", "-b", "topic"]);
        topic(self);
        self.commit("Change on topic");
        self.git(&["checkout", "-q", "main"]);
        main(self);
        self.commit("Change on main");
        self.git(&["checkout", "-q", "--detach"]);
    }

    /// Two branches whose changes go together.
    pub fn part_cleanly(&self) {
        self.part(
            |here| here.write("values", "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\n"),
            |here| here.write("values", "one\ntwo\nthree\nfour\nfive\nsix\nSEVEN\n"),
        );
    }

    pub fn tip(&self) -> String {
        self.git(&["rev-parse", "main"])
    }

    pub fn on_main(&self, path: &str) -> String {
        self.git(&["show", &format!("main:{path}")])
    }
}
