//! Takes the live revision back on somebody's word: the last verified revision before it takes its
//! place, as a deployment of it would, and the one taken back is not gone back to again.

use uuid::Uuid;

use super::{Bounds, Error, Site, State, forensics, releases};
use crate::{
    account::{Account, RollbackAccount},
    fleet::Fleet,
    journal::Journal,
    ledger::{Revision, RevisionState},
    spec::{Spec, TargetKind},
    strategy::{Change, Failure, Strategy},
    verdict::Verdict,
};

/// Somebody wants the live revision taken back.
#[derive(Debug)]
pub struct RollbackOrder {
    /// Idempotency key.
    pub task_key: String,
    /// Which try this is.
    pub attempt: u32,
    /// Why.
    pub reason: String,
    /// What is taken back.
    pub subject: RollbackSubject,
}

/// What a rollback takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackSubject {
    /// Whatever is live.
    Live,
    /// This revision, and none that others put in its place.
    Revision(u64),
    /// Nothing: the deployment that is undone had changed nothing.
    Nothing,
}

impl RollbackSubject {
    /// Why there is nothing to take back from what is live; none: there is.
    fn is_gone(self, live: Option<u64>) -> Option<String> {
        match self {
            Self::Revision(number) if live != Some(number) => {
                Some(format!("revision {number} is not live"))
            }
            Self::Nothing => Some("the deployment had changed nothing".to_owned()),
            Self::Live | Self::Revision(_) => None,
        }
    }
}

/// A rollback that did not come about, and what is left to go on with.
struct Lost {
    failure: Failure,
    old: Option<Fleet>,
    new: Option<Fleet>,
}

impl Site {
    /// Rolls back. The account says what is live now.
    pub async fn rollback(
        &self,
        order: RollbackOrder,
        mut journal: Journal,
        bounds: &Bounds,
    ) -> Result<Account, Error> {
        let started = std::time::Instant::now();
        let mut state = self.turn(bounds).await?;
        if let Some(done) = state.ledger.task(&order.task_key)
            && done.answers(order.attempt)
        {
            journal
                .event("this task was done before: its recorded result is the answer")
                .await;
            return Ok(done.account.clone());
        }
        let deployment_id = Uuid::now_v7().to_string();
        let from = state.ledger.live().map(|revision| revision.number);
        let target = state.ledger.last_verified(from).cloned();
        let mut account = empty_account(&deployment_id, &order.reason);
        account.rollback = Some(RollbackAccount {
            from,
            to: from,
            duration: std::time::Duration::ZERO,
            reason: order.reason.clone(),
        });
        if let Some(why) = order.subject.is_gone(from) {
            account.verdict = Verdict::Passed;
            account.summary = format!("{why}: nothing was taken back");
            self.tell_live(&state, &mut account);
            return Ok(account);
        }
        let Some(target) = target else {
            account.summary = match from {
                Some(from) => format!(
                    "no verified revision to go back to: revision {from} of {} keeps the traffic",
                    self.app
                ),
                None => format!(
                    "no revision of {} was ever verified in {}",
                    self.app, self.environment
                ),
            };
            self.tell_live(&state, &mut account);
            return Ok(account);
        };
        account.commit.clone_from(&target.commit);
        account.target = target.spec.target;
        account.desired_count = target.spec.desired_count;
        // A revision that had to be alone when it came must be alone when it comes back.
        account.strategy = if target.strategy.overlaps() {
            Strategy::BlueGreen
        } else {
            Strategy::Recreate
        };

        let from = from.map(|from| (from, order.reason.as_str()));
        let gone_back = self.go_back(
            &mut state,
            &target,
            from,
            &mut account,
            &mut journal,
            bounds,
        );
        match gone_back.await {
            Ok(fleet) => {
                account.verdict = Verdict::Passed;
                account.summary = format!(
                    "revision {} of {} is live again in {}",
                    target.number, self.app, self.environment
                );
                state.live = Some(fleet);
            }
            Err(lost) => {
                let Lost { failure, old, new } = *lost;
                account.verdict = failure.verdict();
                state.live = self.keep_old(old, new, &mut account).await;
                let now = match &state.live {
                    Some(live) => format!("revision {} keeps the traffic", live.revision()),
                    None => "nothing is live".to_owned(),
                };
                account.summary = format!(
                    "revision {} could not be brought back: {}; {now}",
                    target.number, failure.reason
                );
            }
        }
        let (steps, events) = journal.into_parts();
        account.steps = steps;
        account.events = events;
        self.tell_live(&state, &mut account);
        if let Some(rollback) = &mut account.rollback {
            rollback.to = account.revision;
            rollback.duration = started.elapsed();
        }
        state
            .ledger
            .record_task(&order.task_key, order.attempt, account.clone());
        state.ledger.save().await?;
        Ok(account)
    }

