//! `agentic run`: submits work and follows it to its end.

mod request;

use std::time::Duration;

use contracts::orchestrator::{
    CreateWorkflowRequest, CreateWorkflowResponse, GetPipelineRequest, Pipeline, Workflow,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::exit::Exit;
use crate::follow::follow;
use crate::mesh::{Mesh, call};
use crate::outcome;
use crate::output::{Output, Paint, clean};
use crate::setting::{self, Setting};
use crate::surroundings::Surroundings;
use crate::words;

pub use request::RunArgs;

// After a few tries that followed each other faster.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Submits work and follows it.
pub async fn run(args: RunArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mut request = request::build(&args)?;
    let mesh = surroundings.mesh()?;
    let request_id = request.request_id.clone();
    let created = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            return Err(Error::Interrupted(format!(
                "interrupted before the mesh answered; the work may have been taken in.\nThe same command with --request-id {request_id} neither loses nor doubles it."
            )));
        }
        created = create(&args, &mesh, &mut request, output) => created?,
    };
    let workflow = created
        .workflow
        .ok_or_else(|| Error::Answer("a workflow was created, and none came".to_owned()))?;
    if args.validate_only {
        return show_plan(&workflow, output);
    }
    if workflow.workflow_id.is_empty() {
        return Err(Error::Answer("the new workflow has no id".to_owned()));
    }
    if args.detach {
        return tell_id(&workflow, output);
    }
    output.note(format!(
        "{} {} ({})",
        output.painter().paint(Paint::Faint, "workflow"),
        clean(&workflow.workflow_id),
        words::workflow_type(workflow.r#type()),
    ));
    let mut input = surroundings.input();
    follow(
        mesh,
        output,
        &mut input,
        &workflow.workflow_id,
        0,
        &args.follow,
    )
    .await
}

// Whoever restarts a part of the mesh must not fail the work of others: it can wait for a moment.
async fn create(
    args: &RunArgs,
    mesh: &Mesh,
    request: &mut CreateWorkflowRequest,
    output: &Output,
) -> Result<CreateWorkflowResponse, Error> {
    let within = args.follow.reconnect_within;
    let give_up = Instant::now() + within;
    let mut told = false;
    loop {
        let created = async {
            set_parameters(args, mesh, request).await?;
            call!(mesh, workflows.create_workflow(request.clone()))
        };
        match created.await {
            Err(error) if error.exit() == Exit::Unreachable && Instant::now() < give_up => {
                if !told {
                    let problem = error.to_string();
                    output.notice(format!(
                        "{}\nTrying again for {} (--reconnect-within).",
                        problem.lines().next().unwrap_or_default(),
                        words::duration(within)
                    ));
                }
                told = true;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            created => return created,
        }
    }
}

// Stages and their types are those of the pipeline that the workflow will follow.
async fn set_parameters(
    args: &RunArgs,
    mesh: &Mesh,
    request: &mut CreateWorkflowRequest,
) -> Result<(), Error> {
    if args.set.is_empty() && args.template.is_none() {
        return Ok(());
    }
    let pipeline = match &request.pipeline {
        Some(pipeline) => pipeline.clone(),
        None => stored(mesh, request).await?,
    };
    let mut settings = Vec::new();
    if let Some(template) = &args.template {
        let stage = pipeline
            .stages
            .iter()
            .find(|stage| {
                stage
                    .task
                    .as_ref()
                    .map(contracts::orchestrator::StageTask::agent_type)
                    == Some(contracts::task::AgentType::Scaffold)
            })
            .ok_or_else(|| {
                Error::Usage(format!(
                    "--template: pipeline {:?} has no scaffold stage",
                    pipeline.name
                ))
            })?;
        settings.push(Setting::new(&stage.name, "template", template));
    }
    settings.extend(args.set.iter().cloned());
    request.parameters = setting::parameters(&settings, &pipeline)?;
    Ok(())
}

async fn stored(mesh: &Mesh, request: &CreateWorkflowRequest) -> Result<Pipeline, Error> {
    let pipeline_id = if request.pipeline_id.is_empty() {
        // Built-in pipelines have the name of their type.
        words::workflow_type(request.r#type()).to_owned()
    } else {
        request.pipeline_id.clone()
    };
    let ask = GetPipelineRequest {
        pipeline_id,
        version: 0,
    };
    call!(mesh, pipelines.get_pipeline(ask))?
        .pipeline
        .ok_or_else(|| Error::Answer("a pipeline was asked for, and none came".to_owned()))
}

fn show_plan(workflow: &Workflow, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.message(workflow)?;
        return Ok(Exit::Succeeded);
    }
    output.line(format!(
        "{} ({}) would follow pipeline {} version {}:",
        output
            .painter()
            .paint(Paint::Strong, &clean(&workflow.name)),
        words::workflow_type(workflow.r#type()),
        clean(&workflow.pipeline_id),
        workflow.pipeline_version,
    ))?;
    for (stage, line) in workflow
        .stages
        .iter()
        .zip(outcome::stage_lines(workflow, output.painter()))
    {
        let needs = if stage.needs.is_empty() {
            String::new()
        } else {
            let needs: Vec<_> = stage.needs.iter().map(|need| clean(need)).collect();
            format!("  needs {}", needs.join(", "))
        };
        output.line(format!("{line}{needs}"))?;
    }
    output.note("nothing was created");
    Ok(Exit::Succeeded)
}

fn tell_id(workflow: &Workflow, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.message(workflow)?;
        return Ok(Exit::Succeeded);
    }
    let id = clean(&workflow.workflow_id);
    output.line(&id)?;
    output.note(format!("watch it: agentic watch {id}"));
    Ok(Exit::Succeeded)
}
