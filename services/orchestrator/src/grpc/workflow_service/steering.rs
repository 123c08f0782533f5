//! Cancel, pause, resume and retry: something is asked of one workflow, once per request id.

use prost::Message;
use tonic::Request;

use contracts::error::Error;
use contracts::id::WorkflowId;
use contracts::orchestrator::{
    self as wire, CancelWorkflowRequest, PauseWorkflowRequest, ResumeWorkflowRequest,
    RetryWorkflowRequest,
};
use contracts::parse::Fields;
use contracts::task::Budget;

use super::{WorkflowService, budget};
use crate::engine::EngineError;
use crate::engine::step::Input;
use crate::engine::submit::digest;
use crate::grpc::{actor, namespace, request_row};
use crate::plan::event::Event;

const REASON_BYTES: usize = 1024;

/// A call that asks something of one workflow.
pub(super) trait Steering: Message {
    /// The RPC.
    const METHOD: &'static str;

    /// Which workflow, which call, and why.
    fn head(&self) -> (&str, &str, &str);

    /// What is asked.
    fn event(&self) -> Event;

    /// A new budget.
    fn budget(&self) -> Option<Budget> {
        None
    }
}

impl Steering for CancelWorkflowRequest {
    const METHOD: &'static str = "CancelWorkflow";

    fn head(&self) -> (&str, &str, &str) {
        (&self.workflow_id, &self.request_id, &self.reason)
    }

    fn event(&self) -> Event {
        Event::CancelRequested {
            reason: self.reason.clone(),
        }
    }
}

impl Steering for PauseWorkflowRequest {
    const METHOD: &'static str = "PauseWorkflow";

    fn head(&self) -> (&str, &str, &str) {
        (&self.workflow_id, &self.request_id, &self.reason)
    }

    fn event(&self) -> Event {
        Event::Paused {
            reason: self.reason.clone(),
        }
    }
}

impl Steering for ResumeWorkflowRequest {
    const METHOD: &'static str = "ResumeWorkflow";

    fn head(&self) -> (&str, &str, &str) {
        (&self.workflow_id, &self.request_id, &self.reason)
    }

    fn event(&self) -> Event {
        Event::Resumed {
            reason: self.reason.clone(),
        }
    }

    fn budget(&self) -> Option<Budget> {
        self.budget
    }
}

impl Steering for RetryWorkflowRequest {
    const METHOD: &'static str = "RetryWorkflow";

    fn head(&self) -> (&str, &str, &str) {
        (&self.workflow_id, &self.request_id, "")
    }

    fn event(&self) -> Event {
        let from_stage = Some(self.from_stage.clone()).filter(|stage| !stage.is_empty());
        Event::RetryRequested { from_stage }
    }
}

impl WorkflowService {
    /// Asks it; a repeated request gets the first answer.
    pub(super) async fn steer<R: Steering>(
        &self,
        request: Request<R>,
    ) -> Result<Option<wire::Workflow>, Error> {
        let (namespace, actor) = (namespace::of(&request)?, actor(&request, ""));
        let request = request.into_inner();
        let (workflow_id, request_id, reason) = request.head();
        let mut fields = Fields::new();
        let id: Option<WorkflowId> = fields.id("workflow_id", workflow_id);
        fields.request_id(request_id);
        fields.text("reason", reason, REASON_BYTES);
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        let content = digest(&request);
        let earlier = || {
            self.engine
                .earlier(&namespace, R::METHOD, request_id, &content)
        };
        if let Some(workflow) = earlier().await? {
            return Ok(Some(workflow.to_wire(true)));
        }
        let (event, budget) = (request.event(), request.budget());
        if matches!(event, Event::Resumed { .. }) {
            let workflow = self.engine.get(&namespace, id).await?;
            budget::check(&workflow, budget.as_ref())?;
        }
        let now = self.engine.clock().now();
        let asked = self
            .engine
            .apply::<EngineError>(&namespace, id, |workflow| {
                let subject = workflow.id().to_string();
                let request = request_row(request_id, R::METHOD, content.clone(), subject, now);
                Ok(Input {
                    event: Some(event.clone()),
                    budget,
                    actor: actor.clone(),
                    request,
                    ..Input::default()
                })
            })
            .await;
        let workflow = match asked {
            Ok(workflow) => workflow,
            Err(EngineError::Repeated) => earlier().await?.ok_or(EngineError::Races(id))?,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(workflow.to_wire(true)))
    }
}
