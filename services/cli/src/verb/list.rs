//! `agentic list`: workflows, newest first.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use contracts::orchestrator::{
    ListWorkflowsRequest, Workflow, WorkflowFilter, WorkflowOutcome, WorkflowState, WorkflowType,
};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Table, clean, cut};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic list
  agentic list --state running --state awaiting-decision
  agentic list --type change --label team=web --limit 200
  agentic list --json | jq .workflowId";

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListArgs {
    /// Only in this state; may be repeated.
    #[arg(long = "state", value_enum)]
    states: Vec<State>,
    /// Only of this kind; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    types: Vec<Kind>,
    /// Only with exactly this name.
    #[arg(long)]
    name: Option<String>,
    /// Only with this label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// At most this many.
    #[arg(long, short = 'L', default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Pending,
    Running,
    AwaitingDecision,
    AwaitingClarification,
    AwaitingBudget,
    Paused,
    Compensating,
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    App,
    Feature,
    Bugfix,
    Change,
    Custom,
}

/// Lists workflows.
pub async fn run(args: ListArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let filter = filter(&args)?;
    let now = SystemTime::now();
    let mut table = Table::new(["id", "name", "type", "state", "progress", "created", "took"]);
    let more = pages::read(
        args.limit as usize,
        |size, token| page(&mesh, filter.clone(), size, token),
        |workflow| {
            if output.is_json() {
                return output.message(&workflow);
            }
            table.row(cells(&workflow, now));
            Ok(())
        },
    )
    .await?;
    if output.is_json() {
        return Ok(Exit::Succeeded);
    }
    if table.is_empty() {
        output.note("no workflows; start one with `agentic run`");
        return Ok(Exit::Succeeded);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    if more {
        output.note(format!(
            "there are more: --limit {}",
            args.limit.saturating_mul(2)
        ));
    }
    Ok(Exit::Succeeded)
}

async fn page(
    mesh: &Mesh,
    filter: WorkflowFilter,
    size: i32,
    token: String,
) -> Result<Page<Workflow>, Error> {
    let request = ListWorkflowsRequest {
        page_size: size,
        page_token: token,
        filter: Some(filter),
    };
    let answer = call!(mesh, workflows.list_workflows(request))?;
    Ok(Page {
        items: answer.workflows,
        next: answer.next_page_token,
    })
}

fn cells(workflow: &Workflow, now: SystemTime) -> [String; 7] {
    let took = words::between(workflow.start_time, workflow.end_time)
        .map_or_else(String::new, words::duration);
    [
        clean(&workflow.workflow_id),
        cut(&clean(&workflow.name), 40),
        words::workflow_type(workflow.r#type()).to_owned(),
        state(workflow),
        format!("{:.0} %", workflow.percent),
        words::relative(workflow.create_time, now),
        took,
    ]
}

fn state(workflow: &Workflow) -> String {
    use contracts::task::Verdict;
    let verdict = workflow.outcome.as_ref().map(WorkflowOutcome::verdict);
    match (workflow.state(), verdict) {
        (WorkflowState::Failed | WorkflowState::Succeeded, Some(Verdict::NotProven)) => {
            words::verdict(Verdict::NotProven).to_owned()
        }
        (state, _) => words::workflow_state(state).to_owned(),
    }
}

fn filter(args: &ListArgs) -> Result<WorkflowFilter, Error> {
    let labels = args
        .labels
        .iter()
        .map(|label| {
            label
                .split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| Error::Usage(format!("--label {label}: is not key=value")))
        })
        .collect::<Result<_, _>>()?;
    let states = args.states.iter().map(|state| match state {
        State::Pending => WorkflowState::Pending,
        State::Running => WorkflowState::Running,
        State::AwaitingDecision => WorkflowState::AwaitingDecision,
        State::AwaitingClarification => WorkflowState::AwaitingClarification,
        State::AwaitingBudget => WorkflowState::AwaitingBudget,
        State::Paused => WorkflowState::Paused,
        State::Compensating => WorkflowState::Compensating,
        State::Succeeded => WorkflowState::Succeeded,
        State::Failed => WorkflowState::Failed,
        State::Cancelled => WorkflowState::Cancelled,
    });
    let types = args.types.iter().map(|kind| match kind {
        Kind::App => WorkflowType::App,
        Kind::Feature => WorkflowType::Feature,
        Kind::Bugfix => WorkflowType::Bugfix,
        Kind::Change => WorkflowType::Change,
        Kind::Custom => WorkflowType::Custom,
    });
    Ok(WorkflowFilter {
        states: states.map(Into::into).collect(),
        types: types.map(Into::into).collect(),
        name: args.name.clone().unwrap_or_default(),
        labels,
        ..WorkflowFilter::default()
    })
}
