//! The integration agent against real git: its merges compared with git's own, its work over gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says so by panicking"
)]

mod checks;
mod conflicts;
mod differential;
mod histories;
mod merges;
mod publishing;
mod requests;
mod reverts;
mod serving;
mod world;
