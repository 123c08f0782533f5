//! The scaffold agent against real toolchains, git repositories and gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says so by panicking"
)]

mod models;
mod projects;
mod recording;
mod refusals;
mod serving;
mod tasks;
mod waiting;
