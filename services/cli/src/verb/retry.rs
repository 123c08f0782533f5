//! `agentic retry`: goes on with a workflow that failed or was cancelled.

use clap::Args;
use contracts::orchestrator::RetryWorkflowRequest;

use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{FollowArgs, follow};
use crate::mesh::call;
use crate::surroundings::Surroundings;
use crate::{pick, request_id, verb};

const AFTER_HELP: &str = "\
Examples:
  agentic retry shop
  agentic retry shop --from deployment
  agentic retry shop --from e2e --watch";

/// Arguments of `retry`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RetryArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// From this stage; it and all that need it run again. Left out: all that did not succeed.
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Follow it to its end.
    #[arg(long, short)]
    watch: bool,
    /// How to follow it.
    #[command(flatten)]
    follow: FollowArgs,
}

/// Retries a workflow.
pub async fn run(args: RetryArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let workflow = pick::workflow(&mesh, &args.workflow).await?;
    let request = RetryWorkflowRequest {
        request_id: request_id::fresh(),
        workflow_id: workflow.workflow_id.clone(),
        from_stage: args.from.unwrap_or_default(),
    };
    let answer = call!(mesh, workflows.retry_workflow(request))?;
    if !args.watch {
        return verb::tell_state(answer.workflow, output);
    }
    let mut input = surroundings.input();
    follow(
        mesh,
        output,
        &mut input,
        &workflow.workflow_id,
        workflow.last_sequence,
        &args.follow,
    )
    .await
}
