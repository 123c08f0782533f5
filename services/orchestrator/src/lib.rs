//! The orchestrator: takes in workflows, carries them through the agents, remembers everything.

pub mod access;
pub mod agents;
pub mod artifacts;
pub mod clock;
pub mod config;
pub mod engine;
pub mod events;
pub mod grpc;
mod health;
pub mod hints;
pub mod logs;
pub mod metrics;
pub mod plan;
pub mod redis;
pub mod retention;
mod revocation;
pub mod serve;
pub mod store;

pub use config::Config;
pub use serve::{Bound, serve};
