//! `agentic resume`: goes on with a paused workflow, or with one whose budget ran out.

use clap::Args;
use contracts::orchestrator::ResumeWorkflowRequest;
use contracts::task::Budget;

use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{FollowArgs, follow};
use crate::mesh::call;
use crate::surroundings::Surroundings;
use crate::verb::run::dollars;
use crate::{pick, request_id, verb};

const AFTER_HELP: &str = "\
Examples:
  agentic resume shop
  agentic resume shop --watch
  agentic resume shop --budget-cost 5.00";

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ResumeArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
    /// Most model tokens to spend from now on.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    budget_tokens: Option<i64>,
    /// Most money to spend, in US dollars.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    budget_cost: Option<i64>,
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
    let budget = (args.budget_tokens.is_some() || args.budget_cost.is_some()).then(|| Budget {
        token_count: args.budget_tokens.unwrap_or_default(),
        cost_micros: args.budget_cost.unwrap_or_default(),
        wall_time: None,
    });
    let workflow = pick::workflow(&mesh, &args.workflow).await?;
    let request = ResumeWorkflowRequest {
        request_id: request_id::fresh(),
        workflow_id: workflow.workflow_id.clone(),
        reason: args.reason,
        budget,
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
