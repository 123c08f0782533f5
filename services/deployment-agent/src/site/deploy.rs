//! Deploys a revision: prerequisites, intent in the ledger, release, strategy, and then either the
//! books say that it is live and verified, or what was live before is live again.

use std::{net::SocketAddr, sync::Arc};

use uuid::Uuid;

use super::{
    Bounds, Error, Site, Source, State, releases,
    restore::{Restored, Undo},
};
use crate::{
    account::{Account, Prerequisite, RollbackAccount, worst},
    fleet::Fleet,
    journal::Journal,
    ledger::{Begin, RevisionState},
    router,
    spec::Spec,
    strategy::{Change, Failure, Strategy},
    verdict::Verdict,
};

/// What somebody wants to be deployed.
pub struct Order {
    /// Idempotency key.
    pub task_key: String,
    /// Which try this is.
    pub attempt: u32,
    /// What is to run.
    pub asked: Spec,
    /// How it follows what runs now.
    pub strategy: Strategy,
    /// Port of the router. None: the one the app has, else a free one.
    pub port: Option<u16>,
    /// Ports that are promised to other apps.
    pub ports_of_others: Vec<u16>,
    /// Where the code comes from.
    pub source: Arc<dyn Source>,
}

/// How the change ended.
enum Ended {
    Live,
    GivenUp(Failure, Restored),
}

impl Site {
    /// Deploys. An account tells how it went, whatever happened; an error means that nothing was
    /// begun, or that the books cannot be kept.
    pub async fn deploy(
        &self,
        order: Order,
        mut journal: Journal,
        bounds: &Bounds,
    ) -> Result<Account, Error> {
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
        if let Some(account) = self.already_live(&state, &order, &deployment_id) {
            return Ok(account);
        }

        let mut prerequisites = self.prerequisites(&state, &order.asked, order.port).await;
        let before = state.address;
        if worst(&prerequisites) == Verdict::Passed {
            match self.open_router(&mut state, &order).await {
                Ok(address) => {
                    journal
                        .event(format!("the router listens on {address}"))
                        .await;
                }
                Err(error) => prerequisites.push(Prerequisite {
                    name: "port of the router".to_owned(),
                    verdict: Verdict::Failed,
                    reason: error.to_string(),
                }),
            }
        }
        if worst(&prerequisites) != Verdict::Passed {
            let mut account = self.account(&state, &order, &deployment_id, journal);
            account.verdict = worst(&prerequisites);
            account.summary = refused(&prerequisites);
            account.prerequisites = prerequisites;
            return Ok(account);
        }

        let begin = Begin {
            deployment_id: deployment_id.clone(),
            task_key: order.task_key.clone(),
            strategy: order.strategy.clone(),
            spec: order.asked.clone(),
        };
        let number = state.ledger.begin(begin);
        if let Err(error) = state.ledger.save().await {
            self.return_port(&mut state, before);
            return Err(error.into());
        }
        let had_live = state.live.is_some();
        let totals = self.router.totals();
        let ended = self
            .change_over(
                &mut state,
                number,
                &order,
                &deployment_id,
                &mut journal,
                bounds,
            )
            .await;
        match &ended {
            Ended::Live => {
                if let Some(before) = before.filter(|before| Some(*before) != state.address) {
                    self.router.close(before);
                }
            }
            Ended::GivenUp(..) => self.return_port(&mut state, before),
        }

        let seen = self.router.totals().since(&totals);
        let mut account = self.account(&state, &order, &deployment_id, journal);
        account.revision = Some(number);
        account.prerequisites = prerequisites;
        // Before anything was live, a refusal is no failure of the switch.
        account.failed_request_count = seen.failed + if had_live { seen.vacant } else { 0 };
        conclude(&mut account, self, number, ended);
        state
            .ledger
            .record_task(&order.task_key, order.attempt, account.clone());
        state.ledger.save().await?;
        let images =
            releases::prune(&self.folder, &state.ledger, self.settings.kept_releases).await;
        if let Ok(engine) = self.targets.engine() {
            engine.forget(&images).await;
        }
        Ok(account)
    }

