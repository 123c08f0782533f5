//! Model traffic for whole-mesh tests, recorded before the mesh starts that plays it. A recording holds
//! only for the very same request, so it also says what the model is told at each step.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use agent_runtime::repository::{FileWrite, RepositoryCache};
use anyhow::{Context, Result, bail};
use contracts::scaffold::{ScaffoldAction, ScaffoldTask};
use contracts::task::{AnsweredClarification, Budget, Finding, TaskContext};
use futures::future::BoxFuture;
use scaffold_agent::brief::Brief;
use scaffold_agent::generator::{Draft, Generator, Order, model::ModelGenerator};
use scaffold_agent::ground::{Ground, Site};
use scaffold_agent::kept::Kept;
use scaffold_agent::model::recorder::Recorder;
use scaffold_agent::model::{Answer, Call, Ended, Error, Model, Request, Spent};
use scaffold_agent::source::Source;
use serde_json::{Value, json};
use testkit::repository::{Commit, Repository};

/// What each answer costs.
pub const TOKENS: i64 = 110;

/// Says one answer, however often it is asked.
struct Saying(Answer);

impl Model for Saying {
    fn name(&self) -> &'static str {
        "scripted-1"
    }

    fn answer<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

/// A call that writes a file.
pub fn write(path: &str, content: &str) -> (&'static str, Value) {
    ("write", json!({"path": path, "content": content}))
}

/// A call that ends the draft.
pub fn done(summary: &str) -> (&'static str, Value) {
    let input = json!({"analysis": summary, "summary": summary, "confidence": 0.9});
    ("done", input)
}

/// The work of one workflow, as the model does it.
pub struct Story<'a> {
    folder: &'a Path,
    name: String,
    requirements: String,
    repository: Repository,
    at: String,
    answered: Vec<AnsweredClarification>,
    kept: Option<Kept>,
    budget: Option<Budget>,
    cost: u64,
}

impl<'a> Story<'a> {
    /// Recorded into a folder. `repository` has the files that the workflow's has.
    pub fn new(
        folder: &'a Path,
        name: &str,
        requirements: &str,
        repository: Repository,
    ) -> Result<Self> {
        Ok(Self {
            folder,
            name: name.to_owned(),
            requirements: requirements.to_owned(),
            at: repository.resolve("main")?,
            repository,
            answered: Vec::new(),
            kept: None,
            budget: None,
            cost: 0,
        })
    }

    /// From now on each answer costs this, in millionths of a dollar, and the first spends the budget.
    pub fn costing(mut self, cost: u64) -> Self {
        self.cost = cost;
        self.budget = Some(Budget {
            cost_micros: 1,
            ..Budget::default()
        });
        self
    }

    /// The model fixes what is asked, with one answer.
    pub async fn fix(&mut self, calls: &[(&str, Value)]) -> Result<()> {
        self.draft(ScaffoldAction::Fix, Vec::new(), calls).await
    }

    /// The model repairs what a later stage found.
    pub async fn repair(&mut self, findings: Vec<Finding>, calls: &[(&str, Value)]) -> Result<()> {
        self.draft(ScaffoldAction::Repair, findings, calls).await
    }

    /// Somebody answers what the model asked.
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.requirements = format!("{}\n\n{question}\n{answer}", self.requirements);
        self.answered.push(AnsweredClarification {
            question: question.to_owned(),
            answer: answer.to_owned(),
            ..AnsweredClarification::default()
        });
    }

    async fn draft(
        &mut self,
        action: ScaffoldAction,
        findings: Vec<Finding>,
        calls: &[(&str, Value)],
    ) -> Result<()> {
        let task = ScaffoldTask {
            action: action.into(),
            name: self.name.clone(),
            requirements: self.requirements.clone(),
            findings,
            ..ScaffoldTask::default()
        };
        let context = TaskContext {
            task_id: "recorded".to_owned(),
            clarifications: self.answered.clone(),
            ..TaskContext::default()
        };
        let draft = self.record(&Brief::parse(&context, &task)?, calls).await?;
        if draft.waits() {
            self.kept = Some(Kept {
                changes: draft.changes,
                memory: draft.memory,
            });
            return Ok(());
        }
        self.kept = None;
        let mut commit = Commit::on("work").from(&self.at);
        for change in draft.changes {
            let path = change.path.to_string();
            commit = match change.write {
                FileWrite::File { content, .. } => commit.write(&path, content),
                FileWrite::Link { .. } => bail!("no tool of a model makes links"),
                FileWrite::Removed => commit.delete(&path),
            };
        }
        self.at = self.repository.commit(commit)?;
        Ok(())
    }

    async fn record(&self, brief: &Brief, calls: &[(&str, Value)]) -> Result<Draft> {
        let calls = calls.iter().map(|(tool, input)| Call {
            tool: (*tool).to_owned(),
            input: input.clone(),
        });
        let saying = Saying(Answer {
            text: String::new(),
            calls: calls.collect(),
            ended: Ended::Complete,
            spent: Spent {
                input_tokens: 100,
                output_tokens: 10,
                cost_micros: self.cost,
                ..Spent::default()
            },
        });
        let recorder = Mutex::new(Some(Recorder::new(saying, self.folder)?));
        #[expect(clippy::expect_used, reason = "a draft opens its model once")]
        let open = move || {
            let recorder = recorder.lock().ok().and_then(|mut one| one.take());
            Box::new(recorder.expect("it was not opened yet")) as Box<dyn Model>
        };
        let generator = ModelGenerator::new("recorder", Box::new(open));
        let data = tempfile::tempdir()?;
        let cache = RepositoryCache::new(data.path());
        let site = Site {
            cache: &cache,
            root: data.path(),
            name: &brief.subject.name,
            key: &brief.key,
            task_id: "recorded",
        };
        let asked = contracts::task::Repository {
            url: self.repository.url(),
            head_commit: self.at.clone(),
            ..contracts::task::Repository::default()
        };
        let ground = Ground::prepare(site, &asked).await?;
        let source = Source::read(&ground.repository, ground.parent).await?;
        let order = Order {
            kept: self.kept.as_ref(),
            spent: &|_| {},
            brief,
            source: &source,
            budget: self.budget.as_ref().filter(|_| self.kept.is_none()),
            deadline: tokio::time::Instant::now() + Duration::from_mins(10),
            progress: &|_, _| {},
        };
        generator.draft(order).await.context("no draft")
    }
}
