//! Decides whether an instance may be started again, and after what wait.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::spec::RestartRule;

/// The restarts of one instance.
#[derive(Debug)]
pub(super) struct Restarts {
    rule: RestartRule,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(super) fn new(rule: RestartRule) -> Self {
        Self {
            rule,
            recent: VecDeque::new(),
        }
    }

    /// How long to wait before starting again. None: it crashes in a loop.
    pub(super) fn next(&mut self, now: Instant) -> Option<Duration> {
        let window = self.rule.window;
        self.recent
            .retain(|restart| now.duration_since(*restart) < window);
        let count = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if count >= self.rule.limit {
            return None;
        }
        self.recent.push_back(now);
        let factor = 2_u32.saturating_pow(count);
        Some(
            self.rule
                .first_wait
                .saturating_mul(factor)
                .min(self.rule.longest_wait),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> RestartRule {
        RestartRule {
            limit: 4,
            window: Duration::from_mins(1),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(3),
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_then_it_is_a_loop() {
        let mut restarts = Restarts::new(rule());
        let now = Instant::now();
        let waits: Vec<_> = (0..5)
            .map(|_| restarts.next(now).map(|w| w.as_secs()))
            .collect();
        assert_eq!(waits, [Some(1), Some(2), Some(3), Some(3), None]);
    }

    #[test]
    fn restarts_outside_the_window_are_forgotten() {
        let mut restarts = Restarts::new(rule());
        let begin = Instant::now();
        for hour in 0..100_u32 {
            let now = begin + Duration::from_hours(1) * hour;
            assert_eq!(restarts.next(now), Some(Duration::from_secs(1)));
        }
    }
}
