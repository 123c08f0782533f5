//! The services of `agentic.orchestrator.v1`, one module each: parse, call, map.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Request;
use tracing::Span;

use contracts::error::Error;
use contracts::trace;

use crate::access::identity::Identity;
use crate::engine::EngineError;
use crate::store::StoreError;
use crate::store::requests::RequestRow;

pub mod agent_registry_service;
pub mod artifact_service;
pub mod audit_service;
pub mod clarification_service;
pub mod decision_service;
pub mod enrolment_service;
mod namespace;
pub mod pipeline_service;
pub mod token_service;
mod watch;
pub mod workflow_service;

/// Who calls, where nobody needs a credential: people name themselves.
const ACTOR_HEADER: &str = "agentic-actor";
const ACTOR_CHARACTERS: usize = 100;

/// Who calls: whoever the credential says, and without one whoever the call says, in the request or in
/// its metadata.
pub(crate) fn actor<T>(request: &Request<T>, claimed: &str) -> String {
    if let Some(identity) = request.extensions().get::<Arc<Identity>>() {
        return identity.name.clone();
    }
    if !claimed.is_empty() {
        return claimed.to_owned();
    }
    request
        .metadata()
        .get(ACTOR_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|name| !name.is_empty() && name.chars().count() <= ACTOR_CHARACTERS)
        .unwrap_or("anonymous")
        .to_owned()
}

/// Trace of the call at hand.
pub(crate) fn traceparent() -> String {
    trace::traceparent(&Span::current())
}

/// A token for the next page: opaque to clients.
pub(crate) fn page_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// What a token stands for; empty: the first page.
pub(crate) fn read_page_token(token: &str) -> Result<String, Error> {
    let wrong = || Error::invalid_field("page_token", "is not one that this server gave out");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The same, for tokens that stand for an id or a number.
pub(crate) fn read_page<T: std::str::FromStr>(token: &str) -> Result<Option<T>, Error> {
    let last = read_page_token(token)?;
    if last.is_empty() {
        return Ok(None);
    }
    last.parse()
        .map(Some)
        .map_err(|_| Error::invalid_field("page_token", "is not one that this server gave out"))
}

/// What a caller is told when the store failed.
pub(crate) fn store_error(error: StoreError) -> Error {
    EngineError::from(error).into()
}

/// The row that makes a call idempotent; `None`: it has no request id.
pub(crate) fn request_row(
    request_id: &str,
    method: &'static str,
    content: Vec<u8>,
    subject: String,
    now: SystemTime,
) -> Option<RequestRow> {
    (!request_id.is_empty()).then(|| RequestRow {
        request_id: request_id.to_owned(),
        method,
        content,
        subject,
        create_time: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_round_trip_and_foreign_ones_are_refused() {
        assert_eq!(read_page::<i64>(&page_token("42")).unwrap(), Some(42));
        assert_eq!(read_page::<i64>("").unwrap(), None);
        for foreign in ["42", "not base64!", "/////w", &page_token("x")] {
            let error = read_page::<i64>(foreign).unwrap_err();
            assert_eq!(error.fields[0].0, "page_token", "{foreign}");
        }
    }
}
