//! Replicas of the simulation. Each works on what it read last, which others may have changed since;
//! what it writes is guarded by the version of the row, and by the epoch of the lease. A guard can be
//! taken out, to see that the simulation finds what then goes wrong.

use super::Simulation;
use super::agents::Message;
use crate::plan::event::{Event, Rejected};
use crate::plan::state::State;
use crate::plan::tests::random::Choose;

/// What protects the database from a replica that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    All,
    /// Whoever reports is believed to have the newest lease.
    NoEpoch,
    /// Whoever writes is believed to have read what is there.
    NoVersion,
}

/// A replica, and the workflow as it knows it: with the version that it had then.
#[derive(Debug, Default)]
pub struct Replica {
    pub view: Option<(u64, State)>,
    /// It reaches no database; its leases run out.
    pub cut: bool,
}

impl Simulation {
    /// One that reaches the database.
    pub(super) fn some_replica(&mut self) -> usize {
        let able: Vec<_> = (0..self.replicas.len())
            .filter(|&index| !self.replicas[index].cut)
            .collect();
        self.choose.one_of(&able)
    }

    /// A replica makes a step: it decides by what it knows, and when others were faster it reads
    /// and decides again. `None`: there is nothing to do.
    pub(super) fn commit(
        &mut self,
        replica: usize,
        decide: impl Fn(&State) -> Option<Event>,
    ) -> Option<Result<Event, Rejected>> {
        loop {
            let now = (self.version, &self.world.state);
            let (version, view) = self.replicas[replica]
                .view
                .get_or_insert_with(|| (now.0, now.1.clone()));
            let behind = *version != self.version;
            let mut event = decide(view);
            if self.guards == Guards::NoEpoch {
                event = event.map(|event| believed(event, view));
            }
            if behind && self.guards != Guards::NoVersion {
                self.replicas[replica].view = None;
                self.count("behind");
                continue;
            }
            if behind {
                self.world.state = view.clone();
            }
            let event = event?;
            if let Err(rejected) = self.write(&event) {
                return Some(Err(rejected));
            }
            self.version += 1;
            if !self.calm && self.choose.once_in(20) {
                // The answer is lost: asked again, it loses its race to itself.
                self.count("answer lost");
                self.replicas[replica].view = None;
            } else {
                self.replicas[replica].view = Some((self.version, self.world.state.clone()));
            }
            return Some(Ok(event));
        }
    }

    /// The same with an event that does not hang on what is known.
    pub(super) fn tell(&mut self, event: &Event) -> Result<(), Rejected> {
        let replica = self.some_replica();
        self.commit(replica, |_| Some(event.clone()))
            .map_or(Ok(()), |told| told.map(|_| ()))
    }

    /// A replica loses the database, or finds it again; one always has it.
    pub(super) fn cut_or_heal(&mut self) {
        let replica = self.choose.below(self.replicas.len());
        let able = self.replicas.iter().filter(|replica| !replica.cut).count();
        let cut = &mut self.replicas[replica].cut;
        if *cut || able > 1 {
            *cut = !*cut;
            self.count("cut or healed");
        }
    }

    /// Leases of replicas that are cut run out, and others go on with what runs.
    pub(super) fn take_over(&mut self) {
        for (stage, lease) in self.leases.clone() {
            let state = &self.agents[lease.agent];
            let runs = state.life == lease.life && state.held.contains_key(&stage);
            if self.replicas[lease.owner].cut && runs && !state.frozen {
                self.adopt(&stage);
            }
        }
    }

    /// A replica goes on with an attempt under a newer epoch.
    pub(super) fn adopt(&mut self, stage: &str) {
        let replica = self.some_replica();
        let adopted = self.commit(replica, |view| {
            Some(Event::LeaseAdopted {
                stage: stage.to_owned(),
                epoch: view.next_epoch(stage).unwrap(),
            })
        });
        let Some(Ok(Event::LeaseAdopted { stage, epoch })) = adopted else {
            panic!("{stage} could not be adopted: {adopted:?}");
        };
        let lease = self.leases.get_mut(&stage).unwrap();
        lease.owner = replica;
        let agent = lease.agent;
        self.network.push(Message::Attach {
            agent,
            stage,
            epoch,
        });
        self.count("adopted");
    }
}

// The event as if it came from the holder of the newest lease.
fn believed(mut event: Event, view: &State) -> Event {
    if let Event::ResultAccepted { stage, epoch, .. }
    | Event::AttemptFailed { stage, epoch, .. }
    | Event::AttemptCancelled { stage, epoch }
    | Event::BudgetExhausted { stage, epoch, .. }
    | Event::Refused { stage, epoch, .. } = &mut event
    {
        *epoch = view.stage(stage).unwrap().lease_epoch;
    }
    event
}
