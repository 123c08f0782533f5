//! `agentic artifacts`: what workflows produced.

mod download;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use contracts::orchestrator::{ListArtifactsRequest, StoredArtifact};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, Table, clean};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::{pick, words};

const AFTER_HELP: &str = "\
Examples:
  agentic artifacts list shop
  agentic artifacts download shop --output ./evidence";

const LIST_HELP: &str = "\
Examples:
  agentic artifacts list shop
  agentic artifacts list shop --stage validation --json";

const DOWNLOAD_HELP: &str = "\
Examples:
  agentic artifacts download shop
  agentic artifacts download shop report.sarif --stage validation --output ./evidence
  agentic artifacts download shop app.log --output - > app.log";

const LIMIT: usize = 100_000;

/// Arguments of `artifacts`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ArtifactsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the artifacts of a workflow.
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List {
        /// Id of a workflow, or its name: then the newest of that name.
        workflow: String,
        /// Only of this stage.
        #[arg(long, value_name = "NAME")]
        stage: Option<String>,
    },
    /// Download artifacts, checked against their digests.
    #[command(after_help = DOWNLOAD_HELP)]
    Download {
        /// Id of a workflow, or its name: then the newest of that name.
        workflow: String,
        /// Name, artifact id or digest; may be repeated. Left out: all.
        artifacts: Vec<String>,
        /// Only of this stage.
        #[arg(long, value_name = "NAME")]
        stage: Option<String>,
        /// Folder to write to, one folder per stage in it; `-` writes one artifact to standard output.
        #[arg(long, short, value_name = "FOLDER", default_value = ".")]
        output: PathBuf,
    },
}

/// Lists or downloads artifacts.
pub async fn run(args: ArtifactsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    match args.what {
        What::List { workflow, stage } => {
            let all = all(&mesh, &workflow, stage.as_deref()).await?;
            list(&all, output)
        }
        What::Download {
            workflow,
            artifacts,
            stage,
            output: folder,
        } => {
            let all = all(&mesh, &workflow, stage.as_deref()).await?;
            let chosen = choose(all, &artifacts)?;
            download::download(&mesh, &chosen, &folder, output).await
        }
    }
}

async fn all(
    mesh: &Mesh,
    workflow: &str,
    stage: Option<&str>,
) -> Result<Vec<StoredArtifact>, Error> {
    let workflow_id = pick::workflow_id(mesh, workflow).await?;
    let stage = stage.unwrap_or_default();
    let mut all = Vec::new();
    pages::read(
        LIMIT,
        |size, token| page(mesh, &workflow_id, stage, size, token),
        |artifact| {
            all.push(artifact);
            Ok(())
        },
    )
    .await?;
    Ok(all)
}

async fn page(
    mesh: &Mesh,
    workflow_id: &str,
    stage: &str,
    size: i32,
    token: String,
) -> Result<Page<StoredArtifact>, Error> {
    let request = ListArtifactsRequest {
        page_size: size,
        page_token: token,
        workflow_id: workflow_id.to_owned(),
        stage: stage.to_owned(),
    };
    let answer = call!(mesh, artifacts.list_artifacts(request))?;
    Ok(Page {
        items: answer.artifacts,
        next: answer.next_page_token,
    })
}

fn list(all: &[StoredArtifact], output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        all.iter().try_for_each(|one| output.message(one))?;
        return Ok(Exit::Succeeded);
    }
    if all.is_empty() {
        output.note("no artifacts");
        return Ok(Exit::Succeeded);
    }
    let mut table = Table::new(["stage", "attempt", "name", "size", "type", "digest"]);
    for stored in all {
        let artifact = stored.artifact.clone().unwrap_or_default();
        table.row([
            clean(&stored.stage),
            stored.attempt.to_string(),
            clean(&artifact.name),
            words::bytes(artifact.size_bytes),
            clean(&artifact.media_type),
            clean(&artifact.digest),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    Ok(Exit::Succeeded)
}

// Those that were named; each name must mean something.
fn choose(all: Vec<StoredArtifact>, names: &[String]) -> Result<Vec<StoredArtifact>, Error> {
    if names.is_empty() {
        return Ok(all);
    }
    let means = |stored: &StoredArtifact, name: &String| {
        let artifact = stored.artifact.as_ref();
        stored.artifact_id == *name
            || artifact.is_some_and(|a| {
                a.name == *name || a.digest == *name || a.digest == format!("sha256:{name}")
            })
    };
    for name in names {
        if !all.iter().any(|stored| means(stored, name)) {
            let known: Vec<_> = all
                .iter()
                .filter_map(|stored| Some(stored.artifact.as_ref()?.name.clone()))
                .collect();
            return Err(Error::NotFound(format!(
                "there is no artifact {name:?}{}",
                crate::adapt::suggestion(name, &known)
            )));
        }
    }
    Ok(all
        .into_iter()
        .filter(|stored| names.iter().any(|name| means(stored, name)))
        .collect())
}
