//! `ClarificationService`.

use tonic::{Request, Response, Status, async_trait};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::{ClarificationId, WorkflowId};
use contracts::orchestrator::clarification_service_server::ClarificationService as Service;
use contracts::orchestrator::{
    AnswerClarificationRequest, AnswerClarificationResponse, Clarification,
    ListClarificationsRequest, ListClarificationsResponse,
};
use contracts::parse::Fields;
use contracts::task::AnswerKind;
use contracts::wire_time;

use super::{actor, namespace, page_token, read_page, request_row, store_error};
use crate::engine::live::AnswerFacts;
use crate::engine::step::Input;
use crate::engine::submit::digest;
use crate::engine::{Engine, EngineError};
use crate::plan::event::Event;
use crate::store::clarifications::{self, StoredClarification};

const METHOD: &str = "AnswerClarification";
const ANSWER_BYTES: usize = 4096;
const ACTOR_BYTES: usize = 400;

/// `agentic.orchestrator.v1.ClarificationService`.
#[derive(Debug, Clone)]
pub struct ClarificationService {
    engine: Engine,
}

impl ClarificationService {
    /// Serves the clarifications of an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn stored(
        &self,
        namespace: &str,
        id: ClarificationId,
    ) -> Result<StoredClarification, Error> {
        let found = async {
            let client = self.engine.store().client().await?;
            clarifications::get(&client, namespace, id).await
        };
        found.await.map_err(store_error)?.ok_or_else(|| {
            Error::new(
                ErrorReason::ClarificationNotFound,
                format!("there is no clarification {id}"),
            )
        })
    }

    async fn list(
        &self,
        namespace: &str,
        request: ListClarificationsRequest,
    ) -> Result<ListClarificationsResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let workflow_id: Option<WorkflowId> = if request.workflow_id.is_empty() {
            None
        } else {
            fields.id("workflow_id", &request.workflow_id)
        };
        fields.finish(())?;
        let after: Option<ClarificationId> = read_page(&request.page_token)?;
        let found = async {
            let client = self.engine.store().client().await?;
            clarifications::list(
                &client,
                namespace,
                workflow_id,
                request.include_answered,
                after,
                size + 1,
            )
            .await
        };
        let (mut listed, total_count) = found.await.map_err(store_error)?;
        let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            listed.pop();
        }
        let next_page_token = listed
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| {
                page_token(&last.clarification_id.to_string())
            });
        let clarifications = listed.iter().map(to_wire).collect();
        Ok(ListClarificationsResponse {
            clarifications,
            next_page_token,
            total_count,
        })
    }

    async fn answer(
        &self,
        namespace: &str,
        request: AnswerClarificationRequest,
        by: String,
    ) -> Result<Clarification, Error> {
        let content = digest(&request);
        let mut fields = Fields::new();
        fields.request_id(&request.request_id);
        let id: Option<ClarificationId> = fields.id("clarification_id", &request.clarification_id);
        fields.required_text("answer", &request.answer, ANSWER_BYTES);
        fields.text("actor", &request.actor, ACTOR_BYTES);
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        if self
            .engine
            .earlier_subject(namespace, METHOD, &request.request_id, &content)
            .await?
            .is_some()
        {
            return Ok(to_wire(&self.stored(namespace, id).await?));
        }
        let stored = self.stored(namespace, id).await?;
        check(&stored, &request.answer)?;
        let now = self.engine.clock().now();
        let told = self
            .engine
            .apply::<EngineError>(namespace, stored.workflow_id, |_| {
                Ok(Input {
                    event: Some(Event::ClarificationAnswered {
                        clarification_id: id,
                    }),
                    answered: Some(AnswerFacts {
                        clarification_id: id,
                        stage: stored.stage.clone(),
                        question: stored.question.clone(),
                        answer: request.answer.clone(),
                        actor: String::new(),
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
            Ok(_) | Err(EngineError::Repeated) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(to_wire(&self.stored(namespace, id).await?))
    }
}

fn check(stored: &StoredClarification, answer: &str) -> Result<(), Error> {
    let id = stored.clarification_id;
    if stored.answer_time.is_some() {
        return Err(Error::new(
            ErrorReason::ClarificationAnswered,
            format!("clarification {id} was answered already, or given up"),
        )
        .precondition(format!("clarification/{id}"), "it is not open"));
    }
    let kind = AnswerKind::try_from(i32::from(stored.kind)).unwrap_or(AnswerKind::Text);
    let problem = match kind {
        AnswerKind::Choice if !stored.choices.iter().any(|choice| choice == answer) => {
            format!("is one of {}", stored.choices.join(", "))
        }
        AnswerKind::YesNo if !["yes", "no"].contains(&answer) => "is yes or no".to_owned(),
        AnswerKind::Number if !answer.parse::<f64>().is_ok_and(f64::is_finite) => {
            "is a decimal number".to_owned()
        }
        AnswerKind::Unspecified
        | AnswerKind::Text
        | AnswerKind::Choice
        | AnswerKind::YesNo
        | AnswerKind::Number => return Ok(()),
    };
    Err(Error::invalid_field("answer", problem))
}

fn to_wire(stored: &StoredClarification) -> Clarification {
    Clarification {
        clarification_id: stored.clarification_id.to_string(),
        workflow_id: stored.workflow_id.to_string(),
        stage: stored.stage.clone(),
        question: stored.question.clone(),
        kind: i32::from(stored.kind),
        choices: stored.choices.clone(),
        answer: stored.answer.clone(),
        actor: stored.actor.clone(),
        round: stored.round,
        create_time: Some(wire_time::timestamp(stored.create_time)),
        expire_time: Some(wire_time::timestamp(stored.expire_time)),
        answer_time: stored.answer_time.map(wire_time::timestamp),
    }
}

#[async_trait]
impl Service for ClarificationService {
    async fn list_clarifications(
        &self,
        request: Request<ListClarificationsRequest>,
    ) -> Result<Response<ListClarificationsResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let listed = self.list(&namespace, request.into_inner()).await?;
        Ok(Response::new(listed))
    }

    async fn answer_clarification(
        &self,
        request: Request<AnswerClarificationRequest>,
    ) -> Result<Response<AnswerClarificationResponse>, Status> {
        let namespace = namespace::of(&request)?;
        let by = actor(&request, &request.get_ref().actor);
        let answered = self.answer(&namespace, request.into_inner(), by);
        let clarification = Some(answered.await?);
        Ok(Response::new(AnswerClarificationResponse { clarification }))
    }
}
