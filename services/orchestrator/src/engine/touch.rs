//! Whether this replica is in touch with the database. One that is not cannot keep its leases: it
//! sends its agents and watchers away, so that whoever takes the leases over finds them. Nor can it
//! judge anybody: while it did not look, others had no way to show that they live.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Without the database for so long, leases are as good as gone.
const LOST_AFTER: Duration = Duration::from_secs(9);
/// Whoever was sent away meanwhile is back after so long, here or elsewhere.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Since when the database answers, and when it did last.
#[derive(Debug)]
pub(super) struct Touch(watch::Sender<State>);

#[derive(Debug)]
struct State {
    heard: Instant,
    steady_since: Option<Instant>,
    lost: bool,
    // When it stopped being lost, last.
    found: Option<Instant>,
}

impl Default for Touch {
    fn default() -> Self {
        Self(watch::Sender::new(State {
            heard: Instant::now(),
            steady_since: None,
            lost: false,
            found: None,
        }))
    }
}

impl Touch {
    /// The leases were renewed.
    pub(super) fn heard(&self) {
        self.0.send_modify(|state| state.hear(Instant::now()));
    }

    /// They could not be renewed.
    pub(super) fn missed(&self) {
        self.0.send_modify(|state| state.miss(Instant::now()));
    }

    /// Whether the database answered when it was last asked.
    pub(super) fn is_steady(&self) -> bool {
        self.0.borrow().steady_since.is_some()
    }

    /// For how long the database has answered without a break.
    pub(super) fn steady_for(&self) -> Duration {
        let since = self.0.borrow().steady_since;
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Resolves when the database answers.
    pub(super) async fn steady(&self) {
        self.wait_for(|state| state.steady_since.is_some()).await;
    }

    /// Whether this replica is of no use to its agents any more.
    pub(super) fn is_lost(&self) -> bool {
        self.0.borrow().lost
    }

    /// Whether agents that are not here were not sent away by this replica: it may judge them.
    pub(super) fn misses_nobody_it_sent_away(&self) -> bool {
        let state = self.0.borrow();
        !state.lost && state.found.is_none_or(|at| at.elapsed() > BACK_WITHIN)
    }

    /// Resolves when it is of no use to anybody any more.
    pub(super) async fn lost(&self) {
        self.wait_for(|state| state.lost).await;
    }

    async fn wait_for(&self, what: impl FnMut(&State) -> bool) {
        // The sender is ours, so this cannot fail.
        let _ = self.0.subscribe().wait_for(what).await;
    }
}

impl State {
    fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.steady_since.get_or_insert(now);
        if std::mem::take(&mut self.lost) {
            self.found = Some(now);
        }
    }

    fn miss(&mut self, now: Instant) {
        self.steady_since = None;
        self.lost = now - self.heard > LOST_AFTER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_lost_after_silent_seconds_and_steady_again_from_the_first_answer() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut state = State {
            heard: begin,
            steady_since: None,
            lost: false,
            found: None,
        };
        state.hear(at(1));
        state.hear(at(5));
        assert_eq!(state.steady_since, Some(at(1)));
        state.miss(at(10));
        assert_eq!((state.steady_since, state.lost), (None, false));
        state.hear(at(11));
        assert_eq!(state.found, None);
        state.miss(at(16));
        state.miss(at(21));
        assert!(state.lost);
        state.hear(at(22));
        state.hear(at(25));
        assert_eq!((state.steady_since, state.lost), (Some(at(22)), false));
        assert_eq!(state.found, Some(at(22)));
    }
}
