//! The test kit, and the embedded PostgreSQL that it runs on, seen through a real client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

mod database;
mod embedded_postgres;
mod loopback;
mod scripted_agent;
