//! `agentic events`: what happened in a workflow, event by event.

use clap::Args;
use contracts::orchestrator::{ListWorkflowEventsRequest, WorkflowEvent};

use crate::describe;
use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::clean;
use crate::pages::{self, Page};
use crate::pick;
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic events shop
  agentic events shop --stage deployment
  agentic events shop --json | jq -r .time";

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct EventsArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Only of this stage.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// At most this many, from the first.
    #[arg(long, short = 'L', default_value_t = 1_000_000, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Shows events.
pub async fn run(args: EventsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let id = pick::workflow_id(&mesh, &args.workflow).await?;
    let stage = args.stage.clone().unwrap_or_default();
    pages::read(
        args.limit as usize,
        |size, token| page(&mesh, &id, &stage, size, token),
        |event| {
            if output.is_json() {
                return output.message(&event);
            }
            let text = describe::event(&event, output.painter())
                .unwrap_or_else(|| "an event of a kind that this program does not know".to_owned());
            output.line(format!(
                "{:>5}  {}  {:<12}  {text}",
                event.sequence,
                words::moment(event.time),
                clean(&event.stage),
            ))
        },
    )
    .await?;
    Ok(Exit::Succeeded)
}

async fn page(
    mesh: &Mesh,
    id: &str,
    stage: &str,
    size: i32,
    token: String,
) -> Result<Page<WorkflowEvent>, Error> {
    let request = ListWorkflowEventsRequest {
        workflow_id: id.to_owned(),
        page_size: size,
        page_token: token,
        stage: stage.to_owned(),
    };
    let answer = call!(mesh, workflows.list_workflow_events(request))?;
    Ok(Page {
        items: answer.events,
        next: answer.next_page_token,
    })
}
