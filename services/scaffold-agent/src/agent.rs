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
    brief::Brief,
    config::Settings,
    generator::{self, Draft, Generator, Order, Stop, template::TemplateGenerator},
    ground::{Ground, Site},
    publication::{self, Published},
    source::Source,
    template::{Catalog, CatalogError},
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
    /// The templates.
    #[error("templates")]
    Templates(#[from] CatalogError),
    /// The default template is not there.
    #[error("default template")]
    DefaultTemplate(#[from] crate::template::UnknownTemplate),
    /// The default generator is not there.
    #[error("there is no generator {asked:?}; there are {}", .known.join(", "))]
    DefaultGenerator {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: Vec<String>,
    },
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
}

impl ScaffoldAgent {
    /// An agent with its templates and generators.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let catalog = Arc::new(Catalog::load(settings.templates.as_deref())?);
        catalog.get(&settings.default_template)?;
        let root = &settings.repositories;
        std::fs::create_dir_all(root).map_err(|source| SetupError::Repositories {
            folder: root.clone(),
            source,
        })?;
        let template = TemplateGenerator::new(catalog.clone(), &settings.default_template);
        let mut generators: BTreeMap<&'static str, Box<dyn Generator>> = BTreeMap::new();
        generators.insert(template.backend(), Box::new(template));
        if !generators.contains_key(settings.default_generator.as_str()) {
            return Err(SetupError::DefaultGenerator {
                asked: settings.default_generator.clone(),
                known: generators.keys().map(ToString::to_string).collect(),
            });
        }
        Ok(Self {
            cache: RepositoryCache::new(settings.cache.clone()),
            root: root.clone(),
            catalog,
            generators,
            default_generator: settings.default_generator.clone(),
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
        let order = Order {
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
        reporter.progress(100.0, "done", draft.summary.clone());
        let backend = generator.backend();
        Ok(wire::result(Work {
            brief,
            ground,
            draft,
            backend,
            published,
        }))
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
