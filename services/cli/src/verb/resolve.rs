//! `agentic approve`, `reject` and `revise`: answers a decision, bound to what was shown.

use clap::Args;
use contracts::orchestrator::{Decision, ResolveDecisionRequest};
use contracts::task::Resolution;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, clean};
use crate::surroundings::Surroundings;
use crate::{pick, question, request_id, words};

const APPROVE_HELP: &str = "\
Examples:
  agentic approve shop
  agentic approve 0198c0de-0000-7000-8000-000000000000 --digest sha256:5feceb66
  agentic approve shop --choice theirs --reason 'newer'";

const REJECT_HELP: &str = "\
Examples:
  agentic reject shop --reason 'not this quarter'";

const REVISE_HELP: &str = "\
Examples:
  agentic revise shop --reason 'keep the old endpoint'";

/// Which decision.
#[derive(Debug, Args)]
pub struct Which {
    /// Id of a decision, or of a workflow (or its name) with one open decision.
    decision: String,
    /// Digest of what you were shown; if something else waits by now, nothing is decided.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Who decides.
    #[arg(long = "as", value_name = "NAME", env = "USER", default_value = "")]
    actor: String,
}

/// Arguments of `approve`.
#[derive(Debug, Args)]
#[command(after_help = APPROVE_HELP)]
pub struct ApproveArgs {
    #[command(flatten)]
    which: Which,
    /// Which of the offered choices.
    #[arg(long)]
    choice: Option<String>,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
}

/// Arguments of `reject`.
#[derive(Debug, Args)]
#[command(after_help = REJECT_HELP)]
pub struct RejectArgs {
    #[command(flatten)]
    which: Which,
    /// Why.
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    reason: String,
}

/// Arguments of `revise`.
#[derive(Debug, Args)]
#[command(after_help = REVISE_HELP)]
pub struct ReviseArgs {
    #[command(flatten)]
    which: Which,
    /// What to do differently.
    #[arg(long, short = 'm')]
    reason: String,
}

/// Says yes.
pub async fn approve(args: ApproveArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let choice = args.choice.unwrap_or_default();
    resolve(
        args.which,
        Resolution::Approve,
        choice,
        args.reason,
        surroundings,
    )
    .await
}

/// Says no.
pub async fn reject(args: RejectArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let choice = String::new();
    resolve(
        args.which,
        Resolution::Reject,
        choice,
        args.reason,
        surroundings,
    )
    .await
}

/// Sends it back.
pub async fn revise(args: ReviseArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let choice = String::new();
    resolve(
        args.which,
        Resolution::Revise,
        choice,
        args.reason,
        surroundings,
    )
    .await
}

async fn resolve(
    which: Which,
    resolution: Resolution,
    choice: String,
    rationale: String,
    surroundings: &Surroundings,
) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let decision = pick::decision(&mesh, &which.decision).await?;
    let subject_digest = shown(&decision, &which, output)?;
    let request = ResolveDecisionRequest {
        request_id: request_id::fresh(),
        decision_id: decision.decision_id.clone(),
        subject_digest,
        resolution: resolution.into(),
        choice,
        rationale,
        actor: which.actor,
    };
    tell(&send(&mesh, request).await?, output)
}

async fn send(mesh: &Mesh, request: ResolveDecisionRequest) -> Result<Decision, Error> {
    call!(mesh, decisions.resolve_decision(request))?
        .decision
        .ok_or_else(|| Error::Answer("a decision was made, and none came".to_owned()))
}

// The digest that the answer is bound to. Who names none is shown what it is about.
fn shown(decision: &Decision, which: &Which, output: &Output) -> Result<String, Error> {
    let request = decision.request.clone().unwrap_or_default();
    let Some(digest) = &which.digest else {
        for line in question::decision(
            &decision.decision_id,
            &decision.stage,
            &request,
            output.painter(),
        ) {
            output.note(line);
        }
        return Ok(request.subject_digest);
    };
    if *digest != request.subject_digest {
        return Err(Error::Failed(format!(
            "what waits for the decision is not what you were shown: its digest is {}\nLook again: agentic decisions show {}",
            request.subject_digest, decision.decision_id
        )));
    }
    Ok(digest.clone())
}

fn tell(decision: &Decision, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.message(decision)?;
    } else {
        output.line(format!(
            "decision {} {}",
            clean(&decision.decision_id),
            words::resolution(decision.resolution()),
        ))?;
        output.note(format!(
            "watch it: agentic watch {}",
            clean(&decision.workflow_id)
        ));
    }
    Ok(Exit::Succeeded)
}
