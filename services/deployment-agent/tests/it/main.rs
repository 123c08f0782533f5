//! The deployment agent against real processes and real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod apps;
mod bench;
mod failures;
mod load;
mod recovery;
mod router;
mod strategies;
