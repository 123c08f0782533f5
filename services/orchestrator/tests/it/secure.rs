//! An orchestrator with certificates: who its agents are, and how they come to theirs.

mod bed;
mod enrolment;
mod registry;
mod revoked;
