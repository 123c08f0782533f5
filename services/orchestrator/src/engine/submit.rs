//! Takes in workflows: checks what was asked, picks the pipeline, and makes the first step.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};

use contracts::agent::type_name;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::{ClarificationId, WorkflowId};
use contracts::orchestrator::{self as wire, CreateWorkflowRequest, WorkflowType};
use contracts::parse::{self, Fields};
use contracts::task::{AgentType, AnswerKind, Budget, ClarificationRequest};
use contracts::wire_time;

use super::live::{Live, RepositoryFacts, StageFacts, UsageFacts};
use super::step::{self, Asked, Input};
use super::workflow::{Submission, Workflow};
use super::{Engine, EngineError, Outcome};
use crate::plan::event::Event;
use crate::plan::pipeline::Pipeline;
use crate::plan::state::State;
use crate::store::requests::{self, RequestRow};

/// Environment that workflows deploy to when they name none.
pub const DEFAULT_ENVIRONMENT: &str = "development";
/// Environments that are never deployed to without a person's yes.
const PROTECTED: &[&str] = &["production"];
const TIMEOUT: Duration = Duration::from_hours(24);
const TIMEOUT_MOST: Duration = Duration::from_hours(30 * 24);
const METHOD: &str = "CreateWorkflow";

/// A checked request and the pipeline it follows.
#[derive(Debug)]
pub struct Checked {
    request: CreateWorkflowRequest,
    wire_pipeline: wire::Pipeline,
    pipeline: Pipeline,
}

/// Limit of the whole workflow.
pub fn timeout(request: &CreateWorkflowRequest) -> Duration {
    request
        .timeout
        .and_then(wire_time::duration)
        .unwrap_or(TIMEOUT)
}

/// Checks a request against the pipeline that it names.
pub fn check(
    mut request: CreateWorkflowRequest,
    wire_pipeline: wire::Pipeline,
) -> Result<Checked, Error> {
    let pipeline = Pipeline::parse(&wire_pipeline)?;
    let mut fields = Fields::new();
    fields.request_id(&request.request_id);
    let kind = fields.required_enum::<WorkflowType>("type", request.r#type);
    fields.name("name", &request.name);
    if kind == WorkflowType::App && !request.name.is_empty() {
        fields.slug("name", &request.name);
    }
    fields.text(
        "requirements",
        &request.requirements,
        parse::REQUIREMENTS_BYTES,
    );
    if fields.known_enum::<wire::Priority>("priority", request.priority)
        == wire::Priority::Unspecified
    {
        request.priority = wire::Priority::Normal.into();
    }
    fields.labels("labels", &request.labels);
    if request.environment.is_empty() {
        DEFAULT_ENVIRONMENT.clone_into(&mut request.environment);
    }
    fields.slug("environment", &request.environment);
    let least = Duration::from_secs(1);
    fields.duration("timeout", request.timeout, least, TIMEOUT_MOST);
    check_repository(&mut fields, &request, kind);
    if let Some(budget) = &request.budget {
        check_budget(&mut fields, budget);
    }
    check_parameters(&mut fields, &request, &pipeline);
    fields.finish(Checked {
        request,
        wire_pipeline,
        pipeline,
    })
}

// A user's name in a web address is a token as often as not.
fn holds_credential(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| {
        url.password().is_some() || (url.scheme().starts_with("http") && !url.username().is_empty())
    })
}

fn check_repository(fields: &mut Fields, request: &CreateWorkflowRequest, kind: WorkflowType) {
    let repository = request.repository.clone().unwrap_or_default();
    if repository.url.is_empty() {
        if matches!(
            kind,
            WorkflowType::Feature | WorkflowType::Bugfix | WorkflowType::Change
        ) {
            fields.wrong("repository.url", "is required for this type of workflow");
        }
    } else {
        fields.text("repository.url", &repository.url, parse::URL_BYTES);
        if repository.url.starts_with('-') || repository.url.chars().any(char::is_control) {
            fields.wrong("repository.url", "is not a path or URL");
        }
        if holds_credential(&repository.url) {
            let problem = "holds a credential, which would be kept and shown: git on the agents gets it from a \
                           credential helper";
            fields.wrong("repository.url", problem);
        }
    }
    fields.commit("repository.base_commit", &repository.base_commit);
    fields.commit("repository.head_commit", &repository.head_commit);
    fields.git_ref("repository.branch", &repository.branch);
    fields.git_ref("repository.target_branch", &repository.target_branch);
    if kind == WorkflowType::Change
        && repository.branch.is_empty()
        && repository.head_commit.is_empty()
    {
        fields.wrong(
            "repository.branch",
            "or head_commit is required: which change is it?",
        );
    }
}

