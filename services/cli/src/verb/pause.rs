//! `agentic pause`: starts nothing new in a workflow.

use clap::Args;
use contracts::orchestrator::PauseWorkflowRequest;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::call;
use crate::surroundings::Surroundings;
use crate::{pick, request_id, verb};

const AFTER_HELP: &str = "\
Examples:
  agentic pause shop
  agentic pause shop --reason 'release freeze'";

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PauseArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
}

/// Pauses a workflow.
pub async fn run(args: PauseArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let mesh = surroundings.mesh()?;
    let request = PauseWorkflowRequest {
        request_id: request_id::fresh(),
        workflow_id: pick::workflow_id(&mesh, &args.workflow).await?,
        reason: args.reason,
    };
    let answer = call!(mesh, workflows.pause_workflow(request))?;
    verb::tell_state(answer.workflow, &surroundings.output)
}
