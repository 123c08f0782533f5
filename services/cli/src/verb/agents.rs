//! `agentic agents`: who can take work.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use contracts::agent::type_name;
use contracts::orchestrator::{Agent, DrainAgentRequest, GetAgentRequest, ListAgentsRequest};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, Table, clean, cut};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::{request_id, words};

const AFTER_HELP: &str = "\
Examples:
  agentic agents
  agentic agents --json
  agentic agents show 0198c0de-0000-7000-8000-000000000000
  agentic agents drain 0198c0de-0000-7000-8000-000000000000";

const SHOW_HELP: &str = "\
Examples:
  agentic agents show 0198c0de-0000-7000-8000-000000000000";

const DRAIN_HELP: &str = "\
Examples:
  agentic agents drain 0198c0de-0000-7000-8000-000000000000";

const LIMIT: usize = 100_000;

/// Arguments of `agents`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct AgentsArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show one agent with what it is able to do.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Instance.
        instance: String,
    },
    /// Give an agent no new work.
    #[command(after_help = DRAIN_HELP)]
    Drain {
        /// Instance.
        instance: String,
    },
}

/// Lists agents, shows or drains one.
pub async fn run(args: AgentsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    match args.what {
        None => list(&mesh, output).await,
        Some(What::Show { instance }) => {
            let request = GetAgentRequest {
                instance_id: instance,
            };
            let answer = call!(mesh, agents.get_agent(request))?;
            show(answer.agent, output)
        }
        Some(What::Drain { instance }) => {
            let request = DrainAgentRequest {
                request_id: request_id::fresh(),
                instance_id: instance,
            };
            let answer = call!(mesh, agents.drain_agent(request))?;
            show(answer.agent, output)
        }
    }
}

async fn list(mesh: &Mesh, output: &Output) -> Result<Exit, Error> {
    let now = SystemTime::now();
    let mut table = Table::new([
        "type", "state", "free", "slots", "instance", "address", "heard", "why",
    ]);
    pages::read(
        LIMIT,
        |size, token| page(mesh, size, token),
        |agent| {
            if output.is_json() {
                return output.message(&agent);
            }
            table.row([
                type_name(agent.agent_type()).to_owned(),
                words::agent_state(agent.state()).to_owned(),
                agent.free_slot_count.to_string(),
                agent.slot_count.to_string(),
                clean(&agent.instance_id),
                clean(&agent.address),
                words::relative(agent.last_beat_time, now),
                cut(&clean(&agent.reason), 100),
            ]);
            Ok(())
        },
    )
    .await?;
    if output.is_json() {
        return Ok(Exit::Succeeded);
    }
    if table.is_empty() {
        output.note("no agent is connected");
        return Ok(Exit::Succeeded);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    Ok(Exit::Succeeded)
}

async fn page(mesh: &Mesh, size: i32, token: String) -> Result<Page<Agent>, Error> {
    let request = ListAgentsRequest {
        page_size: size,
        page_token: token,
        ..ListAgentsRequest::default()
    };
    let answer = call!(mesh, agents.list_agents(request))?;
    Ok(Page {
        items: answer.agents,
        next: answer.next_page_token,
    })
}

fn show(agent: Option<Agent>, output: &Output) -> Result<Exit, Error> {
    let agent =
        agent.ok_or_else(|| Error::Answer("an agent was asked for, and none came".to_owned()))?;
    if output.is_json() {
        output.message(&agent)?;
        return Ok(Exit::Succeeded);
    }
    output.line(format!(
        "{} agent {}: {}",
        type_name(agent.agent_type()),
        clean(&agent.instance_id),
        words::agent_state(agent.state()),
    ))?;
    for (name, value) in [
        ("address", clean(&agent.address)),
        ("version", clean(&agent.version)),
        (
            "slots",
            format!("{} of {} free", agent.free_slot_count, agent.slot_count),
        ),
        ("connected", words::moment(agent.connect_time)),
        ("call-back", words::moment(agent.last_callback_time)),
        ("why", clean(&agent.reason)),
        ("memory", words::bytes(agent.memory_bytes)),
        ("tasks", clean(&agent.task_ids.join(" "))),
    ] {
        if !value.is_empty() {
            output.line(format!("  {name:<10} {value}"))?;
        }
    }
    for capability in &agent.capabilities {
        output.line(format!(
            "  {:<10} {} {}",
            clean(&capability.kind),
            clean(&capability.name),
            clean(&capability.version)
        ))?;
    }
    Ok(Exit::Succeeded)
}