    fn tell_live(&self, state: &State, account: &mut Account) {
        let live = state.live.as_ref();
        account.revision = live.map(Fleet::revision);
        account.live = account.revision;
        account.running_count = live.map_or(0, Fleet::ready_count);
        account.endpoint = live
            .and(state.address)
            .map(|address| self.endpoint(address.port()));
    }

    /// Brings the target into the traffic in place of what is live, and into the books.
    async fn go_back(
        &self,
        state: &mut State,
        target: &Revision,
        from: Option<(u64, &str)>,
        account: &mut Account,
        journal: &mut Journal,
        bounds: &Bounds,
    ) -> Result<Fleet, Box<Lost>> {
        let opened = self.reopen(state).await.map_err(|error| error.to_string());
        let new = match opened.and_then(|()| self.fleet_of(state, target.number, &target.spec)) {
            Ok(new) => new,
            Err(problem) => {
                let failure = Failure::sick(problem);
                return Err(Box::new(Lost {
                    failure,
                    old: state.live.take(),
                    new: None,
                }));
            }
        };
        let mut change = Change {
            router: &self.router,
            old: state.live.take(),
            new,
            journal,
            tracker: &self.tracker,
            cancel: bounds.cancel.clone(),
            deadline: bounds.deadline,
            took_traffic: false,
        };
        let mut carried_out = account.strategy.carry_out(&mut change).await;
        if carried_out.is_ok() {
            let before = state.ledger.clone();
            if let Some((from, reason)) = from {
                state
                    .ledger
                    .given_up(from, RevisionState::RolledBack, reason);
            }
            state.ledger.verified(target.number);
            if let Err(error) = state.ledger.save().await {
                state.ledger = before;
                carried_out = Err(Failure::sick(error.to_string()));
            }
        }
        if let Err(failure) = carried_out {
            return Err(Box::new(Lost {
                failure,
                old: change.old,
                new: Some(change.new),
            }));
        }
        if let Some(old) = &change.old {
            account.forensics =
                forensics::keep(&self.folder, &account.deployment_id, old, &self.router).await;
        }
        change.retire_old().await;
        Ok(change.new)
    }

    /// A person answers for the revision that was left with the traffic: from now on it counts as
    /// verified. None: no such revision waits.
    pub async fn keep_held(
        &self,
        reason: &str,
        bounds: &Bounds,
    ) -> Result<Option<(u64, String)>, Error> {
        let mut state = self.turn(bounds).await?;
        let held = state
            .ledger
            .live()
            .filter(|live| live.state == RevisionState::Failed);
        let Some(number) = held.map(|held| held.number) else {
            return Ok(None);
        };
        state.ledger.verified(number);
        state.ledger.save().await?;
        tracing::info!(app = %self.app, revision = number, %reason, "kept on a person's word");
        let endpoint = state.address.map(|address| self.endpoint(address.port()));
        Ok(Some((number, endpoint.unwrap_or_default())))
    }

    fn fleet_of(&self, state: &State, number: u64, spec: &Spec) -> Result<Fleet, String> {
        if !releases::is_kept(&self.folder, &state.ledger, number) {
            return Err(format!("the release of revision {number} is gone"));
        }
        self.crew(number, spec.clone(), false)
            .map(Fleet::new)
            .map_err(|missing| missing.to_string())
    }

    /// The rollback failed: what was live stays live.
    async fn keep_old(
        &self,
        old: Option<Fleet>,
        new: Option<Fleet>,
        account: &mut Account,
    ) -> Option<Fleet> {
        let shares: Vec<_> = old.iter().map(|old| (old.revision(), 1)).collect();
        self.router.set_shares(&shares);
        if let Some(mut new) = new {
            account.forensics =
                forensics::keep(&self.folder, &account.deployment_id, &new, &self.router).await;
            new.stop().await;
        }
        let mut old = old?;
        if let Err(problem) = old.complete(&self.tracker).await {
            tracing::error!(revision = old.revision(), %problem, "the live revision does not come back");
        }
        Some(old)
    }
}

fn empty_account(deployment_id: &str, reason: &str) -> Account {
    Account {
        verdict: Verdict::NotProven,
        summary: reason.to_owned(),
        deployment_id: deployment_id.to_owned(),
        revision: None,
        live: None,
        commit: String::new(),
        endpoint: None,
        desired_count: 0,
        running_count: 0,
        failed_count: 0,
        strategy: Strategy::BlueGreen,
        target: TargetKind::Process,
        steps: Vec::new(),
        events: Vec::new(),
        already_live: false,
        failed_request_count: 0,
        prerequisites: Vec::new(),
        rollback: None,
        needs_person: false,
        forensics: Vec::new(),
    }
}
