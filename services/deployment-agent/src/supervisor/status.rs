//! What is known of an instance at one moment.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    probe::{Observation, Outcome},
    target::End,
};

/// Probes that are kept as evidence.
const KEPT_PROBES: usize = 8;

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Started, not ready yet, for the first time.
    #[default]
    Starting,
    /// Takes traffic.
    Ready,
    /// Was ready once, and is being started again.
    Restarting,
    /// Given up: it never got ready, or crashed too often.
    Failed,
    /// Stopped because somebody asked for it.
    Stopped,
}

impl Phase {
    /// Nothing runs and nothing will.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Stopped)
    }
}

/// What is known of an instance.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// How often it was started again.
    pub restart_count: u32,
    /// The last thing that went wrong, in one sentence.
    pub problem: Option<String>,
    /// How its last run ended.
    pub end: Option<End>,
    /// Probes that passed, over all its life.
    pub pass_count: u64,
    /// The last probes, oldest first.
    pub probes: VecDeque<Observation>,
    /// Requests that were cut when it was taken out.
    pub cut_count: usize,
}

impl Status {
    pub(super) fn note(&mut self, observation: Observation) {
        if observation.outcome == Outcome::Pass {
            self.pass_count += 1;
        }
        if self.probes.len() == KEPT_PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(observation);
    }
}