    async fn change_over(
        &self,
        state: &mut State,
        number: u64,
        order: &Order,
        deployment_id: &str,
        journal: &mut Journal,
        bounds: &Bounds,
    ) -> Ended {
        let prepared = self.prepare(state, number, order, journal, bounds).await;
        let new = prepared.and_then(|spec| {
            self.crew(number, spec, false)
                .map(Fleet::new)
                .map_err(|missing| Failure::sick(missing.to_string()))
        });
        let new = match new {
            Ok(new) => new,
            Err(failure) => {
                let state_of_it = RevisionState::Failed;
                state.ledger.given_up(number, state_of_it, &failure.reason);
                let live = state.live.as_ref().map(Fleet::revision);
                return Ended::GivenUp(failure, Restored::untouched(live));
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
        let carried_out = match order.strategy.carry_out(&mut change).await {
            Ok(()) => {
                state.ledger.verified(number);
                // Only what is in the books may take the place of what is in the books.
                state
                    .ledger
                    .save()
                    .await
                    .map_err(|error| Failure::sick(format!("it proved itself, but {error}")))
            }
            Err(failure) => Err(failure),
        };
        match carried_out {
            Ok(()) => {
                change.retire_old().await;
                state.live = Some(change.new);
                Ended::Live
            }
            Err(failure) => {
                state
                    .ledger
                    .given_up(number, RevisionState::Failed, &failure.reason);
                let Change {
                    old,
                    new,
                    took_traffic,
                    ..
                } = change;
                let undo = Undo {
                    old,
                    new,
                    took_traffic,
                    deployment_id,
                    failure: &failure,
                };
                let restored = self.restore(state, undo, journal).await;
                Ended::GivenUp(failure, restored)
            }
        }
    }

    async fn prepare(
        &self,
        state: &mut State,
        number: u64,
        order: &Order,
        journal: &mut Journal,
        bounds: &Bounds,
    ) -> Result<Spec, Failure> {
        let begun = journal.begin("prepare the release", 5.0).await;
        let folder = releases::folder(&self.folder, number, &order.asked);
        let mut spec = order.asked.clone();
        let prepared = match tokio::fs::create_dir_all(&folder).await {
            Ok(()) => {
                order
                    .source
                    .prepare(&folder, &mut spec, journal, bounds)
                    .await
            }
            Err(error) => Err(Failure::sick(format!(
                "cannot make the folder of the release: {error}"
            ))),
        };
        let (verdict, reason) = match &prepared {
            Ok(done) => (Verdict::Passed, done.clone()),
            Err(failure) => (failure.verdict(), failure.reason.clone()),
        };
        journal.end(begun, verdict, reason).await;
        prepared?;
        state.ledger.respecify(number, spec.clone());
        Ok(spec)
    }

    fn already_live(&self, state: &State, order: &Order, deployment_id: &str) -> Option<Account> {
        let live = state.ledger.live()?;
        let fleet = state.live.as_ref()?;
        let same_port = order
            .port
            .is_none_or(|port| Some(port) == state.ledger.port);
        let is_same = live.state == RevisionState::Verified
            && live.asked == order.asked.fingerprint()
            && fleet.revision() == live.number
            && fleet.is_whole()
            && same_port;
        if !is_same {
            return None;
        }
        let mut account = self.account(state, order, deployment_id, Journal::new(None));
        account.deployment_id.clone_from(&live.deployment_id);
        account.revision = Some(live.number);
        // An attempt of this very task that died after it was done did it.
        account.already_live = live.task_key != order.task_key;
        account.verdict = Verdict::Passed;
        account.summary = format!(
            "revision {} of {} in {} is live already; nothing was done",
            live.number, self.app, self.environment
        );
        Some(account)
    }

    /// Makes the router listen where it is wanted; keeps what it listens on already.
    async fn open_router(
        &self,
        state: &mut State,
        order: &Order,
    ) -> Result<SocketAddr, router::Error> {
        let at = |port| SocketAddr::new(self.settings.listen, port);
        let wanted = order.port.or(state.ledger.port);
        if let Some(address) = state.address
            && wanted.is_none_or(|port| port == address.port())
        {
            return Ok(address);
        }
        let address = match wanted {
            Some(port) => self.router.listen(at(port)).await?,
            None => self.listen_on_a_free_port(&order.ports_of_others).await?,
        };
        self.remember_port(state, address);
        Ok(address)
    }

    async fn listen_on_a_free_port(&self, others: &[u16]) -> Result<SocketAddr, router::Error> {
        let range = self.settings.router_ports.clone();
        let mut last =
            router::Error::PortTaken(SocketAddr::new(self.settings.listen, *range.end()));
        for port in range.filter(|port| !others.contains(port)) {
            match self
                .router
                .listen(SocketAddr::new(self.settings.listen, port))
                .await
            {
                Ok(address) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// After a failure the router listens where it did before, or nowhere.
    fn return_port(&self, state: &mut State, before: Option<SocketAddr>) {
        let now = state.address;
        if now == before {
            return;
        }
        if let Some(now) = now {
            self.router.close(now);
        }
        state.address = before;
        state.ledger.port = before.map(|before| before.port());
        self.port.store(
            state.ledger.port.unwrap_or_default(),
            std::sync::atomic::Ordering::Relaxed,
        );
    }

    pub(super) fn account(
        &self,
        state: &State,
        order: &Order,
        deployment_id: &str,
        journal: Journal,
    ) -> Account {
        let (steps, events) = journal.into_parts();
        let live = state.live.as_ref();
        Account {
            verdict: Verdict::NotProven,
            summary: String::new(),
            deployment_id: deployment_id.to_owned(),
            revision: None,
            live: live.map(Fleet::revision),
            commit: order.asked.commit.clone(),
            endpoint: live
                .and(state.address)
                .map(|address| self.endpoint(address.port())),
            desired_count: order.asked.desired_count,
            running_count: live.map_or(0, Fleet::ready_count),
            failed_count: live.map_or(0, Fleet::failed_count),
            strategy: order.strategy.clone(),
            target: order.asked.target,
            steps,
            events,
            already_live: false,
            failed_request_count: 0,
            prerequisites: Vec::new(),
            rollback: None,
            needs_person: false,
            forensics: Vec::new(),
        }
    }
}

fn conclude(account: &mut Account, site: &Site, number: u64, ended: Ended) {
    let (app, environment) = (&site.app, &site.environment);
    match ended {
        Ended::Live => {
            let endpoint = account.endpoint.as_deref().unwrap_or_default();
            account.verdict = Verdict::Passed;
            account.summary =
                format!("revision {number} of {app} is live in {environment} at {endpoint}");
        }
        Ended::GivenUp(failure, restored) => {
            account.verdict = failure.verdict();
            if restored.held || restored.broken.is_some() {
                account.verdict = Verdict::Failed;
            }
            account.needs_person = restored.held;
            account.failed_count = restored.failed_count;
            let reason = match &restored.cause {
                Some(cause) => format!("{}; {cause}", failure.reason),
                None => failure.reason,
            };
            account.summary = format!(
                "revision {number} of {app} was given up in {environment}: {reason}; {}",
                restored.sentence()
            );
            if !restored.held {
                account.rollback = Some(RollbackAccount {
                    from: Some(number),
                    to: restored.live,
                    duration: restored.duration,
                    reason,
                });
            }
            account.forensics = restored.forensics;
        }
    }
}

fn refused(prerequisites: &[Prerequisite]) -> String {
    let missing: Vec<String> = prerequisites
        .iter()
        .filter(|found| found.verdict != Verdict::Passed)
        .map(|found| format!("{}: {}", found.name, found.reason))
        .collect();
    format!("nothing was deployed; missing: {}", missing.join("; "))
}
