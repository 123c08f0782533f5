//! What happens next in a workflow: a pure function from a state and an event to the next state and
//! the commands that follow. Knows no clock, no storage and no network; whoever carries the commands
//! out commits them together with the state.

pub mod built_in;
pub mod event;
pub mod pipeline;
pub mod state;

mod attempt;
mod compensation;
mod decision;
mod order;
mod repair;
mod request;
mod schedule;
mod step;

#[cfg(test)]
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for the few kinds that it is about"
)]
mod tests;
