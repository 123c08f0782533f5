//! The database's clock, without asking it each time: all replicas count by one clock, whatever
//! their own say.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// Our clock and how far the database's is ahead of it.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_micros: AtomicI64,
}

impl Clock {
    /// Takes a reading of the database's clock, which took so long to come: it was read somewhere
    /// on the way, and is off by half of that at most.
    pub fn set(&self, database: SystemTime, took: Duration) {
        let ours = SystemTime::now();
        let database = database + took / 2;
        let ahead = match database.duration_since(ours) {
            Ok(ahead) => micros(ahead),
            Err(behind) => -micros(behind.duration()),
        };
        self.ahead_micros.store(ahead, Ordering::Relaxed);
    }

    /// Now, by the database's clock.
    pub fn now(&self) -> SystemTime {
        let ahead = self.ahead_micros.load(Ordering::Relaxed);
        let by = Duration::from_micros(ahead.unsigned_abs());
        let ours = SystemTime::now();
        if ahead >= 0 { ours + by } else { ours - by }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_an_hour_off_is_put_right_either_way() {
        let hour = Duration::from_hours(1);
        for database in [SystemTime::now() + hour, SystemTime::now() - hour] {
            let clock = Clock::default();
            clock.set(database, Duration::ZERO);
            let off = clock
                .now()
                .duration_since(database)
                .unwrap_or_else(|error| error.duration());
            assert!(off < Duration::from_secs(5), "{off:?}");
        }
    }
}
