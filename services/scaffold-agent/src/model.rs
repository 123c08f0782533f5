//! Language models as generators see them: one request, one answer. Knows no provider's protocol; a provider is
//! whatever implements [`Model`].

use std::time::Duration;

use contracts::task::Usage;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub mod canonical;
pub mod cassette;
pub mod recorder;

/// A language model.
pub trait Model: Send + Sync {
    /// Its name, as its provider calls it.
    fn name(&self) -> &str;

    /// Answers one request.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// Everything that a model is told. Holds neither times, nor ids, nor places of this machine: the same work is the
/// same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Which model.
    pub model: String,
    /// What it is and how it works.
    pub system: String,
    /// What it is to do now.
    pub prompt: String,
    /// What it may call.
    pub tools: Vec<Tool>,
    /// Most tokens of the answer.
    pub max_output_tokens: u32,
}

/// Something that a model may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input.
    pub input_schema: serde_json::Value,
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Text.
    #[serde(default)]
    pub text: String,
    /// Calls, in order.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Why it ended.
    pub ended: Ended,
    /// What it cost.
    #[serde(default)]
    pub spent: Spent,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Which tool.
    pub tool: String,
    /// What it is given.
    pub input: serde_json::Value,
}

/// Why an answer ended. Only the first is a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The model was finished.
    Complete,
    /// It was cut off at the most tokens that were allowed.
    Truncated,
    /// The model will not do this.
    Refused,
    /// The request is longer than the model can take.
    ContextOverflow,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spent {
    /// Tokens sent.
    pub input_tokens: u32,
    /// Tokens received.
    pub output_tokens: u32,
    /// Tokens served from a cache.
    pub cached_tokens: u32,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
}

impl Spent {
    /// Adds it to what was spent before.
    pub fn settle(self, usage: &mut Usage) {
        usage.input_token_count += i64::from(self.input_tokens);
        usage.output_token_count += i64::from(self.output_tokens);
        usage.cached_token_count += i64::from(self.cached_tokens);
        usage.cost_micros = usage
            .cost_micros
            .saturating_add(i64::try_from(self.cost_micros).unwrap_or(i64::MAX));
        usage.call_count += 1;
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider has too much to do.
    #[error("{model} is overloaded{}", after(.retry_after.as_ref()))]
    Overloaded {
        /// Which model.
        model: String,
        /// When it is worth asking again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The provider could not be reached, or broke off.
    #[error("{model} cannot be reached: {detail}")]
    Unreachable {
        /// Which model.
        model: String,
        /// What happened.
        detail: String,
    },
    /// The provider took the request for wrong.
    #[error("{model} took the request for wrong: {detail}")]
    Rejected {
        /// Which model.
        model: String,
        /// What it said.
        detail: String,
    },
    /// No recording has this request.
    #[error(transparent)]
    NotRecorded(#[from] Box<cassette::Miss>),
    /// A recording could not be kept.
    #[error("cannot keep the recording {place}")]
    NotKept {
        /// Where.
        place: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn after(delay: Option<&Duration>) -> String {
    delay.map_or(String::new(), |delay| {
        format!("; ask again in {} s", delay.as_secs())
    })
}

impl Error {
    /// When the provider said it is worth asking again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => *retry_after,
            Self::Unreachable { .. }
            | Self::Rejected { .. }
            | Self::NotRecorded(_)
            | Self::NotKept { .. } => None,
        }
    }

    /// Whether the same request may be answered later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unreachable { .. } => true,
            Self::Rejected { .. } | Self::NotRecorded(_) | Self::NotKept { .. } => false,
        }
    }
}
