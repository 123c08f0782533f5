//! Looks at an instance from outside, as its users would, and judges what was seen. What could not
//! be looked at is no data: it holds a decision up and never counts as healthy.

mod look;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::look::{http, tcp};
use crate::spec::ProbeRule;

/// Bytes of a body that are kept as evidence (bound of the contract).
pub const KEPT_BODY_BYTES: usize = 1024;

/// What one look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// The look itself was impossible; nothing is known.
    NoData,
}

/// One look at an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What was looked at.
    pub url: String,
    /// What it showed.
    pub outcome: Outcome,
    /// Status of the answer. None: no answer.
    pub status: Option<u16>,
    /// Time to the whole answer, or to giving up.
    pub latency: Duration,
    /// What was wrong.
    pub error: Option<String>,
    /// First part of the body.
    pub body: String,
}

/// What a row of looks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not enough was seen.
    Inconclusive,
    /// Enough successes in a row.
    Healthy,
    /// Enough failures in a row.
    Sick,
}

/// Counts looks in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streak {
    passes: u32,
    failures: u32,
}

impl Streak {
    /// Takes in one look. One without data changes nothing.
    pub fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Pass => {
                self.passes = self.passes.saturating_add(1);
                self.failures = 0;
            }
            Outcome::Fail => {
                self.failures = self.failures.saturating_add(1);
                self.passes = 0;
            }
            Outcome::NoData => {}
        }
    }

    /// The judgement so far.
    pub fn health(&self, rule: &ProbeRule) -> Health {
        if self.failures >= rule.failures.max(1) {
            Health::Sick
        } else if self.passes >= rule.successes.max(1) {
            Health::Healthy
        } else {
            Health::Inconclusive
        }
    }
}

impl Observation {
    /// One line for people.
    pub fn sentence(&self) -> String {
        let millis = self.latency.as_millis();
        match (&self.error, self.status) {
            (Some(error), _) => format!("GET {} {error} after {millis} ms", self.url),
            (None, Some(status)) => format!("GET {} answered {status} in {millis} ms", self.url),
            (None, None) => format!("{} accepts connections", self.url),
        }
    }

    fn tcp_url(address: SocketAddr) -> String {
        format!("tcp://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(outcomes: &[Outcome]) -> Health {
        let rule = ProbeRule {
            successes: 2,
            failures: 3,
            ..ProbeRule::default()
        };
        let mut streak = Streak::default();
        for outcome in outcomes {
            streak.note(*outcome);
        }
        streak.health(&rule)
    }

    #[test]
    fn health_needs_successes_in_a_row_and_sickness_failures_in_a_row() {
        use Outcome::{Fail, Pass};
        assert_eq!(judge(&[Pass]), Health::Inconclusive);
        assert_eq!(judge(&[Pass, Pass]), Health::Healthy);
        assert_eq!(judge(&[Pass, Fail, Pass]), Health::Inconclusive);
        assert_eq!(judge(&[Pass, Pass, Fail, Fail]), Health::Inconclusive);
        assert_eq!(judge(&[Pass, Pass, Fail, Fail, Fail]), Health::Sick);
    }

    #[test]
    fn no_data_is_never_healthy_and_never_sick() {
        assert_eq!(judge(&[]), Health::Inconclusive);
        assert_eq!(judge(&[Outcome::NoData; 50]), Health::Inconclusive);
        assert_eq!(
            judge(&[Outcome::Pass, Outcome::NoData]),
            Health::Inconclusive
        );
    }
}
