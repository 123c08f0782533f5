//! Takes a failed change back: keeps the evidence, makes the last verified revision of the ledger
//! live again, and only then ends what failed. Where a migration cannot be undone, the sick revision
//! keeps the traffic and a person is asked.

use std::time::{Duration, Instant};

use super::{Site, State, forensics, releases};
use crate::{
    fleet::Fleet,
    journal::Journal,
    strategy::{Failure, change::tell_stopped},
    supervisor::{Instance, Phase, Status},
    verdict::Verdict,
};

/// Time for a dying instance to be noticed, once its users are elsewhere.
const CAUSE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A change that is not carried on with.
pub(super) struct Undo<'a> {
    pub(super) old: Option<Fleet>,
    pub(super) new: Fleet,
    pub(super) took_traffic: bool,
    pub(super) deployment_id: &'a str,
    pub(super) failure: &'a Failure,
}

/// What became of it.
pub(super) struct Restored {
    /// What is live now.
    pub(super) live: Option<u64>,
    /// The new revision keeps the traffic until a person decides.
    pub(super) held: bool,
    /// Why what should be live again is not.
    pub(super) broken: Option<String>,
    /// What an instance itself suffered from, where the failure only tells how it showed.
    pub(super) cause: Option<String>,
    pub(super) failed_count: u32,
    pub(super) forensics: Vec<String>,
    pub(super) duration: Duration,
}

