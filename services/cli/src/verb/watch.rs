//! `agentic watch`: follows a workflow to its end.

use clap::Args;

use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{FollowArgs, follow, tell_end};
use crate::pick;
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic watch shop
  agentic watch 0198c0de-0000-7000-8000-000000000000 --json
  agentic watch shop --after 17 --no-input";

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct WatchArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Only events after this sequence.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
    /// How to follow it.
    #[command(flatten)]
    follow: FollowArgs,
}

/// Follows a workflow.
pub async fn run(args: WatchArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let mesh = surroundings.mesh()?;
    let workflow = pick::workflow(&mesh, &args.workflow).await?;
    if args.after > workflow.last_sequence {
        return Err(Error::Usage(format!(
            "--after {}: the newest event of the workflow is {}",
            args.after, workflow.last_sequence
        )));
    }
    if words::is_over(workflow.state()) && args.after == workflow.last_sequence {
        return tell_end(&surroundings.output, &workflow);
    }
    let mut input = surroundings.input();
    follow(
        mesh,
        &surroundings.output,
        &mut input,
        &workflow.workflow_id,
        args.after,
        &args.follow,
    )
    .await
}
