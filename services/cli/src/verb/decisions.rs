//! `agentic decisions`: what waits for a person.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use contracts::orchestrator::{
    Clarification, Decision, ListClarificationsRequest, ListDecisionsRequest,
};
use contracts::task::Resolution;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, Table, clean, clean_text, cut};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::{pick, question, words};

const AFTER_HELP: &str = "\
Examples:
  agentic decisions
  agentic decisions shop
  agentic decisions --all --json
  agentic decisions show 0198c0de-0000-7000-8000-000000000000";

const SHOW_HELP: &str = "\
Examples:
  agentic decisions show 0198c0de-0000-7000-8000-000000000000
  agentic decisions show shop";

const LIMIT: usize = 10_000;

/// Arguments of `decisions`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct DecisionsArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Only of this workflow: its id or name.
    workflow: Option<String>,
    /// Answered ones, too.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show one decision in full.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Id of a decision, or of a workflow (or its name) with one open decision.
        decision: String,
    },
}

/// Lists what waits, or shows one decision.
pub async fn run(args: DecisionsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    if let Some(What::Show { decision }) = &args.what {
        return show(&pick::decision(&mesh, decision).await?, output);
    }
    let workflow_id = match &args.workflow {
        Some(workflow) => pick::workflow_id(&mesh, workflow).await?,
        None => String::new(),
    };
    let mut decisions = Vec::new();
    pages::read(
        LIMIT,
        |size, token| decision_page(&mesh, &workflow_id, args.all, size, token),
        |decision| {
            decisions.push(decision);
            Ok(())
        },
    )
    .await?;
    let mut questions = Vec::new();
    pages::read(
        LIMIT,
        |size, token| question_page(&mesh, &workflow_id, args.all, size, token),
        |question| {
            questions.push(question);
            Ok(())
        },
    )
    .await?;
    if output.is_json() {
        decisions.iter().try_for_each(|d| output.message(d))?;
        questions.iter().try_for_each(|q| output.message(q))?;
        return Ok(Exit::Succeeded);
    }
    if decisions.is_empty() && questions.is_empty() {
        output.note("nothing waits for a person");
    }
    list_decisions(&decisions, output)?;
    list_questions(&questions, output)?;
    Ok(Exit::Succeeded)
}

async fn decision_page(
    mesh: &Mesh,
    workflow_id: &str,
    all: bool,
    size: i32,
    token: String,
) -> Result<Page<Decision>, Error> {
    let request = ListDecisionsRequest {
        page_size: size,
        page_token: token,
        workflow_id: workflow_id.to_owned(),
        include_resolved: all,
    };
    let answer = call!(mesh, decisions.list_decisions(request))?;
    Ok(Page {
        items: answer.decisions,
        next: answer.next_page_token,
    })
}

async fn question_page(
    mesh: &Mesh,
    workflow_id: &str,
    all: bool,
    size: i32,
    token: String,
) -> Result<Page<Clarification>, Error> {
    let request = ListClarificationsRequest {
        page_size: size,
        page_token: token,
        workflow_id: workflow_id.to_owned(),
        include_answered: all,
    };
    let answer = call!(mesh, clarifications.list_clarifications(request))?;
    Ok(Page {
        items: answer.clarifications,
        next: answer.next_page_token,
    })
}

fn list_decisions(decisions: &[Decision], output: &Output) -> Result<(), Error> {
    if decisions.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now();
    let mut table = Table::new([
        "decision", "workflow", "stage", "about", "state", "until", "question",
    ]);
    for decision in decisions {
        let request = decision.request.clone().unwrap_or_default();
        table.row([
            clean(&decision.decision_id),
            clean(&decision.workflow_id),
            clean(&decision.stage),
            words::category(request.category()).to_owned(),
            words::resolution(decision.resolution()).to_owned(),
            words::relative(decision.expire_time, now),
            cut(&clean(&request.question), 80),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    output.note("show one: agentic decisions show ID; answer it: agentic approve ID");
    Ok(())
}

fn list_questions(questions: &[Clarification], output: &Output) -> Result<(), Error> {
    if questions.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["question", "workflow", "stage", "text", "answer"]);
    for question in questions {
        table.row([
            clean(&question.clarification_id),
            clean(&question.workflow_id),
            clean(&question.stage),
            cut(&clean(&question.question), 80),
            cut(&clean(&question.answer), 40),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    output.note("answer one: agentic answer ID '…'");
    Ok(())
}

fn show(decision: &Decision, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.message(decision)?;
        return Ok(Exit::Succeeded);
    }
    let request = decision.request.clone().unwrap_or_default();
    output.line(clean(&request.question))?;
    for (name, value) in [
        ("decision", clean(&decision.decision_id)),
        ("workflow", clean(&decision.workflow_id)),
        ("stage", clean(&decision.stage)),
        ("about", words::category(request.category()).to_owned()),
        ("digest", clean(&request.subject_digest)),
        ("asked", words::moment(decision.create_time)),
        ("until", words::moment(decision.expire_time)),
        ("state", words::resolution(decision.resolution()).to_owned()),
        ("by", clean(&decision.actor)),
        ("because", clean(&decision.rationale)),
        ("choices", clean(&request.choices.join(", "))),
    ] {
        if !value.is_empty() {
            output.line(format!("  {name:<9} {value}"))?;
        }
    }
    if !request.detail.is_empty() {
        output.line("")?;
        output.line(clean_text(&request.detail))?;
    }
    if decision.resolution() == Resolution::Unspecified {
        for command in question::decision_commands(&decision.decision_id, &request) {
            output.note(command);
        }
    }
    Ok(Exit::Succeeded)
}
