//! What is told about a deployment: its steps, events, probes and how it ended. The same account goes
//! into the ledger and to whoever asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{spec::TargetKind, strategy::Strategy, verdict::Verdict};

/// One step of a strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Such as `start green` or `shift 10 %`.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// Wall time.
    pub duration: Duration,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// What, in one sentence.
    pub message: String,
}

/// One prerequisite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prerequisite {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub verdict: Verdict,
    /// Why, and what to do.
    pub reason: String,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackAccount {
    /// Revision that was given up.
    pub from: Option<u64>,
    /// Revision that is live again. None: nothing is live.
    pub to: Option<u64>,
    /// Wall time.
    pub duration: Duration,
    /// Why.
    pub reason: String,
}

/// How a deployment went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// Unique.
    pub deployment_id: String,
    /// Revision of the app in the environment. None: none was made.
    pub revision: Option<u64>,
    /// Revision that has the traffic afterwards. None: nothing is live.
    #[serde(default)]
    pub live: Option<u64>,
    /// Commit of the revision.
    pub commit: String,
    /// Where the app answers. None: nowhere.
    pub endpoint: Option<String>,
    /// Instances wanted.
    pub desired_count: u32,
    /// Instances running.
    pub running_count: u32,
    /// Instances that failed.
    pub failed_count: u32,
    /// How.
    pub strategy: Strategy,
    /// Where to.
    pub target: TargetKind,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Events, in order.
    pub events: Vec<Happening>,
    /// It was live already, and nothing was done.
    pub already_live: bool,
    /// Requests that the router could not get answered meanwhile.
    pub failed_request_count: u64,
    /// What was checked before.
    pub prerequisites: Vec<Prerequisite>,
    /// What was taken back.
    pub rollback: Option<RollbackAccount>,
    /// The new revision is sick, but keeps the traffic because the one before cannot come back
    /// without a person's word.
    pub needs_person: bool,
    /// Files kept of what failed, relative to the app's folder.
    pub forensics: Vec<String>,
}

/// The worst of the verdicts: what is failed outweighs what is not proven.
pub fn worst(prerequisites: &[Prerequisite]) -> Verdict {
    let has = |verdict| prerequisites.iter().any(|found| found.verdict == verdict);
    if has(Verdict::Failed) {
        Verdict::Failed
    } else if has(Verdict::NotProven) {
        Verdict::NotProven
    } else {
        Verdict::Passed
    }
}
