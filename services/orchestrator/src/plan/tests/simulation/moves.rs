//! What servers, agents, people and the network of the simulation may do next.

use contracts::id::{DecisionId, InstanceId};

use super::agents::{End, Held, Message};
use super::{Lease, Simulation};
use crate::plan::event::{Event, Rejected, Resolution};
use crate::plan::state::{TaskState, WorkflowState};
use crate::plan::tests::random::Choose;
use crate::plan::tests::resolved;

impl Simulation {
    /// A replica leases a waiting task to an agent.
    pub(super) fn claim(&mut self) {
        let replica = self.some_replica();
        let (turn, late) = (
            self.choose.below(1000),
            !self.calm && self.choose.once_in(40),
        );
        let claimed = self.commit(replica, |view| {
            let mut waiting: Vec<_> = view
                .stages
                .iter()
                .filter(|stage| stage.task == TaskState::Waiting)
                .collect();
            if waiting.is_empty() {
                return None;
            }
            let stage = waiting.swap_remove(turn % waiting.len());
            Some(if late {
                Event::ScheduleTimedOut {
                    stage: stage.name.clone(),
                }
            } else {
                Event::LeaseGranted {
                    stage: stage.name.clone(),
                    epoch: stage.lease_epoch + 1,
                    instance: InstanceId::new(),
                }
            })
        });
        match claimed.map(Result::unwrap) {
            Some(Event::LeaseGranted { stage, epoch, .. }) => {
                let agent = self.choose.below(self.agents.len());
                let lease = Lease {
                    agent,
                    life: self.agents[agent].life,
                    owner: replica,
                };
                self.leases.insert(stage.clone(), lease);
                let generation = self.world.tasks[&stage].generation;
                self.network.push(Message::Execute {
                    agent,
                    stage,
                    epoch,
                    generation,
                });
            }
            Some(_) => self.count("not taken"),
            None => {}
        }
    }

