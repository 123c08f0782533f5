//! The contract of the mesh: generated types, and what every side needs to speak them well.
//! Knows no service and no storage.

mod generated {
    #![allow(
        clippy::pedantic,
        clippy::large_enum_variant,
        clippy::doc_lazy_continuation,
        rustdoc::all,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/agentic.rs"));
}

pub use generated::agentic::{
    deployment::v1 as deployment, e2e::v1 as e2e, error::v1 as error_reason,
    integration::v1 as integration, orchestrator::v1 as orchestrator, scaffold::v1 as scaffold,
    task::v1 as task, validation::v1 as validation,
};

pub mod agent;
pub mod attributes;
pub mod audit;
pub mod client;
pub mod error;
pub mod id;
pub mod json;
pub mod lease;
pub mod parse;
pub mod texts;
pub mod trace;
pub mod wire_time;

/// The compiled contract, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest message that a server takes: 1 MiB (contract.md, "Bounds"), with room for framing.
pub const MESSAGE_BYTES: usize = 1024 * 1024 + 4096;

/// Largest message that a client takes: a workflow with the results of all its stages.
pub const RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Largest chunk of an artifact: 64 KiB.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Metadata of a call that names the namespace it is about; a slug. Absent: [`DEFAULT_NAMESPACE`].
pub const NAMESPACE_HEADER: &str = "agentic-namespace";

/// The namespace of whoever names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Name of the artifact with the whole log of an attempt. Lines that begin with `# ` are the agent's
/// own; the others are output of its child processes.
pub const LOG_ARTIFACT: &str = "log.txt";

/// Begins the agent's own lines in [`LOG_ARTIFACT`].
pub const LOG_ARTIFACT_OWN: &str = "# ";
