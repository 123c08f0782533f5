//! What a fault cost, in one line, so that lines can be put in a table.

use std::io::{self, Write};
use std::time::Duration;

use super::client::Journey;

/// Measured with one fault.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// What was done.
    pub fault: &'static str,
    /// Until somebody acted on it.
    pub detected: Duration,
    /// Until everything that it touched went on.
    pub recovered: Duration,
}

impl Figures {
    /// Tells them.
    pub fn print(&self, journeys: &[Journey]) {
        let sum = |part: fn(&Journey) -> u32| journeys.iter().map(part).sum::<u32>();
        // Not `eprintln!`, whose words the test harness keeps to itself when a test passes.
        let _ = writeln!(
            io::stderr(),
            "FAULT {:<48} detected {:>5.1} s  recovered {:>5.1} s  {:>4} workflows  {:>3} adopted  {:>2} lost  {:>3} calls and {:>3} watches moved",
            self.fault,
            self.detected.as_secs_f64(),
            self.recovered.as_secs_f64(),
            journeys.len(),
            sum(|journey| journey.adopted_count),
            sum(|journey| journey.lost_count),
            sum(|journey| journey.refused_count),
            sum(|journey| journey.broken_count),
        );
    }
}
