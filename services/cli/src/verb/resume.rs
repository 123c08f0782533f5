//! `agentic resume`: goes on with a paused workflow, or with one whose budget ran out.

use clap::Args;
use contracts::orchestrator::ResumeWorkflowRequest;

use crate::budget::BudgetArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{FollowArgs, follow};
use crate::mesh::call;
use crate::surroundings::Surroundings;
use crate::{pick, request_id, verb};

const AFTER_HELP: &str = "\
Examples:
  agentic resume shop
  agentic resume shop --watch
  agentic resume shop --budget-cost 5.00
  agentic resume shop --budget-tokens 2000000 --budget-time 2h

A workflow that is `awaiting budget` needs a larger one: its limits take the place of the old ones, and each
must be more than what was spent so far (`agentic show`).";

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ResumeArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
    /// What the work may spend from now on, what was spent included. In place of all limits before.
    #[command(flatten)]
    budget: BudgetArgs,
    /// Follow it to its end.
    #[arg(long, short)]
    watch: bool,
    /// How to follow it.
    #[command(flatten)]
    follow: FollowArgs,
}

/// Resumes a workflow.
pub async fn run(args: ResumeArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let workflow = pick::workflow(&mesh, &args.workflow).await?;
    let request = ResumeWorkflowRequest {
        request_id: request_id::fresh(),
        workflow_id: workflow.workflow_id.clone(),
        reason: args.reason,
        budget: args.budget.wire(),
    };
    let answer = call!(mesh, workflows.resume_workflow(request))?;
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
