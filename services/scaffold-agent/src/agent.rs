//! The agent: carries one task from its brief to a commit on a branch. Leaves what is written to a generator, and
//! streams, leases and cancellation to the runtime.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use agent_runtime::{Agent, Assignment, process::Command, repository::RepositoryCache};
use contracts::{
    error::Error,
    orchestrator::Capability,
    parse::nearest,
    scaffold::{ScaffoldResult, ScaffoldTask},
    task::AgentType,
};

use crate::{
    brief::{Action, Brief},
    config::{CASSETTE, Settings, TEMPLATE},
    generator::{
        self, Draft, Generator, Order, Stop, model::ModelGenerator, template::TemplateGenerator,
    },
    ground::{Ground, Site},
    judge::{self, Touch},
    kept::{self, Kept},
    model::Model,
    publication::{self, Published},
    source::Source,
    template::Catalog,
    wire,
};

/// The scaffold agent.
pub struct ScaffoldAgent {
    cache: RepositoryCache,
    root: PathBuf,
    catalog: Arc<Catalog>,
    generators: BTreeMap<&'static str, Box<dyn Generator>>,
    default_generator: String,
}

/// Why the agent cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The folder for repositories.
    #[error("folder for repositories {folder}")]
    Repositories {
        /// Which one.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// What a task came to, whichever way.
pub(crate) struct Work {
    pub(crate) brief: Brief,
    pub(crate) ground: Ground,
    pub(crate) draft: Draft,
    pub(crate) backend: &'static str,
    /// `None`: nothing was published.
    pub(crate) published: Option<Published>,
    /// What of it touches its own judge.
    pub(crate) touches: Vec<Touch>,
    /// Where another attempt goes on. Empty: nowhere.
    pub(crate) checkpoint: Vec<u8>,
}

impl ScaffoldAgent {
    /// An agent with its templates and generators.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let root = settings.repositories;
        std::fs::create_dir_all(&root).map_err(|source| SetupError::Repositories {
            folder: root.clone(),
            source,
        })?;
        let template = TemplateGenerator::new(settings.catalog.clone(), &settings.default_template);
        let mut generators: BTreeMap<&'static str, Box<dyn Generator>> = BTreeMap::new();
        generators.insert(TEMPLATE, Box::new(template));
        if let Some(cassette) = settings.cassette {
            let open = move || Box::new(cassette.player()) as Box<dyn Model>;
            let generator = ModelGenerator::new(CASSETTE, Box::new(open));
            generators.insert(CASSETTE, Box::new(generator));
        }
        Ok(Self {
            cache: RepositoryCache::new(settings.cache),
            root,
            catalog: settings.catalog,
            generators,
            default_generator: settings.default_generator,
        })
    }

    async fn work(&self, assignment: &Assignment<ScaffoldTask>) -> Result<ScaffoldResult, Error> {
        let Assignment {
            context, reporter, ..
        } = assignment;
        let brief = Brief::parse(context, &assignment.task)?;
        let generator = self.generator(brief.generator.as_deref())?;
        // Before anything is made: a wrong task must leave nothing behind.
        generator.check(&brief).map_err(wire::generator_error)?;

        reporter.progress(5.0, "repository", "opening the repository");
        let asked = context.repository.clone().unwrap_or_default();
        let site = Site {
            cache: &self.cache,
            root: &self.root,
            name: &brief.subject.name,
            key: &brief.key,
            task_id: assignment.task_id(),
        };
        let ground = Ground::prepare(site, &asked).await?;
        let source = Source::read(&ground.repository, ground.parent).await?;

        reporter.progress(
            20.0,
            "writing",
            format!("writing with {}", generator.backend()),
        );
        let kept = if generator.is_repeatable() || context.checkpoint.is_empty() {
            None
        } else {
            kept::find(&ground, &context.checkpoint).await?
        };
        let order = Order {
            kept: kept.as_ref(),
            spent: &|usage| reporter.spent(usage),
            brief: &brief,
            source: &source,
            budget: context.budget.as_ref(),
            deadline: assignment.deadline,
            progress: &|share, line| {
                reporter.progress(20.0 + 60.0 * share.clamp(0.0, 1.0), "writing", line);
            },
        };
        let draft = match ground.earlier {
            Some(_) if !generator.is_repeatable() => Draft::of_earlier_attempt(),
            _ => generator
                .draft(order)
                .await
                .map_err(wire::generator_error)?,
        };

        reporter.progress(
            85.0,
            "publishing",
            format!("committing to {}", ground.branch),
        );
        let published = if draft.stop == Stop::Done {
            let changes = draft.changes.clone();
            let task_id = assignment.task_id();
            let publishing =
                publication::publish(&ground, &brief.key, task_id, &draft.summary, changes);
            Some(publishing.await?)
        } else {
            None
        };
        let checkpoint = if draft.waits() {
            let kept = Kept {
                changes: draft.changes.clone(),
                memory: draft.memory.clone(),
            };
            kept::keep(&ground, &brief.key, kept).await?
        } else {
            Vec::new()
        };
        let touches = match &published {
            Some(published) if !generator.is_repeatable() => {
                let is_new = brief.action == Action::Generate;
                judge::touches(&source, &published.source, &published.changed, is_new).await?
            }
            _ => Vec::new(),
        };
        reporter.progress(100.0, "done", draft.summary.clone());
        let work = Work {
            brief,
            ground,
            draft,
            backend: generator.backend(),
            published,
            touches,
            checkpoint,
        };
        Ok(wire::result(work, &context.decisions))
    }

    fn generator(&self, asked: Option<&str>) -> Result<&dyn Generator, Error> {
        let name = asked.unwrap_or(&self.default_generator);
        let known = || self.generators.keys().copied();
        self.generators.get(name).map(Box::as_ref).ok_or_else(|| {
            let asked: String = name.chars().take(64).collect();
            let near = nearest(name, known())
                .map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            let list = known().collect::<Vec<_>>().join(", ");
            Error::invalid_field(
                "task.generator",
                format!("there is no generator {asked:?}{near}; there are {list}"),
            )
        })
    }
}

impl Agent for ScaffoldAgent {
    type Task = ScaffoldTask;
    type Result = ScaffoldResult;
    const TYPE: AgentType = AgentType::Scaffold;

    async fn capabilities(&self) -> Vec<Capability> {
        let capability = |kind: &str, name: &str, version: &str| Capability {
            kind: kind.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let templates = self
            .catalog
            .names()
            .map(|name| capability("template", name, ""));
        let generators = self
            .generators
            .keys()
            .map(|name| capability("generator", name, ""));
        let git = git_version().await;
        let tools = git.iter().map(|version| capability("tool", "git", version));
        templates.chain(generators).chain(tools).collect()
    }

    async fn run(&self, assignment: Assignment<ScaffoldTask>) -> Result<ScaffoldResult, Error> {
        tokio::select! {
            biased;
            () = assignment.cancel.cancelled() => {
                Err(wire::generator_error(generator::Error::Cancelled))
            }
            result = Box::pin(self.work(&assignment)) => result,
        }
    }
}

async fn git_version() -> Option<String> {
    let asked = Command::new(["git", "--version"]).timeout(std::time::Duration::from_secs(5));
    let said = asked
        .run()
        .await
        .ok()
        .filter(agent_runtime::process::Finished::is_success)?;
    let text = said.stdout.text();
    Some(text.trim().strip_prefix("git version ")?.to_owned())
}
