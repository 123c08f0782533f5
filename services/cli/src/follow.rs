//! Follows a workflow to its end, or to where a person is needed: shows events, asks, and says how
//! it ended as an exit code.

mod asking;

use std::time::Duration;

use contracts::orchestrator::{
    GetWorkflowRequest, ListClarificationsRequest, ListDecisionsRequest, Workflow,
};
use contracts::parse::PAGE_SIZE_MOST;

use crate::error::Error;
use crate::exit::Exit;
use crate::input::Input;
use crate::mesh::{Mesh, call};
use crate::outcome;
use crate::output::Output;
use crate::pick;
use crate::progress::Progress;
use crate::view::View;
use crate::watcher::{Seen, Watcher};
use crate::words;
use asking::Asking;

/// How to follow.
#[derive(Debug, Clone, clap::Args)]
pub struct FollowArgs {
    /// How long the mesh may be away before the command gives up; a workflow that it took goes on.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub reconnect_within: Duration,
    /// Who answers decisions and clarifications.
    #[arg(long = "as", value_name = "NAME", env = "USER", default_value = "")]
    pub actor: String,
}

/// Follows a workflow that is known to exist.
pub async fn follow(
    mesh: Mesh,
    output: &Output,
    input: &mut Input,
    workflow_id: &str,
    after: i64,
    args: &FollowArgs,
) -> Result<Exit, Error> {
    let mut view = View::new(output);
    let watcher = Watcher::new(mesh, workflow_id.to_owned(), after, args.reconnect_within);
    let ended = watch(watcher, after, &mut view, output, input, args).await;
    view.close();
    ended
}

/// Tells how a workflow ended that has nothing more to be followed.
pub fn tell_end(output: &Output, workflow: &Workflow) -> Result<Exit, Error> {
    View::new(output).end(workflow)?;
    Ok(Exit::of_workflow(workflow))
}

async fn watch(
    mut watcher: Watcher,
    after: i64,
    view: &mut View<'_>,
    output: &Output,
    input: &mut Input,
    args: &FollowArgs,
) -> Result<Exit, Error> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut asking = Asking::new(args.actor.clone());
    let mut live = false;
    let mut away = false;
    let mut held_told = false;
    loop {
        let seen = tokio::select! {
            biased;
            _ = &mut interrupt => {
                return Err(Error::Interrupted(interrupted(watcher.progress())));
            }
            typed = input.line(), if asking.is_open() => {
                asking.answer(typed, watcher.mesh(), view, output).await;
                continue;
            }
            seen = watcher.next() => seen?,
        };
        if away && !matches!(seen, Seen::Broken(_)) {
            away = false;
            view.note("connected again");
        }
        match seen {
            Seen::Event(event) => view.event(&event, watcher.progress())?,
            Seen::CaughtUp => {
                if !live && after > 0 {
                    learn(&mut watcher).await?;
                }
                live = true;
            }
            Seen::Broken(why) => {
                away = true;
                view.note(&format!("connection lost, trying again: {why}"));
                continue;
            }
            Seen::End => return finish(&watcher, view).await,
        }
        let progress = watcher.progress();
        if !live || progress.finished {
            continue;
        }
        if input.is_forbidden() && progress.needs_person() {
            view.close();
            tell_what_waits(progress, output);
            return Ok(Exit::Waiting);
        }
        asking
            .update(progress, watcher.mesh(), view, output, input)
            .await;
        // Paused, or out of budget: nothing to answer, something to do.
        if progress.is_held() && !held_told {
            view.note(&waiting(progress));
        }
        held_told = progress.is_held();
    }
}

// What happened before the watch began is not in its events, but what is open of it is known.
async fn learn(watcher: &mut Watcher) -> Result<(), Error> {
    let mesh = watcher.mesh().clone();
    let workflow_id = watcher.workflow_id().to_owned();
    let workflow = pick::workflow(&mesh, &workflow_id).await?;
    let decisions = ListDecisionsRequest {
        page_size: PAGE_SIZE_MOST,
        workflow_id: workflow_id.clone(),
        ..ListDecisionsRequest::default()
    };
    let decisions = call!(mesh, decisions.list_decisions(decisions))?.decisions;
    let open = ListClarificationsRequest {
        page_size: PAGE_SIZE_MOST,
        workflow_id,
        ..ListClarificationsRequest::default()
    };
    let open = call!(mesh, clarifications.list_clarifications(open))?.clarifications;
    watcher.learn(&workflow, decisions, open);
    Ok(())
}

fn tell_what_waits(progress: &Progress, output: &Output) {
    let painter = output.painter();
    for (id, open) in &progress.decisions {
        for line in crate::question::decision(id, &open.stage, &open.request, painter) {
            output.notice(line);
        }
        for command in crate::question::decision_commands(id, &open.request) {
            output.notice(format!("  {command}"));
        }
    }
    for (id, question) in &progress.clarifications {
        output.notice(asking::clarification_line(question));
        output.notice(format!("  {}", asking::clarification_command(id)));
    }
    if progress.decisions.is_empty() && progress.clarifications.is_empty() {
        output.notice(waiting(progress));
    }
}

fn waiting(progress: &Progress) -> String {
    let next = outcome::next_command(&progress.workflow).unwrap_or_default();
    format!(
        "the workflow is {}: {next}",
        words::workflow_state(progress.workflow.state())
    )
}

fn interrupted(progress: &Progress) -> String {
    let id = crate::output::clean(&progress.workflow.workflow_id);
    format!(
        "interrupted; the workflow goes on.\nWatch it:  agentic watch {id}\nCancel it: agentic cancel {id}"
    )
}

async fn finish(watcher: &Watcher, view: &mut View<'_>) -> Result<Exit, Error> {
    let mesh = watcher.mesh();
    let progress = watcher.progress();
    let request = GetWorkflowRequest {
        workflow_id: progress.workflow.workflow_id.clone(),
    };
    let workflow = match call!(mesh, workflows.get_workflow(request)) {
        Ok(answer) => answer.workflow.filter(|w| words::is_over(w.state())),
        // The event that ended it says the same, and the mesh may stop right after its work.
        Err(Error::Unreachable { .. }) => None,
        Err(error) => return Err(error),
    };
    let workflow = workflow.unwrap_or_else(|| from_events(progress));
    view.end(&workflow)?;
    Ok(Exit::of_workflow(&workflow))
}

fn from_events(progress: &Progress) -> Workflow {
    Workflow {
        stages: progress.stages.iter().map(|s| s.stage.clone()).collect(),
        ..progress.workflow.clone()
    }
}
