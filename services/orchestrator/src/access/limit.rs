//! How often somebody may call, and how much may be under way at once. Calls that are too many are
//! refused before they cost anything, with the time after which they are not.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::async_trait;

use super::method::Class;

mod shared;

pub use shared::SharedLimiter;

// Whoever has called nothing for a while is forgotten once there are this many.
const REMEMBERED: usize = 10_000;
// What is under way ends soon, or never: nobody knows.
const AGAIN: Duration = Duration::from_secs(1);
// Calls that are refused for want of a credential, a role or a namespace: a second, and at once.
const REFUSED: NonZeroU32 = NonZeroU32::new(5).unwrap();
const REFUSED_AT_ONCE: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Budgets of calls over time. One process has its own; replicas may share them.
#[async_trait]
pub trait Limiter: Send + Sync + fmt::Debug {
    /// Takes a call out of somebody's budget. `Some`: it is empty, and has one again after so long.
    async fn take(&self, who: &str, class: Class) -> Option<Duration>;
}

/// Calls a second, of one caller and class. As many may come at once.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// New workflows.
    pub create: NonZeroU32,
    /// Other changes.
    pub write: NonZeroU32,
    /// Reads, and watches that begin.
    pub read: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        let rate = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            create: rate(100),
            write: rate(200),
            read: rate(1000),
        }
    }
}

impl Rates {
    // Calls a second, and at once. `None`: as many as anybody likes.
    fn of(self, class: Class) -> Option<(NonZeroU32, NonZeroU32)> {
        match class {
            Class::Create => Some((self.create, self.create)),
            Class::Write => Some((self.write, self.write)),
            Class::Read | Class::Watch => Some((self.read, self.read)),
            Class::Refused => Some((REFUSED, REFUSED_AT_ONCE)),
            Class::Free | Class::Session => None,
        }
    }
}

/// The budgets of one process.
#[derive(Debug)]
pub struct LocalLimiter {
    create: DefaultKeyedRateLimiter<String>,
    write: DefaultKeyedRateLimiter<String>,
    read: DefaultKeyedRateLimiter<String>,
    refused: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl LocalLimiter {
    /// With these rates.
    pub fn new(rates: Rates) -> Self {
        let budgets = |rate| RateLimiter::keyed(Quota::per_second(rate));
        Self {
            create: budgets(rates.create),
            write: budgets(rates.write),
            read: budgets(rates.read),
            refused: RateLimiter::keyed(Quota::per_second(REFUSED).allow_burst(REFUSED_AT_ONCE)),
            clock: DefaultClock::default(),
        }
    }
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, who: &str, class: Class) -> Option<Duration> {
        let budgets = match class {
            Class::Create => &self.create,
            Class::Write => &self.write,
            Class::Read | Class::Watch => &self.read,
            Class::Refused => &self.refused,
            Class::Free | Class::Session => return None,
        };
        if budgets.len() > REMEMBERED {
            budgets.retain_recent();
        }
        let empty = budgets.check_key(&who.to_owned()).err()?;
        // A little more than nothing: what is due now is not due yet by the clock of the caller.
        Some(
            empty
                .wait_time_from(self.clock.now())
                .max(Duration::from_millis(1)),
        )
    }
}

/// What may be under way at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Calls, without watches and agents.
    pub calls: usize,
    /// Watches of one caller.
    pub watches: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            calls: 1024,
            watches: 1024,
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub struct Underway {
    calls: Arc<Semaphore>,
    watches: Arc<Mutex<HashMap<String, usize>>>,
    bounds: Bounds,
}

/// The room that a call takes until it is over.
#[derive(Debug)]
pub enum Room {
    /// None that is counted.
    Free,
    /// That of a call.
    Call(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
    /// That of a watch.
    Watch(#[allow(dead_code, reason = "held")] WatchRoom),
}

/// One watch of somebody.
#[derive(Debug)]
pub struct WatchRoom {
    who: String,
    watches: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for WatchRoom {
    fn drop(&mut self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = watches.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                watches.remove(&self.who);
            }
        }
    }
}

impl Underway {
    /// Nothing yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(bounds.calls)),
            watches: Arc::default(),
            bounds,
        }
    }

    /// Makes room for a call, or refuses it.
    pub fn enter(&self, who: &str, class: Class) -> Result<Room, Error> {
        match class {
            Class::Free | Class::Session => Ok(Room::Free),
            Class::Watch => self.watch(who).map(Room::Watch),
            Class::Create | Class::Write | Class::Read | Class::Refused => {
                let room = self.calls.clone().try_acquire_owned();
                room.map(Room::Call).map_err(|_| {
                    let most = self.bounds.calls;
                    too_many(
                        format!("{most} calls are under way here, and more are not taken"),
                        AGAIN,
                    )
                })
            }
        }
    }

    fn watch(&self, who: &str) -> Result<WatchRoom, Error> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let count = watches.entry(who.to_owned()).or_default();
        if *count >= self.bounds.watches {
            let most = self.bounds.watches;
            return Err(too_many(
                format!("{who} watches {most} times already; end one first"),
                AGAIN,
            ));
        }
        *count += 1;
        Ok(WatchRoom {
            who: who.to_owned(),
            watches: self.watches.clone(),
        })
    }
}

/// What is told to who calls too often or too much at once.
pub fn too_many(message: String, wait: Duration) -> Error {
    Error::new(ErrorReason::RateLimited, message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_budget_is_of_one_caller_and_class_and_its_delay_is_true() {
        let two = NonZeroU32::new(2).unwrap();
        let limiter = LocalLimiter::new(Rates {
            create: two,
            ..Rates::default()
        });
        for _ in 0..2 {
            assert_eq!(limiter.take("ada", Class::Create).await, None);
        }
        let delay = limiter.take("ada", Class::Create).await.unwrap();
        assert!(delay <= Duration::from_millis(500), "{delay:?}");
        assert!(delay > Duration::from_millis(300), "{delay:?}");
        assert_eq!(limiter.take("bob", Class::Create).await, None);
        assert_eq!(limiter.take("ada", Class::Write).await, None);
        tokio::time::sleep(delay).await;
        assert_eq!(limiter.take("ada", Class::Create).await, None);
        assert!(limiter.take("ada", Class::Create).await.is_some());
    }

    #[test]
    fn room_is_bounded_and_given_back() {
        let underway = Underway::new(Bounds {
            calls: 1,
            watches: 2,
        });
        let call = underway.enter("ada", Class::Read).unwrap();
        let error = underway.enter("bob", Class::Write).unwrap_err();
        assert_eq!(error.reason, ErrorReason::RateLimited);
        assert!(error.retry_after.is_some());
        let first = underway.enter("ada", Class::Watch).unwrap();
        let _second = underway.enter("ada", Class::Watch).unwrap();
        assert!(underway.enter("ada", Class::Watch).is_err());
        let _other = underway.enter("bob", Class::Watch).unwrap();
        drop((call, first));
        underway.enter("bob", Class::Write).unwrap();
        underway.enter("ada", Class::Watch).unwrap();
    }
}
