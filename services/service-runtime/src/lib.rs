//! What every process of the mesh has: configuration, telemetry, a server, health, shutdown.
//! Knows the contract, and nothing of what any service does.

pub mod admission;
pub mod config;
pub mod embedded_postgres;
pub mod exemplars;
pub mod health_check;
pub mod http_port;
pub mod redaction;
pub mod server;
pub mod shutdown;
pub mod spans;
pub mod telemetry;
pub mod tls;
