//! Agents of the simulation, and what travels between them and the servers: a toy of the lease
//! protocol. An agent follows the newest epoch it has seen, and keeps a result until it is released.

use std::collections::BTreeMap;

use contracts::id::ClarificationId;

use crate::plan::event::{ErrorClass, Event, StageOutcome};
use crate::plan::tests::random::{Choose, stage_outcome};

/// Something under way. It may arrive late, twice, or never.
#[derive(Debug, Clone)]
pub enum Message {
    /// Run a task.
    Execute {
        agent: usize,
        stage: String,
        epoch: i64,
        generation: u32,
    },
    /// Go on under a newer epoch.
    Attach {
        agent: usize,
        stage: String,
        epoch: i64,
    },
    /// Stop what runs under this epoch or an older one.
    Stop {
        agent: usize,
        stage: String,
        epoch: i64,
    },
    /// An attempt is over.
    Report {
        agent: usize,
        stage: String,
        epoch: i64,
        end: End,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum End {
    Refused,
    Result(StageOutcome),
    Error(ErrorClass),
    Stopped,
    NoBudget,
    Question(ClarificationId),
}

/// An attempt that an agent has.
#[derive(Debug, Clone)]
pub struct Held {
    pub epoch: i64,
    pub generation: u32,
    pub end: Option<End>,
}

#[derive(Debug, Default)]
pub struct Agent {
    /// Grows with every crash.
    pub life: u32,
    pub frozen: bool,
    pub held: BTreeMap<String, Held>,
}

impl Message {
    pub fn agent(&self) -> usize {
        match self {
            Self::Execute { agent, .. }
            | Self::Attach { agent, .. }
            | Self::Stop { agent, .. }
            | Self::Report { agent, .. } => *agent,
        }
    }

    pub fn is_about(&self, wanted: &str) -> bool {
        match self {
            Self::Execute { stage, .. }
            | Self::Attach { stage, .. }
            | Self::Stop { stage, .. }
            | Self::Report { stage, .. } => stage == wanted,
        }
    }
}

impl Agent {
    pub fn crash(&mut self) {
        self.life += 1;
        self.frozen = false;
        self.held.clear();
    }

    /// The result was taken in.
    pub fn release(&mut self, stage: &str, epoch: i64) {
        if self.held.get(stage).is_some_and(|held| held.epoch <= epoch) {
            self.held.remove(stage);
        }
    }

    /// What a frozen agent is told is lost with the connection.
    pub fn take(&mut self, message: Message, full: bool) -> Option<Message> {
        if self.frozen {
            return None;
        }
        match message {
            Message::Execute {
                agent,
                stage,
                epoch,
                generation,
            } => self.execute(agent, stage, epoch, generation, full),
            Message::Attach {
                agent,
                stage,
                epoch,
            } => {
                let held = self.held.get_mut(&stage)?;
                held.epoch = held.epoch.max(epoch);
                let end = held.end.clone()?;
                let epoch = held.epoch;
                Some(Message::Report {
                    agent,
                    stage,
                    epoch,
                    end,
                })
            }
            Message::Stop {
                agent,
                stage,
                epoch,
            } => {
                let epoch = self
                    .held
                    .get(&stage)
                    .filter(|held| held.epoch <= epoch)?
                    .epoch;
                self.held.remove(&stage);
                Some(Message::Report {
                    agent,
                    stage,
                    epoch,
                    end: End::Stopped,
                })
            }
            Message::Report { .. } => None,
        }
    }

    /// A newer epoch of the same work goes on with it; other work takes its place.
    fn execute(
        &mut self,
        agent: usize,
        stage: String,
        epoch: i64,
        generation: u32,
        full: bool,
    ) -> Option<Message> {
        match self.held.get_mut(&stage) {
            Some(held) if held.epoch >= epoch => None,
            Some(held) if held.generation == generation => {
                held.epoch = epoch;
                None
            }
            None if full => Some(Message::Report {
                agent,
                stage,
                epoch,
                end: End::Refused,
            }),
            _ => {
                let held = Held {
                    epoch,
                    generation,
                    end: None,
                };
                self.held.insert(stage, held);
                None
            }
        }
    }
}

impl End {
    /// In calm weather agents neither ask nor run out of anything.
    pub fn by_chance(choose: &mut impl Choose, calm: bool) -> Self {
        match choose.below(if calm { 20 } else { 24 }) {
            0 => Self::Error(ErrorClass::Retryable),
            1 => Self::Error(choose.one_of(&[ErrorClass::TimedOut, ErrorClass::Permanent])),
            20 | 21 => Self::NoBudget,
            22 => Self::Question(ClarificationId::new()),
            _ => Self::Result(stage_outcome(choose)),
        }
    }

    pub fn event(self, stage: &str, epoch: i64) -> Event {
        let stage = stage.to_owned();
        let reason = "chance".to_owned();
        match self {
            Self::Refused => Event::Refused {
                stage,
                epoch,
                reason,
            },
            Self::Result(outcome) => Event::ResultAccepted {
                stage,
                epoch,
                outcome,
            },
            Self::Error(class) => Event::AttemptFailed {
                stage,
                epoch,
                class,
                reason,
                retry_after: None,
            },
            Self::Stopped => Event::AttemptCancelled { stage, epoch },
            Self::NoBudget => Event::BudgetExhausted {
                stage,
                epoch,
                reason,
            },
            Self::Question(clarification_id) => Event::ClarificationAsked {
                stage: Some(stage),
                epoch: Some(epoch),
                clarification_id,
            },
        }
    }
}
