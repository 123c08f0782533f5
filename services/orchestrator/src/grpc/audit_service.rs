//! `AuditService`.

use std::time::SystemTime;

use tonic::{Request, Response, Status, async_trait};

use contracts::error::Error;
use contracts::orchestrator::audit_service_server::AuditService as Service;
use contracts::orchestrator::{ListAuditEntriesRequest, ListAuditEntriesResponse};
use contracts::parse::Fields;
use contracts::wire_time;

use super::{page_token, read_page, store_error};
use crate::store::audit::{self, Filter};
use crate::store::{Store, StoreError};

const TEXT_BYTES: usize = 512;

/// `agentic.orchestrator.v1.AuditService`.
#[derive(Debug, Clone)]
pub struct AuditService {
    store: Store,
}

impl AuditService {
    /// Serves the audit log of a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn list(
        &self,
        request: ListAuditEntriesRequest,
    ) -> Result<ListAuditEntriesResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let start_time = time(&mut fields, "start_time", request.start_time);
        let end_time = time(&mut fields, "end_time", request.end_time);
        for (field, text) in [
            ("actor", &request.actor),
            ("method", &request.method),
            ("subject", &request.subject),
            ("outcome", &request.outcome),
        ] {
            fields.text(field, text, TEXT_BYTES);
            if text.contains('\0') {
                fields.wrong(field, "contains a zero byte");
            }
        }
        let size = fields.finish(size)?;
        let after: i64 = read_page(&request.page_token)?.unwrap_or(0);
        let filter = Filter {
            actor: request.actor,
            method: request.method,
            subject: request.subject,
            outcome: request.outcome,
            start_time,
            end_time,
        };
        let found = async {
            let mut client = self.store.client().await?;
            // The head is that of the page, though others write meanwhile.
            let snapshot = client.snapshot().await?;
            let entries = audit::list(&snapshot, &filter, after, size + 1).await?;
            let head = audit::head(&snapshot).await?;
            snapshot.commit().await?;
            Ok::<_, StoreError>((entries, head))
        };
        let (mut entries, head) = found.await.map_err(store_error)?;
        let more = entries.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            entries.pop();
        }
        let next_page_token = entries
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.sequence.to_string()));
        Ok(ListAuditEntriesResponse {
            entries,
            next_page_token,
            total_count: head.sequence,
            head_hash: head.hash,
        })
    }
}

fn time(
    fields: &mut Fields,
    field: &str,
    wire: Option<prost_types::Timestamp>,
) -> Option<SystemTime> {
    let time = wire_time::system_time(wire?);
    if time.is_none() {
        fields.wrong(field, "is not a time after 1970");
    }
    time
}

#[async_trait]
impl Service for AuditService {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }
}
