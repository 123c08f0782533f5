//! What every agent of the mesh has: the `Agent` trait and everything behind it. Knows the contract
//! and how to reach the orchestrator; knows no agent and no storage.

pub mod agent;
pub mod artifacts;
pub mod enrolment;
mod fitness;
mod journal;
pub mod leases;
mod load;
pub mod log_artifact;
pub mod preparation;
pub mod process;
pub mod project;
pub mod reporter;
pub mod repository;
pub mod serve;
pub mod service;
mod session;
pub mod tasks;
pub mod test_report;

pub use agent::{Agent, Assignment};
pub use reporter::Reporter;