/// Checks the bounds of a budget.
pub fn check_budget(fields: &mut Fields, budget: &Budget) {
    for (field, value) in [
        ("budget.token_count", budget.token_count),
        ("budget.cost_micros", budget.cost_micros),
    ] {
        if value < 0 {
            fields.wrong(field, "is negative");
        }
    }
    fields.duration(
        "budget.wall_time",
        budget.wall_time,
        Duration::ZERO,
        TIMEOUT_MOST,
    );
}

fn check_parameters(fields: &mut Fields, request: &CreateWorkflowRequest, pipeline: &Pipeline) {
    for (name, task) in &request.parameters {
        let start: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let field = format!("parameters[{start}]");
        let Some(stage) = pipeline.stages.iter().find(|stage| stage.name == *name) else {
            let known = pipeline.stages.iter().map(|stage| stage.name.as_str());
            let near = parse::nearest(name, known)
                .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            fields.wrong(field, format!("the pipeline has no such stage{near}"));
            continue;
        };
        let (given, wanted) = (task.agent_type(), stage.agent_type);
        if given != wanted {
            fields.wrong(
                field,
                format!(
                    "is for a {} stage, not for {}",
                    type_name(wanted),
                    type_name(given)
                ),
            );
        }
    }
}

impl Engine {
    /// Takes in a workflow; a repeated request gets the first answer.
    pub async fn submit(
        &self,
        namespace: &str,
        checked: Checked,
        traceparent: String,
        actor: String,
    ) -> Result<Arc<Workflow>, Error> {
        let content = digest(&checked.request);
        if let Some(workflow) = self
            .earlier(namespace, METHOD, &checked.request.request_id, &content)
            .await?
        {
            return Ok(workflow);
        }
        let request_id = checked.request.request_id.clone();
        let workflow = self.first(namespace, checked, traceparent);
        let input = self.intake(&workflow, &request_id, content.clone(), actor);
        let id = workflow.id();
        let cell = self.cell(id);
        let mut held = cell.lock().await;
        let mut keyed_at_once = true;
        loop {
            let mut stepped = self
                .with_setting(keyed_at_once, |setting| {
                    step::create(&workflow, input.clone(), setting)
                })
                .map_err(|source| EngineError::Rejected {
                    workflow_id: id,
                    source,
                })?;
            let quota = &self.shared.quota;
            stepped.transition.quota = quota.counted(namespace);
            match self
                .commit(stepped, &mut held)
                .await
                .map_err(EngineError::from)?
            {
                Outcome::Committed(workflow) => {
                    quota.created(namespace);
                    return Ok(workflow);
                }
                Outcome::Blocked => keyed_at_once = false,
                // The same request may have been the last that there was room for.
                Outcome::Full => {
                    self.forget(id);
                    return self
                        .earlier(namespace, METHOD, &request_id, &content)
                        .await?
                        .ok_or_else(|| quota.reached(namespace));
                }
                // Ids are new: only the request id can have been there first.
                Outcome::Lost => {
                    self.forget(id);
                    return self
                        .earlier(namespace, METHOD, &request_id, &content)
                        .await?
                        .ok_or_else(Error::internal);
                }
            }
        }
    }

    /// The plan of a workflow that is only checked.
    pub fn picture(&self, namespace: &str, checked: Checked) -> wire::Workflow {
        let mut picture = self.first(namespace, checked, String::new()).to_wire(true);
        picture.workflow_id = String::new();
        picture.create_time = None;
        picture
    }

    /// The workflow that an earlier call with that request id was about.
    pub async fn earlier(
        &self,
        namespace: &str,
        method: &str,
        request_id: &str,
        content: &[u8],
    ) -> Result<Option<Arc<Workflow>>, Error> {
        let Some(subject) = self
            .earlier_subject(namespace, method, request_id, content)
            .await?
        else {
            return Ok(None);
        };
        let id: WorkflowId = subject.parse().map_err(|_| Error::internal())?;
        Ok(Some(self.get(namespace, id).await?))
    }

