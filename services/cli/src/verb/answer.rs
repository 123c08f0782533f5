//! `agentic answer`: answers a question about the requirements.

use clap::Args;
use contracts::orchestrator::{AnswerClarificationRequest, ListClarificationsRequest};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::clean;
use crate::surroundings::Surroundings;
use crate::{pick, request_id};

const AFTER_HELP: &str = "\
Examples:
  agentic answer shop 'in euros'
  agentic answer 0198c0de-0000-7000-8000-000000000000 yes";

/// Arguments of `answer`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct AnswerArgs {
    /// Id of a clarification, or of a workflow (or its name) with one open question.
    clarification: String,
    /// The answer.
    answer: String,
    /// Who answers.
    #[arg(long = "as", value_name = "NAME", env = "USER", default_value = "")]
    actor: String,
}

/// Answers a question.
pub async fn run(args: AnswerArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let request = AnswerClarificationRequest {
        request_id: request_id::fresh(),
        clarification_id: args.clarification.clone(),
        answer: args.answer.clone(),
        actor: args.actor.clone(),
    };
    let is_id = args
        .clarification
        .parse::<contracts::id::ClarificationId>()
        .is_ok();
    let answer = if is_id {
        call!(mesh, clarifications.answer_clarification(request.clone()))
    } else {
        Err(Error::NotFound(args.clarification.clone()))
    };
    let answer = match answer {
        Err(error) if error.is_not_found() => {
            let mut request = request;
            request.clarification_id = only_open(&mesh, &args.clarification).await?;
            call!(mesh, clarifications.answer_clarification(request))?
        }
        answer => answer?,
    };
    let clarification = answer
        .clarification
        .ok_or_else(|| Error::Answer("a question was answered, and none came".to_owned()))?;
    if output.is_json() {
        output.message(&clarification)?;
    } else {
        output.line(format!("answered: {}", clean(&clarification.question)))?;
    }
    Ok(Exit::Succeeded)
}

async fn only_open(mesh: &Mesh, workflow: &str) -> Result<String, Error> {
    let workflow_id = pick::workflow_id(mesh, workflow).await?;
    let request = ListClarificationsRequest {
        page_size: 2,
        workflow_id: workflow_id.clone(),
        ..ListClarificationsRequest::default()
    };
    let mut open = call!(mesh, clarifications.list_clarifications(request))?.clarifications;
    match (open.pop(), open.pop()) {
        (Some(one), None) => Ok(one.clarification_id),
        (None, _) => Err(Error::NotFound(format!(
            "workflow {workflow_id} has no open question, and there is no question of that id"
        ))),
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "workflow {workflow_id} has several open questions: name one of `agentic decisions {workflow_id}`"
        ))),
    }
}
