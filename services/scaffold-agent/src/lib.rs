//! The scaffold agent: from requirements to a commit on a branch of its own.

pub mod template;
pub mod text;
