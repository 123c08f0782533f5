//! What shows that the app is ready.

use serde::{Deserialize, Serialize};

use super::endpoint::{check_path, check_status, default_status};
use crate::project::value::Period;

/// Longest pattern that recognises a log line, and its largest compiled form, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
const MAX_COMPILED_PATTERN_BYTES: usize = 1 << 20;

/// When the app is ready: exactly one of `http`, `tcp`, `log`, `docker_health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "ReadyKeys", into = "ReadyKeys")]
pub struct Ready {
    /// What shows that it is ready.
    pub by: ReadyBy,
    /// How long it may take.
    pub within: Period,
}

impl Ready {
    /// How long an app may take when nothing is said.
    pub const DEFAULT_WITHIN: Period = Period::of(std::time::Duration::from_secs(30));

    /// Ready when the port accepts connections.
    pub fn tcp() -> Self {
        Self {
            by: ReadyBy::Tcp,
            within: Self::DEFAULT_WITHIN,
        }
    }
}

/// What shows that the app is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyBy {
    /// A path answers with a status.
    Http(HttpReady),
    /// The port accepts connections.
    Tcp,
    /// A line of its output matches a pattern; a group named `port` says where it listens.
    Log(String),
    /// The container's own health check.
    DockerHealth,
}

/// A path that shows that the app is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HttpReady {
    /// Path, from `/`.
    #[cfg_attr(test, schemars(extend("pattern" = "^/")))]
    pub path: String,
    /// Status expected; 200 if left out.
    #[serde(default = "default_status")]
    #[cfg_attr(test, schemars(range(min = 100, max = 599)))]
    pub status: u16,
}

/// When the app is ready: exactly one of `http`, `tcp`, `log`, `docker_health`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{"required": ["http"]}, {"required": ["tcp"]}, {"required": ["log"]}, {"required": ["docker_health"]}])))]
pub(crate) struct ReadyKeys {
    /// A path answers with a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpReady>,
    /// `true`: the port accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    /// A line of its output matches this regular expression; a group named `port` says where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// `true`: the container's own health check says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    docker_health: Option<bool>,
    /// How long it may take, at most 10 min; 30 s if left out.
    #[serde(default = "default_within")]
    within: Period,
}

fn default_within() -> Period {
    Ready::DEFAULT_WITHIN
}

impl TryFrom<ReadyKeys> for Ready {
    type Error = String;

    fn try_from(keys: ReadyKeys) -> Result<Self, String> {
        let by = match (keys.http, keys.tcp, keys.log, keys.docker_health) {
            (Some(http), None, None, None) => {
                check_path(&http.path)?;
                check_status(http.status)?;
                ReadyBy::Http(http)
            }
            (None, Some(true), None, None) => ReadyBy::Tcp,
            (None, None, Some(pattern), None) => {
                log_pattern(&pattern)?;
                ReadyBy::Log(pattern)
            }
            (None, None, None, Some(true)) => ReadyBy::DockerHealth,
            _ => {
                return Err(
                    "`ready` has exactly one of `http`, `tcp: true`, `log`, `docker_health: true`"
                        .into(),
                );
            }
        };
        if keys.within.get() > std::time::Duration::from_mins(10) {
            return Err("`within` is at most 10m".into());
        }
        Ok(Self {
            by,
            within: keys.within,
        })
    }
}

impl From<Ready> for ReadyKeys {
    fn from(ready: Ready) -> Self {
        let mut keys = Self {
            http: None,
            tcp: None,
            log: None,
            docker_health: None,
            within: ready.within,
        };
        match ready.by {
            ReadyBy::Http(http) => keys.http = Some(http),
            ReadyBy::Tcp => keys.tcp = Some(true),
            ReadyBy::Log(pattern) => keys.log = Some(pattern),
            ReadyBy::DockerHealth => keys.docker_health = Some(true),
        }
        keys
    }
}

/// Compiles the pattern of a log line, with bounds.
pub fn log_pattern(pattern: &str) -> Result<regex::Regex, String> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a log pattern has 1 to {MAX_PATTERN_BYTES} bytes"));
    }
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("the log pattern is not a regular expression: {error}"))
}
