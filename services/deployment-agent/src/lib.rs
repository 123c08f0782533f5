//! The deployment agent: brings revisions of an app to a target, watches them, and takes them back
//! to the last verified one.

pub mod router;
