//! The runtime over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bed;
mod handshakes;
mod rotation;
mod telemetry;
