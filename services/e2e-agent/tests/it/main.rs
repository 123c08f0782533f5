//! The end-to-end agent over real gRPC, with real repositories and real small apps that tell every lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking"
)]

mod agent;
mod base;
mod container;
mod endpoints;
mod start;
mod suites;
