//! `agentic pipelines`: the graphs of stages that workflows follow.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use contracts::agent::type_name;
use contracts::orchestrator::{
    CreatePipelineRequest, DeletePipelineRequest, GetPipelineRequest, ListPipelinesRequest,
    Pipeline, StageTask,
};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, Table, clean, cut};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::{pipeline_file, request_id, words};

const AFTER_HELP: &str = "\
Examples:
  agentic pipelines
  agentic pipelines show change
  agentic pipelines create nightly.yaml
  agentic pipelines delete nightly";

const LIST_HELP: &str = "\
Examples:
  agentic pipelines list
  agentic pipelines list --json | jq -r .name";

const SHOW_HELP: &str = "\
Examples:
  agentic pipelines show change
  agentic pipelines show nightly --version 2 --json > nightly.json";

const CREATE_HELP: &str = "\
A file holds the fields of agentic.orchestrator.v1.Pipeline:
  name: nightly
  stages:
    - {name: validation, task: {validation: {checks: [build, tests]}}, timeout: 20m}
    - {name: merge, needs: [validation], task: {integration: {merge: {strategy: squash}}}}

Examples:
  agentic pipelines create nightly.yaml
  agentic pipelines create nightly.yaml --validate-only";

const DELETE_HELP: &str = "\
Examples:
  agentic pipelines delete nightly";

const LIMIT: usize = 100_000;

/// Arguments of `pipelines`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PipelinesArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the newest version of each.
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List,
    /// Show one with its stages.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Id or name.
        pipeline: String,
        /// Version. Left out: the newest.
        #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i32).range(0..))]
        version: i32,
    },
    /// Store one, or a new version of one, from a YAML or JSON file.
    #[command(after_help = CREATE_HELP)]
    Create {
        /// File.
        file: PathBuf,
        /// Only check it.
        #[arg(long)]
        validate_only: bool,
    },
    /// Take one away from new workflows; running ones keep it.
    #[command(after_help = DELETE_HELP)]
    Delete {
        /// Id or name.
        pipeline: String,
    },
}

/// Lists, shows, creates or deletes pipelines.
pub async fn run(args: PipelinesArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    match args.what {
        None | Some(What::List) => list(&surroundings.mesh()?, output).await,
        Some(What::Show { pipeline, version }) => {
            let mesh = surroundings.mesh()?;
            let request = GetPipelineRequest {
                pipeline_id: pipeline,
                version,
            };
            let answer = call!(mesh, pipelines.get_pipeline(request))?;
            show(answer.pipeline, output)
        }
        Some(What::Create {
            file,
            validate_only,
        }) => {
            // `@file` as `run --pipeline` has it is understood, too.
            let file = match file.to_str().and_then(|text| text.strip_prefix('@')) {
                Some(stripped) => PathBuf::from(stripped),
                None => file,
            };
            let pipeline = pipeline_file::read(&file)?;
            let mesh = surroundings.mesh()?;
            let request = CreatePipelineRequest {
                request_id: request_id::fresh(),
                pipeline: Some(pipeline),
                validate_only,
            };
            let answer = call!(mesh, pipelines.create_pipeline(request))?;
            let shown = show(answer.pipeline, output)?;
            if validate_only {
                output.note("it is valid; nothing was stored");
            }
            Ok(shown)
        }
        Some(What::Delete { pipeline }) => {
            let mesh = surroundings.mesh()?;
            let request = DeletePipelineRequest {
                request_id: request_id::fresh(),
                pipeline_id: pipeline.clone(),
            };
            call!(mesh, pipelines.delete_pipeline(request))?;
            output.note(format!(
                "pipeline {pipeline} is gone; running workflows keep it"
            ));
            Ok(Exit::Succeeded)
        }
    }
}

async fn list(mesh: &Mesh, output: &Output) -> Result<Exit, Error> {
    let mut table = Table::new(["name", "version", "stages", "from", "description"]);
    pages::read(
        LIMIT,
        |size, token| page(mesh, size, token),
        |pipeline| {
            if output.is_json() {
                return output.message(&pipeline);
            }
            let from = if pipeline.built_in {
                "built in".to_owned()
            } else {
                words::moment(pipeline.create_time)
            };
            table.row([
                clean(&pipeline.name),
                pipeline.version.to_string(),
                pipeline.stages.len().to_string(),
                from,
                cut(&clean(&pipeline.description), 80),
            ]);
            Ok(())
        },
    )
    .await?;
    if !output.is_json() {
        for line in table.lines() {
            output.line(line)?;
        }
    }
    Ok(Exit::Succeeded)
}

async fn page(mesh: &Mesh, size: i32, token: String) -> Result<Page<Pipeline>, Error> {
    let request = ListPipelinesRequest {
        page_size: size,
        page_token: token,
    };
    let answer = call!(mesh, pipelines.list_pipelines(request))?;
    Ok(Page {
        items: answer.pipelines,
        next: answer.next_page_token,
    })
}

fn show(pipeline: Option<Pipeline>, output: &Output) -> Result<Exit, Error> {
    let pipeline = pipeline
        .ok_or_else(|| Error::Answer("a pipeline was asked for, and none came".to_owned()))?;
    if output.is_json() {
        output.message(&pipeline)?;
        return Ok(Exit::Succeeded);
    }
    output.line(format!(
        "{} version {}{}",
        clean(&pipeline.name),
        pipeline.version,
        if pipeline.built_in { " (built in)" } else { "" }
    ))?;
    if !pipeline.description.is_empty() {
        output.line(format!("  {}", clean(&pipeline.description)))?;
    }
    let mut table = Table::new(["stage", "agent", "needs", "task"]);
    for stage in &pipeline.stages {
        let needs: Vec<_> = stage.needs.iter().map(|need| clean(&need.stage)).collect();
        let task = stage.task.clone().unwrap_or_default();
        table.row([
            clean(&stage.name),
            type_name(task.agent_type()).to_owned(),
            needs.join(", "),
            cut(&clean(&task_text(&task)?), 100),
        ]);
    }
    for line in table.lines() {
        output.line(format!("  {line}"))?;
    }
    Ok(Exit::Succeeded)
}

fn task_text(task: &StageTask) -> Result<String, Error> {
    let value = contracts::json::to_value(task)?;
    Ok(value
        .get(type_name(task.agent_type()))
        .map(ToString::to_string)
        .unwrap_or_default())
}
