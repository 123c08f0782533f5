//! The verbs, one module each.

mod agents;
mod answer;
mod artifacts;
mod audit;
mod cancel;
mod certs;
mod completions;
mod decisions;
mod doctor;
mod down;
mod enrol;
mod events;
mod list;
mod logs;
mod pause;
mod pipelines;
mod project;
mod resolve;
mod resume;
mod retry;
mod run;
mod show;
mod token;
mod up;
mod watch;

use clap::Subcommand;
use contracts::orchestrator::Workflow;
use service_runtime::telemetry::Telemetry;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, clean};
use crate::surroundings::Surroundings;
use crate::words;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the whole mesh in one process.
    Up(Box<up::UpArgs>),
    /// Stop the mesh that `up` runs.
    Down(down::DownArgs),
    /// Submit work and follow it to its end.
    Run(Box<run::RunArgs>),
    /// List workflows, newest first.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show one workflow with its stages and results.
    Show(show::ShowArgs),
    /// Follow a workflow to its end.
    Watch(watch::WatchArgs),
    /// Show the logs of a workflow's tasks.
    Logs(logs::LogsArgs),
    /// Show what happened in a workflow, event by event.
    Events(events::EventsArgs),
    /// Cancel a workflow and stop its tasks.
    Cancel(cancel::CancelArgs),
    /// Start nothing new in a workflow until it is resumed.
    Pause(pause::PauseArgs),
    /// Go on with a paused workflow, or with one whose budget ran out.
    Resume(resume::ResumeArgs),
    /// Go on with a workflow that failed or was cancelled.
    Retry(retry::RetryArgs),
    /// Say yes to a decision.
    Approve(resolve::ApproveArgs),
    /// Say no to a decision.
    Reject(resolve::RejectArgs),
    /// Send the work back with what to do differently.
    Revise(resolve::ReviseArgs),
    /// Answer a question about the requirements.
    Answer(answer::AnswerArgs),
    /// List what waits for a person, or show one decision in full.
    Decisions(decisions::DecisionsArgs),
    /// List the agents, or give one no new work.
    Agents(agents::AgentsArgs),
    /// List and download what workflows produced.
    Artifacts(artifacts::ArtifactsArgs),
    /// List, show, create and delete pipelines.
    Pipelines(pipelines::PipelinesArgs),
    /// See who did what, and check that nobody changed the record.
    Audit(audit::AuditArgs),
    /// Make, list and revoke the tokens of people and services.
    Token(token::TokenArgs),
    /// Look at projects as the agents do.
    Project(project::ProjectArgs),
    /// Make an authority and certificates for the services of a mesh, or revoke those of agents.
    Certs(certs::CertsArgs),
    /// Make a token with which an agent gets its first certificate.
    Enrol(enrol::EnrolArgs),
    /// Say what is missing on this machine, and how to get it.
    Doctor(doctor::DoctorArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
}

impl Verb {
    /// How it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Down(_) => "down",
            Self::Run(_) => "run",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Watch(_) => "watch",
            Self::Logs(_) => "logs",
            Self::Events(_) => "events",
            Self::Cancel(_) => "cancel",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Retry(_) => "retry",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Revise(_) => "revise",
            Self::Answer(_) => "answer",
            Self::Decisions(_) => "decisions",
            Self::Agents(_) => "agents",
            Self::Artifacts(_) => "artifacts",
            Self::Pipelines(_) => "pipelines",
            Self::Audit(_) => "audit",
            Self::Token(_) => "token",
            Self::Project(_) => "project",
            Self::Certs(_) => "certs",
            Self::Enrol(_) => "enrol",
            Self::Doctor(_) => "doctor",
            Self::Completions(_) => "completions",
        }
    }

    /// It serves until it is stopped, and its log is its voice.
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// Carries a verb out.
pub async fn run(
    verb: Verb,
    surroundings: &Surroundings,
    telemetry: &Telemetry,
) -> Result<Exit, Error> {
    match verb {
        Verb::Up(args) => Box::pin(up::run(*args, surroundings, telemetry)).await,
        Verb::Down(args) => down::run(args, surroundings).await,
        Verb::Run(args) => Box::pin(run::run(*args, surroundings)).await,
        Verb::List(args) => list::run(args, surroundings).await,
        Verb::Show(args) => show::run(args, surroundings).await,
        Verb::Watch(args) => Box::pin(watch::run(args, surroundings)).await,
        Verb::Logs(args) => logs::run(args, surroundings).await,
        Verb::Events(args) => events::run(args, surroundings).await,
        Verb::Cancel(args) => cancel::run(args, surroundings).await,
        Verb::Pause(args) => pause::run(args, surroundings).await,
        Verb::Resume(args) => Box::pin(resume::run(args, surroundings)).await,
        Verb::Retry(args) => Box::pin(retry::run(args, surroundings)).await,
        Verb::Approve(args) => resolve::approve(args, surroundings).await,
        Verb::Reject(args) => resolve::reject(args, surroundings).await,
        Verb::Revise(args) => resolve::revise(args, surroundings).await,
        Verb::Answer(args) => answer::run(args, surroundings).await,
        Verb::Decisions(args) => decisions::run(args, surroundings).await,
        Verb::Agents(args) => agents::run(args, surroundings).await,
        Verb::Artifacts(args) => artifacts::run(args, surroundings).await,
        Verb::Pipelines(args) => pipelines::run(args, surroundings).await,
        Verb::Audit(args) => audit::run(args, surroundings).await,
        Verb::Token(args) => token::run(args, surroundings).await,
        Verb::Project(args) => project::run(&args, surroundings),
        Verb::Certs(args) => certs::run(args, surroundings).await,
        Verb::Enrol(args) => enrol::run(args, surroundings).await,
        Verb::Doctor(args) => doctor::run(args, surroundings).await,
        Verb::Completions(args) => completions::run(&args, surroundings),
    }
}

/// Says how a workflow stands after a call that changed it.
fn tell_state(workflow: Option<Workflow>, output: &Output) -> Result<Exit, Error> {
    let workflow = workflow
        .ok_or_else(|| Error::Answer("the workflow was changed, and none came".to_owned()))?;
    if output.is_json() {
        output.message(&workflow)?;
    } else {
        output.line(format!(
            "{} {}: {}",
            clean(&workflow.name),
            clean(&workflow.workflow_id),
            words::workflow_state(workflow.state()),
        ))?;
    }
    Ok(Exit::Succeeded)
}
