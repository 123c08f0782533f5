//! `agentic cancel`: cancels a workflow and stops its tasks.

use clap::Args;
use contracts::orchestrator::CancelWorkflowRequest;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::call;
use crate::surroundings::Surroundings;
use crate::{pick, request_id, verb};

const AFTER_HELP: &str = "\
Examples:
  agentic cancel shop
  agentic cancel shop --reason 'wrong branch'";

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CancelArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
}

/// Cancels a workflow.
pub async fn run(args: CancelArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let mesh = surroundings.mesh()?;
    let request = CancelWorkflowRequest {
        request_id: request_id::fresh(),
        workflow_id: pick::workflow_id(&mesh, &args.workflow).await?,
        reason: args.reason,
    };
    let answer = call!(mesh, workflows.cancel_workflow(request))?;
    verb::tell_state(answer.workflow, &surroundings.output)
}
