//! Placeholder opening.
pub mod repository;

pub mod process;
