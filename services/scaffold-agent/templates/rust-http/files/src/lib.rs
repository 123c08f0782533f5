//! An HTTP service on the standard library alone.

pub mod healthcheck;
pub mod http;
pub mod routes;
pub mod server;
pub mod settings;
pub mod signals;
