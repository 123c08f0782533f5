//! The integration agent: takes a change into the main line, correctly, or says precisely why not.

pub mod checks;
pub mod commit;
pub mod conflict;
pub mod hunks;
pub mod ladder;
pub mod merge;
pub mod resolution;
pub mod strategy;
pub mod trees;
