//! A validation agent that serves on a free port, and a caller of it.

use clap::Parser as _;
use contracts::{
    agent::{AgentMessage, execute},
    client::{self, ClientChannel},
    error::Error,
    orchestrator::{StageTask, stage_result, stage_task::Task},
    task::{Outcome, Repository, TaskContext, TaskEvent, Verdict},
    validation::{CheckResult, GateResult, ValidationResult, ValidationTask},
};
use futures::StreamExt as _;
use tempfile::TempDir;
use testkit::repository::{Commit, Repository as Fixture};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use validation_agent::{Config, ServeError, config::Cli};

/// A running agent; dropping it ends it.
pub struct Serving {
    pub channel: ClientChannel,
    _data: TempDir,
    _tasks: JoinSet<Result<(), ServeError>>,
}

impl Serving {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let line = [
            "validation-agent",
            "--listen",
            "127.0.0.1:0",
            "--data",
            folder,
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        let config = Config::new(cli.agent, cli.validation).unwrap();
        let (tell, bound) = oneshot::channel();
        let mut serving = JoinSet::new();
        serving.spawn(validation_agent::serve(
            config,
            Some(tell),
            CancellationToken::new(),
        ));
        let address = bound.await.expect("it does not serve");
        let channel = client::channel(&format!("http://{address}"), None).unwrap();
        Self {
            channel,
            _data: data,
            _tasks: serving,
        }
    }

    /// Validates a commit against another.
    pub async fn validate(&self, fixture: &Fixture, base: Option<&str>, head: &str) -> Seen {
        self.validate_as(fixture, base, head, ValidationTask::default())
            .await
    }

    pub async fn validate_as(
        &self,
        fixture: &Fixture,
        base: Option<&str>,
        head: &str,
        task: ValidationTask,
    ) -> Seen {
        let (events, result) = self.run(context(fixture, base, head), task).await.unwrap();
        Seen { events, result }
    }

    /// Runs a task to its end.
    pub async fn run(
        &self,
        context: TaskContext,
        task: ValidationTask,
    ) -> Result<(Vec<TaskEvent>, ValidationResult), Error> {
        let task = StageTask {
            task: Some(Task::Validation(task)),
        };
        let read = |status: &tonic::Status| {
            Error::from_status(status).unwrap_or_else(|| panic!("a foreign status: {status:?}"))
        };
        let mut messages = execute(self.channel.clone(), context, task)
            .await
            .map_err(|status| read(&status))?;
        let mut events = Vec::new();
        while let Some(message) = messages.next().await {
            match message.map_err(|status| read(&status))? {
                AgentMessage::Event(event) => events.push(event),
                AgentMessage::Result(result) => {
                    let Some(stage_result::Result::Validation(result)) = result.result else {
                        panic!("a result of another agent")
                    };
                    return Ok((events, result));
                }
            }
        }
        panic!("no result")
    }
}

pub fn context(fixture: &Fixture, base: Option<&str>, head: &str) -> TaskContext {
    TaskContext {
        repository: Some(Repository {
            url: fixture.url(),
            base_commit: base.unwrap_or_default().to_owned(),
            head_commit: head.to_owned(),
            ..Repository::default()
        }),
        ..TaskContext::default()
    }
}

/// What came of a validation.
pub struct Seen {
    pub events: Vec<TaskEvent>,
    pub result: ValidationResult,
}

impl Seen {
    pub fn outcome(&self) -> &Outcome {
        self.result.outcome.as_ref().unwrap()
    }

    pub fn verdict(&self) -> Verdict {
        self.outcome().verdict()
    }

    pub fn summary(&self) -> &str {
        &self.outcome().summary
    }

    pub fn check(&self, name: &str) -> &CheckResult {
        let found = self.result.checks.iter().find(|check| check.name == name);
        found.unwrap_or_else(|| panic!("no check `{name}` in {:#?}", self.result.checks))
    }

    pub fn gate(&self, metric: &str) -> &GateResult {
        let found = self.result.gates.iter().find(|gate| gate.metric == metric);
        found.unwrap_or_else(|| panic!("no gate `{metric}` in {:#?}", self.result.gates))
    }

    pub fn metric(&self, name: &str) -> Option<f64> {
        self.result
            .metrics
            .iter()
            .find(|metric| metric.name == name)
            .map(|metric| metric.value)
    }

    /// Fails with everything that was said unless the verdict is this one.
    #[track_caller]
    pub fn expect(&self, verdict: Verdict) -> &Self {
        assert_eq!(
            self.verdict(),
            verdict,
            "{}\n{:#?}",
            self.summary(),
            self.result.checks
        );
        self
    }
}

/// A Python project with a test, and the commit that has it.
pub fn python() -> (Fixture, String) {
    let mut fixture = Fixture::empty().unwrap();
    let commit = Commit::on("main").message("Begin").write_all([
        ("shop/__init__.py", ""),
        (
            "shop/prices.py",
            "def total(prices):\n    return sum(prices)\n",
        ),
        ("tests/__init__.py", ""),
        ("tests/test_prices.py", PYTHON_TEST),
    ]);
    let base = fixture.commit(commit).unwrap();
    (fixture, base)
}

pub const PYTHON_TEST: &str = "\
import unittest

from shop.prices import total


class Prices(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([1, 2]), 3)

    def test_nothing(self):
        self.assertEqual(total([]), 0)
";

/// A change of the Python project that is good.
pub fn good(fixture: &mut Fixture) -> String {
    let commit = Commit::on("main")
        .write("shop/prices.py", "def total(prices):\n    return sum(prices)\n\n\ndef highest(prices):\n    return max(prices)\n")
        .write("tests/test_highest.py", "import unittest\n\nfrom shop.prices import highest\n\n\nclass Highest(unittest.TestCase):\n    def test_highest(self):\n        self.assertEqual(highest([1, 3, 2]), 3)\n");
    fixture.commit(commit).unwrap()
}
