//! `agentic enrol`: a token with which one agent gets its first certificate.

use std::time::Duration;

use clap::Args;
use contracts::agent::{AGENT_TYPES, type_name};
use contracts::orchestrator::CreateEnrolmentTokenRequest;
use contracts::task::AgentType;
use contracts::wire_time;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::unary;
use crate::output::clean;
use crate::surroundings::Surroundings;

const AFTER_HELP: &str = "\
The agent reads the token from --enrolment-token-file, makes a key that never leaves it, and has it signed.
A token works once. The certificate holds for a day, and the agent renews it by itself.

Examples:
  agentic enrol --type e2e --name build-host-1 > token
  agentic enrol --type validation --expires 24h --json";

/// Arguments of `enrol`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct EnrolArgs {
    /// What the agent will be: scaffold, validation, e2e, integration or deployment.
    #[arg(long = "type", value_name = "TYPE", value_parser = agent_type)]
    agent_type: AgentType,
    /// Which one of its type. Left out: replicas are not told apart.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long the token can be used.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    expires: Duration,
}

/// Makes the token. Never tried again: each try makes another one.
pub async fn run(args: EnrolArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let mesh = surroundings.mesh()?;
    let request = CreateEnrolmentTokenRequest {
        agent_type: args.agent_type.into(),
        name: args.name.unwrap_or_default(),
        lifetime: Some(wire_time::wire_duration(args.expires)),
    };
    let answer = mesh
        .enrolment()
        .create_enrolment_token(unary(request))
        .await
        .map_err(|status| mesh.error(&status))?
        .into_inner();
    if surroundings.output.is_json() {
        surroundings.output.message(&answer)?;
    } else {
        surroundings.output.line(clean(&answer.token))?;
        surroundings
            .output
            .note(format!("for {}; it works once", clean(&answer.identity)));
    }
    Ok(Exit::Succeeded)
}

fn agent_type(text: &str) -> Result<AgentType, String> {
    AGENT_TYPES
        .into_iter()
        .find(|agent_type| type_name(*agent_type) == text)
        .ok_or_else(|| "is not scaffold, validation, e2e, integration or deployment".to_owned())
}
