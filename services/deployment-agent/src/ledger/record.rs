//! One revision in the ledger.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{spec::Spec, strategy::Strategy};

/// Where a revision is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevisionState {
    /// Being deployed. After a crash: interrupted.
    Deploying,
    /// Proved itself under traffic; may be gone back to.
    Verified,
    /// Did not prove itself.
    Failed,
    /// Was verified, and somebody took it back.
    RolledBack,
    /// The agent died while it was deployed.
    Interrupted,
}

/// One deployed version of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// From 1, never used again.
    pub number: u64,
    /// Commit.
    pub commit: String,
    /// The deployment that made it.
    pub deployment_id: String,
    /// Idempotency key of the task that asked for it.
    pub task_key: String,
    /// How it was deployed.
    pub strategy: Strategy,
    /// Where it is in its life.
    pub state: RevisionState,
    /// Why it was given up.
    pub reason: String,
    /// When its deployment began.
    #[serde(with = "time::serde::rfc3339")]
    pub create_time: OffsetDateTime,
    /// When it was verified last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub verified_at: Option<OffsetDateTime>,
    /// How it is started.
    pub spec: Spec,
    /// Fingerprint of what was asked for, before anything was built: asking for the same again
    /// while it is live changes nothing.
    pub asked: String,
}