impl Restored {
    /// The change had not touched anything yet.
    pub(super) fn untouched(live: Option<u64>) -> Self {
        Self {
            live,
            held: false,
            broken: None,
            cause: None,
            failed_count: 0,
            forensics: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    pub(super) fn sentence(&self) -> String {
        match (&self.broken, self.live) {
            (_, Some(live)) if self.held => format!(
                "revision {live} keeps the traffic, because its migration cannot be undone: a \
                 person must decide"
            ),
            (Some(problem), None) => format!("nothing is live: {problem}"),
            (Some(problem), Some(live)) => {
                format!("revision {live} has the traffic, but {problem}")
            }
            (None, Some(live)) => format!("revision {live} is live"),
            (None, None) => "nothing is live".to_owned(),
        }
    }
}

impl Site {
    pub(super) async fn restore(
        &self,
        state: &mut State,
        undo: Undo<'_>,
        journal: &mut Journal,
    ) -> Restored {
        let started = Instant::now();
        let Undo {
            old,
            mut new,
            took_traffic,
            deployment_id,
            failure,
        } = undo;
        let number = new.revision();
        let kept = forensics::keep(&self.folder, deployment_id, &new, &self.router).await;
        journal
            .event(format!(
                "kept the evidence of revision {number}: {} files",
                kept.len()
            ))
            .await;
        let mut restored = Restored {
            failed_count: failed_count(&new),
            forensics: kept,
            ..Restored::untouched(None)
        };

        if new.crew().spec.irreversible_migration && took_traffic && old.is_some() {
            self.hold(state, old, new, journal).await;
            restored.live = Some(number);
            restored.held = true;
            restored.duration = started.elapsed();
            return restored;
        }

        let begun = journal.begin("roll back", 95.0).await;
        let live = self.bring_back(state, old, &mut new, journal).await;
        // Users are served again, so there is time to find out why.
        restored.cause = self.cause(&new, failure).await;
        let stopped = new.stop().await;
        let drain = new.crew().spec.drain;
        tell_stopped(journal, &stopped, number, drain).await;
        self.router.forget(number);
        match live {
            Ok(live) => {
                state.ledger.set_live(live.as_ref().map(Fleet::revision));
                restored.live = live.as_ref().map(Fleet::revision);
                state.live = live;
            }
            Err((problem, live)) => {
                state.ledger.set_live(live.as_ref().map(Fleet::revision));
                restored.live = live.as_ref().map(Fleet::revision);
                restored.broken = Some(problem);
                state.live = live;
            }
        }
        if state.live.is_none() {
            self.router.set_vacant_reason(format!(
                "revision {number} was given up: {}",
                failure.reason
            ));
        }
        let verdict = if restored.broken.is_none() {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        journal.end(begun, verdict, restored.sentence()).await;
        restored.duration = started.elapsed();
        restored
    }

    /// Makes the last verified revision take the traffic.
    async fn bring_back(
        &self,
        state: &State,
        old: Option<Fleet>,
        new: &mut Fleet,
        journal: &mut Journal,
    ) -> Result<Option<Fleet>, (String, Option<Fleet>)> {
        let target = state
            .ledger
            .last_verified(Some(new.revision()))
            .map(|revision| (revision.number, revision.spec.clone()));
        let mut old = old;
        let Some((number, spec)) = target else {
            self.router.set_shares(&[]);
            if let Some(mut old) = old {
                old.stop().await;
            }
            return Ok(None);
        };
        let mut fleet = match old.take() {
            Some(fleet) if fleet.revision() == number => fleet,
            other => {
                old = other;
                if !releases::is_kept(&self.folder, &state.ledger, number) {
                    return Err((format!("the release of revision {number} is gone"), old));
                }
                match self.crew(number, spec, false) {
                    Ok(crew) => Fleet::new(crew),
                    Err(missing) => return Err((missing.to_string(), old)),
                }
            }
        };
        if fleet.ready_count() > 0 {
            // What runs takes over at once; what is missing of it follows.
            self.router.set_shares(&[(number, 1)]);
        } else {
            // It may need what the new revision holds, such as a port or a lock.
            self.router.set_shares(&[]);
            let stopped = new.stop().await;
            let drain = new.crew().spec.drain;
            tell_stopped(journal, &stopped, new.revision(), drain).await;
        }
        let completed = fleet.complete(&self.tracker).await;
        self.router.set_shares(&[(number, 1)]);
        if let Some(mut other) = old {
            other.stop().await;
        }
        match completed {
            Ok(()) => Ok(Some(fleet)),
            Err(problem) => Err((
                format!("revision {number} does not come back: {problem}"),
                Some(fleet),
            )),
        }
    }

    /// What an instance of the failed revision suffered from, where that says more than the failure.
    /// Failing requests and probes are noticed before the end of a dying instance is, so it gets a
    /// moment.
    async fn cause(&self, new: &Fleet, failure: &Failure) -> Option<String> {
        let statuses = || new.instances().iter().map(Instance::status);
        // In trouble, and its run is not over yet.
        let is_unsettled =
            |status: &Status| status.phase == Phase::Restarting && status.restart_count == 0;
        let broke_off = self.router.group_sample(new.revision()).transport_errors > 0;
        let noticed = async {
            while statuses().any(|status| is_unsettled(&status))
                || (broke_off && statuses().all(|status| status.problem.is_none()))
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Nothing noticed within the time is an answer too.
        let _ = tokio::time::timeout(CAUSE_WITHIN, noticed).await;
        new.instances().iter().find_map(|instance| {
            let problem = instance.status().problem?;
            let is_new = !failure.reason.contains(&problem);
            is_new.then(|| format!("instance {}: {problem}", instance.number()))
        })
    }

    /// Leaves the traffic with the new revision; the old one cannot live with its data.
    async fn hold(&self, state: &mut State, old: Option<Fleet>, new: Fleet, journal: &mut Journal) {
        let number = new.revision();
        self.router.set_shares(&[(number, 1)]);
        if let Some(mut old) = old {
            let stopped = old.stop().await;
            tell_stopped(journal, &stopped, old.revision(), old.crew().spec.drain).await;
        }
        journal
            .event(format!(
                "revision {number} keeps the traffic: its migration cannot be undone, a person must decide"
            ))
            .await;
        state.ledger.set_live(Some(number));
        state.live = Some(new);
    }
}

fn failed_count(fleet: &Fleet) -> u32 {
    let failed = fleet
        .instances()
        .iter()
        .map(Instance::status)
        .filter(|status| status.phase == Phase::Failed || status.problem.is_some())
        .count();
    u32::try_from(failed).unwrap_or(u32::MAX)
}
