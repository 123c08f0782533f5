//! Artifacts over gRPC: what goes in comes out, and nothing wrong is ever kept or served.

pub mod bed;
mod broken_store;
mod download;
mod listing;
pub mod s3;
mod upload;
