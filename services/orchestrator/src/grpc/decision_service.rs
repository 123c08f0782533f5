//! `DecisionService`.

use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::{DecisionId, WorkflowId};
use contracts::orchestrator::decision_service_server::DecisionService as Service;
use contracts::orchestrator::{
    Decision, GetDecisionRequest, GetDecisionResponse, ListDecisionsRequest, ListDecisionsResponse,
    ResolveDecisionRequest, ResolveDecisionResponse,
};
use contracts::parse::Fields;
use contracts::task::{DecisionRequest, Resolution};
use contracts::wire_time;

use super::{actor, namespace, page_token, read_page, request_row, store_error};
use crate::engine::live::DecisionFacts;
use crate::engine::step::Input;
use crate::engine::submit::digest;
use crate::engine::{Engine, EngineError};
use crate::plan::event::{Event, Resolution as PlanResolution};
use crate::store::decisions::{self, StoredDecision};
use crate::store::{StoreError, malformed};

const METHOD: &str = "ResolveDecision";
const RATIONALE_BYTES: usize = 4096;
const ACTOR_BYTES: usize = 400;

/// `agentic.orchestrator.v1.DecisionService`.
#[derive(Debug, Clone)]
pub struct DecisionService {
    engine: Engine,
}

impl DecisionService {
    /// Serves the decisions of an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn stored(&self, namespace: &str, id: DecisionId) -> Result<StoredDecision, Error> {
        let found = async {
            let client = self.engine.store().client().await?;
            decisions::get(&client, namespace, id).await
        };
        found.await.map_err(store_error)?.ok_or_else(|| {
            Error::new(
                ErrorReason::DecisionNotFound,
                format!("there is no decision {id}"),
            )
        })
    }

    async fn list(
        &self,
        namespace: &str,
        request: ListDecisionsRequest,
    ) -> Result<ListDecisionsResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let workflow_id: Option<WorkflowId> = if request.workflow_id.is_empty() {
            None
        } else {
            fields.id("workflow_id", &request.workflow_id)
        };
        fields.finish(())?;
        let after: Option<DecisionId> = read_page(&request.page_token)?;
        let found = async {
            let client = self.engine.store().client().await?;
            let (rows, count) = decisions::list(
                &client,
                namespace,
                workflow_id,
                request.include_resolved,
                after,
                size + 1,
            )
            .await?;
            let read: Result<Vec<_>, _> = rows.iter().map(to_wire).collect();
            Ok((read?, count))
        };
        let (mut listed, total_count) = found.await.map_err(store_error)?;
        let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            listed.pop();
        }
        let next_page_token = listed
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.decision_id));
        Ok(ListDecisionsResponse {
            decisions: listed,
            next_page_token,
            total_count,
        })
    }

    async fn resolve(
        &self,
        namespace: &str,
        request: ResolveDecisionRequest,
        by: String,
    ) -> Result<Decision, Error> {
        let content = digest(&request);
        let mut fields = Fields::new();
        fields.request_id(&request.request_id);
        let id: Option<DecisionId> = fields.id("decision_id", &request.decision_id);
        fields.required_text("subject_digest", &request.subject_digest, 256);
        let resolution = fields.required_enum::<Resolution>("resolution", request.resolution);
        fields.text("rationale", &request.rationale, RATIONALE_BYTES);
        fields.text("choice", &request.choice, 256);
        fields.text("actor", &request.actor, ACTOR_BYTES);
        if resolution == Resolution::Revise && request.rationale.trim().is_empty() {
            fields.wrong(
                "rationale",
                "is required to revise: say what should be different",
            );
        }
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        if self
            .engine
            .earlier_subject(namespace, METHOD, &request.request_id, &content)
            .await?
            .is_some()
        {
            return to_wire(&self.stored(namespace, id).await?).map_err(store_error);
        }
        let stored = self.stored(namespace, id).await?;
        let asked = read(&stored).map_err(store_error)?;
        check(&stored, &asked, &request, resolution)?;
        let now = self.engine.clock().now();
        let told = self
            .engine
            .apply::<EngineError>(namespace, stored.workflow_id, |_| {
                Ok(Input {
                    event: Some(Event::DecisionResolved {
                        stage: stored.stage.clone(),
                        decision_id: id,
                        resolution: match resolution {
                            Resolution::Approve => PlanResolution::Approve,
                            Resolution::Revise => PlanResolution::Revise,
                            Resolution::Reject | Resolution::Unspecified => PlanResolution::Reject,
                        },
                        actor: by.clone(),
                    }),
                    decided: Some(DecisionFacts {
                        decision_id: id,
                        category: asked.category,
                        subject_digest: asked.subject_digest.clone(),
                        resolution: resolution.into(),
                        choice: request.choice.clone(),
                        rationale: request.rationale.clone(),
                        actor: by.clone(),
                    }),
                    actor: by.clone(),
                    request: request_row(
                        &request.request_id,
                        METHOD,
                        content.clone(),
                        id.to_string(),
                        now,
                    ),
                    ..Input::default()
                })
            })
            .await;
        match told {
            // Repeated: the first answer holds, and is what is stored.
            Ok(_) | Err(EngineError::Repeated) => {}
            Err(error) => return Err(error.into()),
        }
        to_wire(&self.stored(namespace, id).await?).map_err(store_error)
    }
}

