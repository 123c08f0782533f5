//! The deployment agent: brings revisions of an app to a target, watches them, and takes them back
//! to the last verified one.

pub mod account;
pub mod fleet;
pub mod instance_log;
pub mod journal;
pub mod ledger;
pub mod name;
pub mod ports;
pub mod probe;
pub mod router;
pub mod site;
pub mod sites;
pub mod spec;
pub mod strategy;
pub mod supervisor;
pub mod target;
pub mod verdict;
