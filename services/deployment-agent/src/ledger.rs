//! What was deployed, on disk: one file per app and environment, replaced as a whole so that a crash
//! leaves the old or the new one. Refuses a file that it does not understand rather than guess.

mod file;
mod record;
mod task;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::{
    file::Error,
    record::{Revision, RevisionState},
    task::TaskRecord,
};
use crate::{account::Account, spec::Spec, strategy::Strategy};

/// Version of the file. A change that old code would misread counts it up.
const VERSION: u32 = 1;
/// Revisions that are remembered; the live and the last verified one always are.
const MAX_REVISIONS: usize = 100;
/// Tasks whose results are remembered: far more than an orchestrator can ask about again.
const MAX_TASKS: usize = 200;

/// The ledger of one app in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    environment: String,
    app: String,
    /// Port of the router, once there was one.
    pub port: Option<u16>,
    next_revision: u64,
    live: Option<u64>,
    revisions: Vec<Revision>,
    tasks: Vec<TaskRecord>,
    #[serde(skip)]
    path: PathBuf,
}

impl Ledger {
    /// Reads the ledger of an app, or begins one.
    pub async fn open(path: &Path, environment: &str, app: &str) -> Result<Self, Error> {
        let ledger = match file::read(path).await? {
            Some(ledger) => ledger,
            None => Self {
                version: VERSION,
                environment: environment.to_owned(),
                app: app.to_owned(),
                port: None,
                next_revision: 1,
                live: None,
                revisions: Vec::new(),
                tasks: Vec::new(),
                path: PathBuf::new(),
            },
        };
        if ledger.environment != environment || ledger.app != app {
            return Err(Error::Foreign {
                path: path.to_owned(),
                environment: ledger.environment,
                app: ledger.app,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            ..ledger
        })
    }

    /// Writes the ledger; when this returns, it survives a power cut.
    pub async fn save(&mut self) -> Result<(), Error> {
        self.forget_old();
        file::write(&self.path, self).await
    }

    /// The environment.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The app.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Revisions, oldest first.
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }

    /// One revision.
    pub fn revision(&self, number: u64) -> Option<&Revision> {
        self.revisions
            .iter()
            .find(|revision| revision.number == number)
    }

    fn revision_mut(&mut self, number: u64) -> Option<&mut Revision> {
        self.revisions
            .iter_mut()
            .find(|revision| revision.number == number)
    }

    /// The revision that takes the traffic.
    pub fn live(&self) -> Option<&Revision> {
        self.revision(self.live?)
    }

    /// The revision to go back to: the one that was verified last, whatever was tried since.
    pub fn last_verified(&self, except: Option<u64>) -> Option<&Revision> {
        self.revisions
            .iter()
            .filter(|revision| revision.state == RevisionState::Verified)
            .filter(|revision| Some(revision.number) != except)
            .max_by_key(|revision| (revision.verified_at, revision.number))
    }

    /// Notes the intent to deploy, before anything is started.
    pub fn begin(&mut self, begin: Begin) -> u64 {
        let number = self.next_revision;
        self.next_revision += 1;
        self.revisions.push(Revision {
            number,
            commit: begin.spec.commit.clone(),
            deployment_id: begin.deployment_id,
            task_key: begin.task_key,
            strategy: begin.strategy,
            state: RevisionState::Deploying,
            reason: String::new(),
            create_time: OffsetDateTime::now_utc(),
            verified_at: None,
            asked: begin.spec.fingerprint(),
            spec: begin.spec,
        });
        number
    }

    /// Notes what the revision really runs, once that is known (an image that was built for it).
    pub fn respecify(&mut self, number: u64, spec: Spec) {
        if let Some(revision) = self.revision_mut(number) {
            revision.spec = spec;
        }
    }

    /// The revision proved itself under traffic and takes all of it.
    pub fn verified(&mut self, number: u64) {
        if let Some(revision) = self.revision_mut(number) {
            revision.state = RevisionState::Verified;
            revision.verified_at = Some(OffsetDateTime::now_utc());
            revision.reason = String::new();
        }
        self.live = Some(number);
    }

    /// The revision was given up.
    pub fn given_up(&mut self, number: u64, state: RevisionState, reason: &str) {
        if let Some(revision) = self.revision_mut(number) {
            revision.state = state;
            reason.clone_into(&mut revision.reason);
        }
    }

    /// What takes the traffic now.
    pub fn set_live(&mut self, live: Option<u64>) {
        self.live = live;
    }

    /// What was recorded for a task, if it was done.
    pub fn task(&self, key: &str) -> Option<&TaskRecord> {
        self.tasks.iter().rev().find(|task| task.key == key)
    }

    /// Remembers what came of a task.
    pub fn record_task(&mut self, key: &str, attempt: u32, account: Account) {
        self.tasks.retain(|task| task.key != key);
        self.tasks.push(TaskRecord {
            key: key.to_owned(),
            attempt,
            account,
        });
    }

    /// Revisions that were being deployed when the agent died.
    pub fn interrupted(&self) -> Vec<u64> {
        self.revisions
            .iter()
            .filter(|revision| revision.state == RevisionState::Deploying)
            .map(|revision| revision.number)
            .collect()
    }

    fn forget_old(&mut self) {
        let keep = [
            self.live,
            self.last_verified(None).map(|revision| revision.number),
        ];
        let mut excess = self.revisions.len().saturating_sub(MAX_REVISIONS);
        self.revisions.retain(|revision| {
            let forget = excess > 0 && !keep.contains(&Some(revision.number));
            excess -= usize::from(forget);
            !forget
        });
        let excess = self.tasks.len().saturating_sub(MAX_TASKS);
        self.tasks.drain(..excess);
    }
}

/// What is known when a deployment begins.
#[derive(Debug)]
pub struct Begin {
    /// Unique.
    pub deployment_id: String,
    /// Idempotency key.
    pub task_key: String,
    /// How.
    pub strategy: Strategy,
    /// What.
    pub spec: Spec,
}