    /// Some message arrives: in whatever order, and in a storm perhaps twice or never.
    pub(super) fn pass_a_message(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let index = self.choose.below(self.network.len());
        let message = if !self.calm && self.choose.once_in(8) {
            self.count("doubled");
            self.network[index].clone()
        } else {
            self.network.swap_remove(index)
        };
        if !self.calm && self.choose.once_in(10) {
            self.count("dropped");
        } else {
            self.deliver(message);
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let calm = self.calm;
        match message {
            Message::Report {
                agent,
                stage,
                epoch,
                end,
            } => self.report(agent, stage, epoch, end),
            other => {
                let full = !calm && self.choose.once_in(10);
                if let Some(answer) = self.agents[other.agent()].take(other, full) {
                    self.network.push(answer);
                }
            }
        }
    }

    /// Some replica takes in how an attempt ended; a stale one is told to stop.
    fn report(&mut self, agent: usize, stage: String, epoch: i64, end: End) {
        match self.tell(&end.event(&stage, epoch)) {
            Ok(()) => {
                let lease = self.leases.remove(&stage).expect("a lease");
                assert_eq!(agent, lease.agent, "{stage} {epoch} is another agent's");
                self.agents[agent].release(&stage, epoch);
                self.count("reported");
            }
            Err(Rejected::StaleLease { .. } | Rejected::AlreadyFinished(_)) => {
                self.count("stale");
                self.network.push(Message::Stop {
                    agent,
                    stage,
                    epoch,
                });
            }
            Err(rejected) => panic!("{stage} {epoch}: {rejected}"),
        }
    }

    /// Some agent finishes some attempt; it keeps the result until it is released.
    pub(super) fn work(&mut self) {
        let agent = self.choose.below(self.agents.len());
        let unfinished: Vec<_> = self.agents[agent]
            .held
            .iter()
            .filter(|(_, held)| held.end.is_none())
            .map(|(stage, _)| stage.clone())
            .collect();
        if self.agents[agent].frozen || unfinished.is_empty() {
            return;
        }
        let stage = self.choose.one_of(&unfinished);
        let end = End::by_chance(&mut self.choose, self.calm);
        if let Some(held) = self.agents[agent].held.get_mut(&stage) {
            held.end = Some(end.clone());
            let epoch = held.epoch;
            self.network.push(Message::Report {
                agent,
                stage,
                epoch,
                end,
            });
        }
    }

    /// Agents report once more what nobody has taken in.
    pub(super) fn resend(&mut self) {
        for (agent, state) in self.agents.iter().enumerate() {
            if state.frozen {
                continue;
            }
            for (stage, Held { epoch, end, .. }) in &state.held {
                if let Some(end) = end {
                    self.network.push(Message::Report {
                        agent,
                        stage: stage.clone(),
                        epoch: *epoch,
                        end: end.clone(),
                    });
                }
            }
        }
    }

    pub(super) fn crash_an_agent(&mut self) {
        let agent = self.choose.below(self.agents.len());
        self.agents[agent].crash();
        self.count("agent crashed");
    }

    pub(super) fn freeze_or_thaw(&mut self) {
        let agent = self.choose.below(self.agents.len());
        self.agents[agent].frozen = !self.agents[agent].frozen;
    }

    /// All replicas die with everything they had in hand; others adopt what runs.
    pub(super) fn crash_the_servers(&mut self) {
        let choose = &mut self.choose;
        self.network.retain(|_| !choose.once_in(2));
        for replica in &mut self.replicas {
            replica.view = None;
        }
        for (stage, Lease { agent, life, .. }) in self.leases.clone() {
            let state = &self.agents[agent];
            if state.life == life && state.held.contains_key(&stage) && !state.frozen {
                self.adopt(&stage);
            }
        }
    }

    /// Leases that nobody works for any more are taken away.
    pub(super) fn expire_leases(&mut self) {
        for (stage, Lease { agent, life, .. }) in self.leases.clone() {
            let state = &self.agents[agent];
            let works = state.life == life && !state.frozen && state.held.contains_key(&stage);
            let under_way = self.network.iter().any(|message| message.is_about(&stage));
            if !works && !under_way {
                self.lose(&stage);
            }
        }
    }

    /// Beats got lost: an agent at work is taken for dead. It must be fenced.
    pub(super) fn suspect_the_living(&mut self) {
        let leased: Vec<_> = self.leases.keys().cloned().collect();
        if !leased.is_empty() {
            let stage = self.choose.one_of(&leased);
            self.lose(&stage);
        }
    }

    fn lose(&mut self, stage: &str) {
        self.leases.remove(stage);
        let replica = self.some_replica();
        let lost = self.commit(replica, |view| {
            Some(Event::AttemptLost {
                stage: stage.to_owned(),
                epoch: view.stage(stage).unwrap().lease_epoch,
                reason: "no beat".into(),
            })
        });
        lost.unwrap().unwrap();
        self.count("lost");
    }

    pub(super) fn people(&mut self) {
        let reason = String::new();
        let state = &self.world.state;
        if state.is_terminal() {
            if state.workflow != WorkflowState::Succeeded && self.choose.once_in(2) {
                let stages: Vec<_> = state.stages.iter().map(|stage| &stage.name).collect();
                let from_stage = self.choose.one_of(&[true, false]);
                let from_stage = from_stage.then(|| self.choose.one_of(&stages).clone());
                self.tell(&Event::RetryRequested { from_stage }).unwrap();
                self.count("retried");
            }
            return;
        }
        if state.paused || state.awaiting_budget {
            self.count("resumed");
            self.tell(&Event::Resumed { reason }).unwrap();
        } else if let Some((stage, Some(decision_id))) = self.decision() {
            self.decide(&stage, decision_id);
        } else if let Some(&clarification_id) = self.world.clarifications.first() {
            self.count("clarification");
            let event = match self.choose.below(4) {
                0 => Event::ClarificationExpired { clarification_id },
                _ => Event::ClarificationAnswered { clarification_id },
            };
            self.tell(&event).unwrap();
        } else if !self.calm {
            let event = match self.choose.below(60) {
                0 => Event::CancelRequested { reason },
                1 => Event::WorkflowTimedOut,
                2 | 3 => Event::Paused { reason },
                _ => return,
            };
            // An undo cannot be cancelled or paused.
            let _ = self.tell(&event);
        }
    }

    fn decision(&mut self) -> Option<(String, Option<DecisionId>)> {
        let open: Vec<_> = self.world.decisions.clone().into_iter().collect();
        (!open.is_empty()).then(|| self.choose.one_of(&open))
    }

    fn decide(&mut self, stage: &str, decision_id: DecisionId) {
        let after_run = self
            .world
            .state
            .stage(stage)
            .unwrap()
            .question
            .unwrap()
            .after_run;
        let resolution = match self.choose.below(6) {
            0 => Resolution::Reject,
            1 if after_run.is_some() && !self.calm => Resolution::Revise,
            // People, too, end sometime.
            _ if self.calm && self.choose.once_in(3) => Resolution::Reject,
            _ => Resolution::Approve,
        };
        self.tell(&resolved(stage, decision_id, resolution))
            .unwrap();
    }
}
