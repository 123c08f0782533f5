//! The command as people and scripts run it, against a scripted orchestrator: exit codes, JSON
//! lines, broken connections, hostile answers, bad arguments.

#![allow(
    clippy::cast_possible_wrap,
    clippy::default_trait_access,
    reason = "stories have dozens of events, and their messages mostly nothing in them"
)]

mod boundaries;
mod collector;
mod command;
mod containers;
mod crashes;
mod dashboards;
mod decisions;
mod follow;
mod gate;
mod hostile;
mod listing;
mod local;
mod mesh;
mod processes;
mod prometheus;
mod python_client;
mod reflection_client;
mod scripted;
mod secrets;
mod secure;
mod settings;
mod shop;
mod spans;
mod submit;
mod terminal;
mod tracing;
mod truthful_ends;
