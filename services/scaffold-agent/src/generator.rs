//! Generators: whoever turns a brief and the files that are there into a change. They write nothing themselves:
//! what they draft is committed by somebody else.

use std::collections::BTreeMap;

use agent_runtime::repository::{self, FileChange};
use contracts::task::{Budget, BudgetLimit, ClarificationRequest, Usage};
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    brief::Brief,
    kept::{Kept, Memory},
    source::Source,
};

pub mod model;
pub mod template;

/// Turns a brief into a change.
pub trait Generator: Send + Sync {
    /// The name that tasks and results call it by.
    fn backend(&self) -> &'static str;

    /// Refuses a brief that it can see is wrong, before anything is made for it.
    fn check(&self, brief: &Brief) -> Result<(), Error>;

    /// Whether the same order always gives the same draft. What does not is looked at for what judges it.
    fn is_repeatable(&self) -> bool;

    /// Drafts the change.
    fn draft<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Draft, Error>>;
}

/// What a generator is given.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// What is asked.
    pub brief: &'a Brief,
    /// What is there.
    pub source: &'a Source,
    /// What may be spent.
    pub budget: Option<&'a Budget>,
    /// When it must be over.
    pub deadline: Instant,
    /// What an earlier attempt left, to go on from.
    pub kept: Option<&'a Kept>,
    /// Told how far the work is: from 0 to 1, and one line for people.
    pub progress: &'a (dyn Fn(f64, String) + Send + Sync),
    /// Told what was spent so far.
    pub spent: &'a (dyn Fn(Usage) + Send + Sync),
}

/// A change that is not committed yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What changes.
    pub changes: Vec<FileChange>,
    /// What the generator understood.
    pub analysis: String,
    /// One sentence: what was done, or why not.
    pub summary: String,
    /// Third-party packages that the project declares.
    pub dependencies: Vec<String>,
    /// What can be run: name to command.
    pub scripts: BTreeMap<String, String>,
    /// Model that wrote it. Empty: none.
    pub model: String,
    /// Template that it is from. Empty: none.
    pub template: String,
    /// What was spent.
    pub usage: Usage,
    /// Rounds of the loop.
    pub round_count: u32,
    /// Why it stopped.
    pub stop: Stop,
    /// How sure the generator is, 0 to 1.
    pub confidence: f64,
    /// What of the budget ran out.
    pub exhausted: BudgetLimit,
    /// What must be answered first.
    pub question: Option<ClarificationRequest>,
    /// What the next attempt is to remember.
    pub memory: Memory,
}

impl Draft {
    /// Whether another attempt goes on from here, once somebody answered or gave a larger budget.
    pub fn waits(&self) -> bool {
        self.question.is_some() || self.exhausted != BudgetLimit::Unspecified
    }

    /// Stands for what an attempt before this one published.
    pub fn of_earlier_attempt() -> Self {
        Self {
            summary: "An earlier attempt at this task committed its work already".to_owned(),
            ..Self::empty(Stop::Done)
        }
    }

    /// Nothing.
    pub fn empty(stop: Stop) -> Self {
        Self {
            changes: Vec::new(),
            analysis: String::new(),
            summary: String::new(),
            dependencies: Vec::new(),
            scripts: BTreeMap::new(),
            model: String::new(),
            template: String::new(),
            usage: Usage::default(),
            round_count: 0,
            stop,
            confidence: 0.0,
            exhausted: BudgetLimit::Unspecified,
            question: None,
            memory: Memory::default(),
        }
    }
}

/// Why a generator stopped. Only a draft that is done is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The work is done.
    Done,
    /// The rounds ran out.
    Rounds,
    /// The tokens ran out.
    Tokens,
    /// The money ran out.
    Cost,
    /// The time ran out.
    WallTime,
    /// The same action gave the same result three times.
    Stuck,
    /// It will not, or cannot, do this.
    Refused,
    /// There is more to tell the model than it can take.
    Context,
    /// Something must be answered first.
    Asked,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template is not there.
    #[error(transparent)]
    UnknownTemplate(#[from] crate::template::UnknownTemplate),
    /// Parameters of the template are wrong.
    #[error("the template's parameters are wrong")]
    Parameters(Vec<crate::template::InvalidParameter>),
    /// The template does not render with this input.
    #[error("template {template} does not render")]
    Render {
        /// Which template.
        template: String,
        /// Why.
        #[source]
        source: Box<crate::template::RenderError>,
    },
    /// The generator does not do this.
    #[error("the {backend} generator cannot {action}: {hint}")]
    Unable {
        /// Which generator.
        backend: &'static str,
        /// What it was asked for.
        action: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// The repository could not be read.
    #[error("cannot read the repository")]
    Repository(#[from] repository::Error),
    /// The model could not be asked.
    #[error("cannot ask the model")]
    Model(#[source] Box<crate::model::Error>),
    /// Nobody wants the draft any more.
    #[error("the task was cancelled")]
    Cancelled,
}
