//! What makes a revision what it is: how its instances start, when they count as ready and healthy,
//! and what they may use. Kept in the ledger, so that a revision can be brought back without its
//! repository. Secrets are named here, their values never are.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Most instances of a revision.
pub const MAX_INSTANCE_COUNT: u32 = 16;

/// Where instances run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// As processes of this machine.
    Process,
    /// As containers of a Docker engine.
    Docker,
}

/// When a started instance is ready for traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ready {
    /// It answers a GET.
    Http(HttpCheck),
    /// Its port accepts a connection.
    Tcp,
    /// A line of its log matches; a group named `port` says where it listens.
    Log {
        /// Regular expression.
        pattern: String,
    },
    /// The engine's own health check says so.
    DockerHealth,
}

/// What an answer to a GET must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Path and query.
    pub path: String,
    /// Status that it must have.
    pub status: u16,
    /// Text that the body must contain.
    #[serde(default)]
    pub contains: Option<String>,
}

/// How health is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRule {
    /// Time between two probes.
    pub interval: Duration,
    /// Time in which an answer must have come.
    pub timeout: Duration,
    /// Successes in a row until an instance counts as healthy.
    pub successes: u32,
    /// Failures in a row until it counts as sick.
    pub failures: u32,
    /// A slower answer is a failure.
    #[serde(default)]
    pub latency_below: Option<Duration>,
}

impl Default for ProbeRule {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            successes: 2,
            failures: 3,
            latency_below: None,
        }
    }
}

/// How often an instance that was ready once may be started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartRule {
    /// Restarts within `window`; one more is a crash loop.
    pub limit: u32,
    /// Restarts longer ago are forgotten.
    pub window: Duration,
    /// Wait before the first restart; doubles with each one.
    pub first_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
}

impl Default for RestartRule {
    fn default() -> Self {
        Self {
            limit: 5,
            window: Duration::from_mins(5),
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(15),
        }
    }
}

/// Everything that differs between revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Commit that it was made from. Empty: an image that somebody brought.
    pub commit: String,
    /// Where it runs.
    pub target: TargetKind,
    /// Argument vector that starts it; empty on a container target means the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Image by id or digest, on a container target.
    #[serde(default)]
    pub image: Option<String>,
    /// Variable that tells the app its port.
    pub port_variable: String,
    /// Port inside a container.
    #[serde(default)]
    pub container_port: Option<u16>,
    /// Variables of the app.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Names of variables whose values are in the environment's secret store.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// When it is ready.
    pub ready: Ready,
    /// What it must answer once it is ready, before it gets traffic.
    #[serde(default)]
    pub smoke: Vec<HttpCheck>,
    /// Time in which it must be ready.
    pub ready_within: Duration,
    /// How its health is watched.
    #[serde(default)]
    pub probe: ProbeRule,
    /// How often it is started again.
    #[serde(default)]
    pub restart: RestartRule,
    /// Time between being asked to stop and being forced.
    pub stop_within: Duration,
    /// Time that open requests have when it is taken out of the traffic.
    pub drain: Duration,
    /// How long it is watched under traffic before it counts as verified.
    pub bake: Duration,
    /// Resident memory of an instance, in bytes.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// Instances.
    pub desired_count: u32,
    /// It moved data in a way that the revision before cannot live with.
    #[serde(default)]
    pub irreversible_migration: bool,
}

impl Spec {
    /// Same fingerprint: deploying the one over the other changes nothing.
    pub fn fingerprint(&self) -> String {
        // Struct fields keep their order and maps are sorted, so equal specs give equal text.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }

    /// The commit as people write it, or `image` for one that somebody brought.
    pub fn short_commit(&self) -> &str {
        if self.commit.is_empty() {
            return "image";
        }
        self.commit.get(..12).unwrap_or(&self.commit)
    }
}
