//! The orchestrator over real gRPC, on a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod access;
mod artifacts;
mod database;
mod database_tls;
mod disk;
mod faults;
mod keys;
mod mesh;
mod namespaces;
mod overdue;
mod quota;
mod redis;
mod replicas;
mod retention;
mod retries;
mod secure;
mod timeouts;
mod undone;
mod waits;
mod workflows;