    /// What an earlier call with that request id made or changed.
    pub async fn earlier_subject(
        &self,
        namespace: &str,
        method: &str,
        request_id: &str,
        content: &[u8],
    ) -> Result<Option<String>, Error> {
        if request_id.is_empty() {
            return Ok(None);
        }
        let found = async {
            let client = self.store().client().await?;
            requests::find(&client, namespace, request_id).await
        }
        .await
        .map_err(EngineError::from)?;
        match found {
            None => Ok(None),
            Some(earlier) if earlier.method == method && earlier.content == content => {
                Ok(Some(earlier.subject))
            }
            Some(earlier) => Err(Error::new(
                ErrorReason::RequestIdReused,
                format!(
                    "request_id {request_id:?} was used before, for a {} with other content",
                    earlier.method
                ),
            )),
        }
    }

    fn first(&self, namespace: &str, checked: Checked, traceparent: String) -> Workflow {
        let Checked {
            request,
            wire_pipeline,
            pipeline,
        } = checked;
        let now = self.clock().now();
        let protected: BTreeSet<String> = pipeline
            .stages
            .iter()
            .filter(|stage| {
                stage.agent_type == AgentType::Deployment
                    && PROTECTED.contains(&request.environment.as_str())
            })
            .map(|stage| stage.name.clone())
            .collect();
        let live = Live {
            plan: State::new(&pipeline, &protected),
            repository: request
                .repository
                .clone()
                .map_or_else(RepositoryFacts::default, Into::into),
            merged_commit: String::new(),
            revision: String::new(),
            endpoint: String::new(),
            usage: UsageFacts::default(),
            wall_millis: 0,
            budget: None,
            answers: Vec::new(),
            start: None,
            stages: vec![StageFacts::default(); pipeline.stages.len()],
        };
        Workflow {
            version: 0,
            end_time: None,
            deadline: now + timeout(&request),
            last_sequence: 0,
            live,
            results: HashMap::new(),
            submission: Arc::new(Submission {
                workflow_id: WorkflowId::new(),
                namespace: namespace.to_owned(),
                request,
                wire_pipeline,
                pipeline,
                create_time: now,
                traceparent,
            }),
        }
    }

    fn intake(
        &self,
        workflow: &Workflow,
        request_id: &str,
        content: Vec<u8>,
        actor: String,
    ) -> Input {
        let request = (!request_id.is_empty()).then(|| RequestRow {
            request_id: request_id.to_owned(),
            method: METHOD,
            content,
            subject: workflow.id().to_string(),
            create_time: self.clock().now(),
        });
        let asked = question(workflow);
        let event = match &asked {
            None => Event::Submitted,
            Some(asked) => Event::ClarificationAsked {
                stage: None,
                epoch: None,
                clarification_id: asked.clarification_id,
            },
        };
        Input {
            event: Some(event),
            asked,
            actor,
            request,
            ..Input::default()
        }
    }
}

// Work without requirements is asked about before anything starts.
fn question(workflow: &Workflow) -> Option<Asked> {
    let request = &workflow.submission.request;
    let named = request.parameters.values().any(|task| {
        matches!(&task.task, Some(wire::stage_task::Task::Scaffold(task)) if !task.requirements.is_empty())
    });
    let question = match request.r#type() {
        WorkflowType::Feature => "What is the feature to do?",
        WorkflowType::Bugfix => "What goes wrong, and what should happen instead?",
        WorkflowType::App
        | WorkflowType::Change
        | WorkflowType::Custom
        | WorkflowType::Unspecified => return None,
    };
    if named || !request.requirements.trim().is_empty() {
        return None;
    }
    Some(Asked {
        clarification_id: ClarificationId::new(),
        stage: String::new(),
        request: ClarificationRequest {
            question: question.to_owned(),
            kind: AnswerKind::Text.into(),
            choices: Vec::new(),
        },
    })
}

/// What of a request must be the same for it to be the same request.
pub fn digest(request: &impl Message) -> Vec<u8> {
    Sha256::digest(request.encode_to_vec()).to_vec()
}
