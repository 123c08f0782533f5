//! The moves that strategies are made of, each written down as a step.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::bake::Bake;
use crate::{
    fleet::Fleet,
    journal::Journal,
    router::{Group, Router},
    supervisor::Stopped,
    verdict::Verdict,
};

/// A change from an old revision to a new one, while it is made.
pub struct Change<'a> {
    /// The app's router.
    pub router: &'a Router,
    /// What was live before; what is left of it.
    pub old: Option<Fleet>,
    /// What is to be live.
    pub new: Fleet,
    /// Where it is written down.
    pub journal: &'a mut Journal,
    /// Where supervision lives.
    pub tracker: &'a TaskTracker,
    /// Somebody wants it stopped.
    pub cancel: CancellationToken,
    /// When it must be over.
    pub deadline: Instant,
    /// The new revision was given traffic.
    pub took_traffic: bool,
}

/// Why a change is not carried on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// Why, in one sentence.
    pub reason: String,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The new revision was seen not to be good.
    Sick,
    /// Nothing was seen until the deadline.
    Inconclusive,
    /// The deadline passed before it had proved itself.
    Deadline,
    /// Somebody stopped it.
    Cancelled,
}

impl Failure {
    /// The new revision was seen not to be good.
    pub fn sick(reason: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Sick,
            reason: reason.into(),
        }
    }

    /// What this says of the new revision.
    pub fn verdict(&self) -> Verdict {
        match self.kind {
            FailureKind::Sick | FailureKind::Deadline => Verdict::Failed,
            FailureKind::Inconclusive | FailureKind::Cancelled => Verdict::NotProven,
        }
    }
}

impl Change<'_> {
    /// Starts new instances and waits until they are ready. They get no traffic yet.
    pub(super) async fn start(
        &mut self,
        name: &str,
        count: u32,
        percent: f64,
    ) -> Result<(), Failure> {
        let begun = self.journal.begin(name, percent).await;
        let started = {
            let growing = self.new.grow(count, self.tracker);
            tokio::select! {
                biased;
                failure = stopped(&self.cancel, self.deadline) => Err(failure),
                grown = growing => grown.map_err(Failure::sick),
            }
        };
        let (verdict, reason) = match &started {
            Ok(()) => (
                Verdict::Passed,
                format!("{count} ready: {}", self.addresses()),
            ),
            Err(failure) => (failure.verdict(), failure.reason.clone()),
        };
        self.journal.end(begun, verdict, reason).await;
        started
    }

    /// Shares the traffic anew, from the next request on.
    pub(super) async fn shift(&mut self, name: &str, shares: &[(Group, u32)], percent: f64) {
        let begun = self.journal.begin(name, percent).await;
        self.router.set_shares(shares);
        let new = self.new.revision();
        self.router
            .set_vacant_reason(format!("no instance of revision {new} is running"));
        self.took_traffic |= shares
            .iter()
            .any(|(group, weight)| *group == new && *weight > 0);
        let told: Vec<String> = shares
            .iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(group, weight)| format!("revision {group}: {weight}"))
            .collect();
        self.journal
            .end(
                begun,
                Verdict::Passed,
                format!("shares of {}", told.join(", ")),
            )
            .await;
    }

    /// Watches the new revision under traffic.
    pub(super) async fn bake(
        &mut self,
        name: &str,
        duration: Duration,
        percent: f64,
    ) -> Result<(), Failure> {
        let begun = self.journal.begin(name, percent).await;
        let bake = Bake::begin(self, duration);
        let baked = bake.watch(self).await;
        let (verdict, reason) = match &baked {
            Ok(seen) => (Verdict::Passed, seen.clone()),
            Err(failure) => (failure.verdict(), failure.reason.clone()),
        };
        self.journal.end(begun, verdict, reason).await;
        baked.map(drop)
    }

    /// Stops so many of the old instances, after their requests.
    pub(super) async fn stop_old(&mut self, name: &str, count: u32, percent: f64) {
        let Some(old) = &mut self.old else { return };
        if count == 0 {
            return;
        }
        let begun = self.journal.begin(name, percent).await;
        let stopped = old.shrink(count).await;
        let drain = old.crew().spec.drain;
        let reason = tell_stopped(self.journal, &stopped, old.revision(), drain).await;
        self.journal.end(begun, Verdict::Passed, reason).await;
    }

    /// Stops all that is left of the old revision.
    pub async fn retire_old(&mut self) {
        self.stop_old("retire the old revision", u32::MAX, 97.0)
            .await;
        if let Some(old) = self.old.take() {
            self.router.forget(old.revision());
        }
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> = self
            .new
            .instances()
            .iter()
            .filter_map(|instance| instance.status().address)
            .map(|address| address.to_string())
            .collect();
        addresses.join(", ")
    }
}

/// Says on record what was cut.
pub async fn tell_stopped(
    journal: &mut Journal,
    stopped: &[Stopped],
    revision: u64,
    drain: Duration,
) -> String {
    let cut: usize = stopped.iter().map(|stopped| stopped.cut_count).sum();
    if cut > 0 {
        journal
            .event(format!(
                "{cut} requests to revision {revision} were still open at the drain deadline of \
                 {drain:?} and were cut"
            ))
            .await;
    }
    let count = stopped.len();
    format!(
        "{count} stopped after their requests{}",
        if cut > 0 { ", some were cut" } else { "" }
    )
}

/// Returns when the change must not go on.
pub async fn stopped(cancel: &CancellationToken, deadline: Instant) -> Failure {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Failure {
            kind: FailureKind::Cancelled,
            reason: "the deployment was cancelled".to_owned(),
        },
        () = tokio::time::sleep_until(deadline) => Failure {
            kind: FailureKind::Deadline,
            reason: "the deadline of the task passed before the revision had proved itself".to_owned(),
        },
    }
}
