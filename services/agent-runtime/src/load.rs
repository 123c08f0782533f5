//! What this process uses, from `/proc`. Zero where there is no `/proc`.

use std::time::Instant;

// `sysconf(_SC_CLK_TCK)` is 100 on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: i64 = 4096;

/// Measures between two calls.
#[derive(Debug)]
pub(crate) struct Load {
    since: Instant,
    ticks: u64,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            ticks: ticks().unwrap_or(0),
        }
    }

    /// Share of one core since the last call, in percent, and resident bytes.
    pub(crate) fn measure(&mut self) -> (f64, i64) {
        let now = Instant::now();
        let ticks = ticks().unwrap_or(self.ticks);
        let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
        let used = ticks.saturating_sub(self.ticks) as f64 / TICKS_PER_SECOND;
        (self.since, self.ticks) = (now, ticks);
        (100.0 * used / seconds, resident().unwrap_or(0))
    }
}

fn ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command name may contain anything but a second ')'.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn resident() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<i64>().ok()? * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let (cpu, memory) = Load::new().measure();
        assert!(cpu >= 0.0);
        assert!(memory > 100_000, "{memory}");
    }
}