fn check(
    stored: &StoredDecision,
    asked: &DecisionRequest,
    request: &ResolveDecisionRequest,
    resolution: Resolution,
) -> Result<(), Error> {
    let id = stored.decision_id;
    if stored.resolve_time.is_some() {
        return Err(Error::new(
            ErrorReason::DecisionResolved,
            format!("decision {id} was made already, by {}", stored.actor),
        )
        .precondition(format!("decision/{id}"), "it was made already"));
    }
    if asked.subject_digest != request.subject_digest {
        return Err(Error::new(
            ErrorReason::DigestChanged,
            format!("what decision {id} is about is not what you saw; read it again"),
        )
        .precondition(
            format!("decision/{id}"),
            "the digest of its subject differs",
        ));
    }
    let offered = &asked.choices;
    let taken = request.choice.as_str();
    if resolution == Resolution::Approve && !offered.is_empty() && taken.is_empty() {
        return Err(Error::invalid_field(
            "choice",
            format!("is one of {}", offered.join(", ")),
        ));
    }
    if !taken.is_empty() && !offered.iter().any(|choice| choice == taken) {
        let problem = if offered.is_empty() {
            "is not asked for by this decision".to_owned()
        } else {
            format!("{taken:?} is not one of {}", offered.join(", "))
        };
        return Err(Error::invalid_field("choice", problem));
    }
    Ok(())
}

fn read(stored: &StoredDecision) -> Result<DecisionRequest, StoreError> {
    DecisionRequest::decode(stored.request.as_slice())
        .map_err(|error| malformed("decisions", &error))
}

fn to_wire(stored: &StoredDecision) -> Result<Decision, StoreError> {
    Ok(Decision {
        decision_id: stored.decision_id.to_string(),
        workflow_id: stored.workflow_id.to_string(),
        stage: stored.stage.clone(),
        request: Some(read(stored)?),
        resolution: i32::from(stored.resolution),
        choice: stored.choice.clone(),
        rationale: stored.rationale.clone(),
        actor: stored.actor.clone(),
        create_time: Some(wire_time::timestamp(stored.create_time)),
        expire_time: Some(wire_time::timestamp(stored.expire_time)),
        resolve_time: stored.resolve_time.map(wire_time::timestamp),
    })
}

#[async_trait]
impl Service for DecisionService {
    async fn list_decisions(
        &self,
        request: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let listed = self.list(&namespace, request.into_inner()).await?;
        Ok(Response::new(listed))
    }

    async fn get_decision(
        &self,
        request: Request<GetDecisionRequest>,
    ) -> Result<Response<GetDecisionResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let mut fields = Fields::new();
        let id: Option<DecisionId> = fields.id("decision_id", &request.get_ref().decision_id);
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        let decision = to_wire(&self.stored(&namespace, id).await?).map_err(store_error)?;
        Ok(Response::new(GetDecisionResponse {
            decision: Some(decision),
        }))
    }

    async fn resolve_decision(
        &self,
        request: Request<ResolveDecisionRequest>,
    ) -> Result<Response<ResolveDecisionResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let by = actor(&request, &request.get_ref().actor);
        let resolved = self.resolve(&namespace, request.into_inner(), by);
        let decision = Some(resolved.await?);
        Ok(Response::new(ResolveDecisionResponse { decision }))
    }
}
