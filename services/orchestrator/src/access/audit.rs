//! Writes down who did what. One writer per replica seals what has come together, and commits it at
//! once; whoever called waits for that, so that nothing is answered that is not on record.

use std::time::{Duration, SystemTime};

use contracts::audit::GENESIS;
use contracts::error::Error;
use contracts::json;
use contracts::orchestrator::AuditEntry;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::engine;
use crate::store::{Store, StoreError, audit};

// As many calls may wait for the writer as a replica takes at once.
const WAITING: usize = 1024;
// One statement.
const TOGETHER: usize = 256;
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const TEXT_CHARACTERS: usize = 300;

/// What a call was about, when only its answer says so: a handler puts it into the extensions of
/// its response.
#[derive(Debug, Clone)]
pub struct Subject(pub String);

struct Pending {
    entry: AuditEntry,
    written: oneshot::Sender<Result<(), Error>>,
}

/// The audit log of a mesh, as one replica writes it.
#[derive(Debug, Clone)]
pub struct Audit {
    sender: mpsc::Sender<Pending>,
}

impl Audit {
    /// Starts the writer. It ends with the last handle.
    pub fn start(store: Store, tracker: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tracker.spawn(write(store, receiver));
        Self { sender }
    }

    /// Writes an entry down; its place in the chain is not the caller's.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), Error> {
        let stopping = || engine::store(&StoreError::Stopping);
        let (written, done) = oneshot::channel();
        let pending = Pending { entry, written };
        self.sender.send(pending).await.map_err(|_| stopping())?;
        done.await.map_err(|_| stopping())?
    }
}

async fn write(store: Store, mut receiver: mpsc::Receiver<Pending>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while receiver.recv_many(&mut waiting, TOGETHER).await > 0 {
        let (mut entries, told): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .map(|pending| (pending.entry, pending.written))
            .unzip();
        let written = append(&store, &mut entries)
            .await
            .map_err(|error| engine::store(&error));
        for written_to in told {
            // Whoever asked may be gone.
            let _ = written_to.send(written.clone());
        }
    }
}

async fn append(store: &Store, entries: &mut [AuditEntry]) -> Result<(), StoreError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let appended = async {
            let mut client = store.client().await?;
            audit::append(&mut client, entries).await
        };
        match appended.await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < until => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// An entry without its place, of now.
pub fn entry() -> AuditEntry {
    // Whole microseconds: what the database keeps is what is sealed.
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    AuditEntry {
        time: Some(prost_types::Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_micros() * 1000).unwrap_or(0),
        }),
        previous_hash: GENESIS.to_owned(),
        ..AuditEntry::default()
    }
}

/// Text from outside as it may be kept: no control characters, and bounded.
pub fn text(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARACTERS)
        .collect()
}

/// Whether a method takes one message.
pub fn is_unary(path: &str) -> bool {
    descriptor(path).is_some_and(|method| !method.is_client_streaming())
}

/// Says what a request is about.
pub fn describe(entry: &mut AuditEntry, path: &str, message: &[u8]) {
    // What ids are called in requests, the most telling first.
    const KINDS: [(&str, &str); 7] = [
        ("decision_id", "decision"),
        ("clarification_id", "clarification"),
        ("token_id", "token"),
        ("instance_id", "agent"),
        ("workflow_id", "workflow"),
        ("pipeline_id", "pipeline"),
        ("identity", "identity"),
    ];
    entry.content_digest = format!("sha256:{}", hex::encode(Sha256::digest(message)));
    let Some(method) = descriptor(path) else {
        return;
    };
    // What is malformed is refused by its service, and about nothing.
    let Ok(message) = DynamicMessage::decode(method.input(), message) else {
        return;
    };
    let field = |name: &str| match message.get_field_by_name(name).as_deref() {
        Some(Value::String(value)) if !value.is_empty() => Some(text(value)),
        _ => None,
    };
    entry.subject = KINDS
        .into_iter()
        .find_map(|(name, kind)| Some(format!("{kind}/{}", field(name)?)))
        .unwrap_or_default();
    entry.decision_digest = field("subject_digest").unwrap_or_default();
}

fn descriptor(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.split_once('/')?;
    let service = json::pool().ok()?.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

#[cfg(test)]
mod tests {
    use contracts::orchestrator::{CancelWorkflowRequest, ResolveDecisionRequest};
    use prost::Message;

    use super::*;

    #[test]
    fn an_entry_says_what_its_request_is_about() {
        let mut entry = entry();
        let request = ResolveDecisionRequest {
            decision_id: "d-1\u{0}".into(),
            subject_digest: "sha256:ab".into(),
            ..ResolveDecisionRequest::default()
        };
        let path = "agentic.orchestrator.v1.DecisionService/ResolveDecision";
        describe(&mut entry, path, &request.encode_to_vec());
        assert_eq!(entry.subject, "decision/d-1");
        assert_eq!(entry.decision_digest, "sha256:ab");
        assert!(entry.content_digest.starts_with("sha256:"));

        let request = CancelWorkflowRequest {
            workflow_id: "w".repeat(1000),
            ..CancelWorkflowRequest::default()
        };
        let path = "agentic.orchestrator.v1.WorkflowService/CancelWorkflow";
        describe(&mut entry, path, &request.encode_to_vec());
        assert_eq!(entry.subject.len(), "workflow/".len() + TEXT_CHARACTERS);
        describe(&mut entry, path, b"\xff\xff");
    }

    #[test]
    fn only_uploads_and_sessions_are_streams_of_requests() {
        let streams: Vec<_> = crate::access::method::METHODS
            .iter()
            .filter(|method| method.path.starts_with("agentic.") && !is_unary(method.path))
            .map(|method| method.path)
            .collect();
        assert_eq!(
            streams,
            [
                "agentic.orchestrator.v1.ArtifactService/UploadArtifact",
                "agentic.orchestrator.v1.AgentRegistryService/Connect",
            ]
        );
    }
}
