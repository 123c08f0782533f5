//! The deployment agent against real processes and real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod agent;
mod apps;
mod bench;
mod containers;
mod docker;
mod failures;
mod load;
mod ports;
mod recovery;
mod registry;
mod router;
mod serving;
mod strategies;
mod supervision;
