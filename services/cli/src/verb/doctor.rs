//! `agentic doctor`: what is missing on this machine, what it is needed for, and how to get it.

mod tools;

use std::path::Path;

use clap::Args;
use serde_json::json;
use service_runtime::embedded_postgres::EmbeddedPostgres;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::call;
use crate::output::{Output, Paint, clean};
use crate::surroundings::Surroundings;
use crate::verb::up::DatabaseArgs;
use tools::{Found, POSTGRES, TOOLS};

const AFTER_HELP: &str = "\
Exits with 1 when something is missing without which the mesh cannot run here.

Examples:
  agentic doctor
  agentic doctor --json | jq -r 'select(.found == false) | .name'";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct DoctorArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Looks at the machine.
pub async fn run(args: DoctorArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let found = futures::future::join_all(TOOLS.iter().map(tools::look)).await;
    let mut missing = false;
    for (tool, found) in TOOLS.iter().zip(&found) {
        missing |= tool.required && found.version.is_none();
        tell(tool, found, tool.required, output)?;
    }
    let required = args.database.database_url.is_none();
    let postgres = postgres(&args.database, &surroundings.place.data).await;
    missing |= required && postgres.version.is_none();
    tell(&POSTGRES, &postgres, required, output)?;
    let writable = is_writable(&surroundings.place.data);
    missing |= writable.is_err();
    tell_fact(
        output,
        "data folder",
        writable.as_deref(),
        "everything that a mesh on this machine keeps",
        "name another one with --data or AGENTIC_DATA",
    )?;
    let mesh = mesh(surroundings).await;
    tell_fact(
        output,
        "mesh",
        mesh.as_deref(),
        "running work",
        "agentic up --detach",
    )?;
    if missing {
        output.note("something is missing that the mesh cannot run without");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Succeeded)
}

// The programs that `up` would run, found as `up` finds them.
async fn postgres(args: &DatabaseArgs, data: &Path) -> Found {
    match EmbeddedPostgres::programs(&args.options(data)).await {
        Ok(programs) => Found {
            version: Some(format!(
                "PostgreSQL {} in {}",
                programs.version(),
                programs.folder().display()
            )),
            problem: None,
        },
        Err(error) => Found {
            version: None,
            problem: Some(crate::chain(&error)),
        },
    }
}

fn tell(tool: &tools::Tool, found: &Found, required: bool, output: &Output) -> Result<(), Error> {
    if output.is_json() {
        return output.line(
            json!({
                "name": tool.name,
                "found": found.version.is_some(),
                "version": found.version,
                "required": required,
                "neededFor": tool.needed_for,
                "howToGet": tool.how_to_get,
                "problem": found.problem,
            })
            .to_string(),
        );
    }
    let painter = output.painter();
    match &found.version {
        Some(version) => output.line(format!(
            "{} {:<11} {}",
            painter.paint(Paint::Good, "ok      "),
            tool.name,
            clean(version),
        )),
        None => {
            let (word, paint) = if required {
                ("missing ", Paint::Bad)
            } else {
                ("absent  ", Paint::Doubt)
            };
            let problem = found
                .problem
                .as_ref()
                .map_or_else(String::new, |problem| format!(" ({})", clean(problem)));
            output.line(format!(
                "{} {:<11} needed for {}{problem}; get it: {}",
                painter.paint(paint, word),
                tool.name,
                tool.needed_for,
                tool.how_to_get,
            ))
        }
    }
}

fn tell_fact(
    output: &Output,
    name: &str,
    fact: Result<&str, &String>,
    needed_for: &str,
    how_to_get: &str,
) -> Result<(), Error> {
    if output.is_json() {
        return output.line(
            json!({
                "name": name,
                "found": fact.is_ok(),
                "version": fact.ok(),
                "required": name != "mesh",
                "neededFor": needed_for,
                "howToGet": how_to_get,
                "problem": fact.err(),
            })
            .to_string(),
        );
    }
    let painter = output.painter();
    match fact {
        Ok(text) => output.line(format!(
            "{} {name:<11} {}",
            painter.paint(Paint::Good, "ok      "),
            clean(text)
        )),
        Err(problem) => output.line(format!(
            "{} {name:<11} {}; {how_to_get}",
            painter.paint(Paint::Doubt, "absent  "),
            clean(problem)
        )),
    }
}

fn is_writable(data: &Path) -> Result<String, String> {
    let problem = |error: std::io::Error| format!("{}: {error}", data.display());
    std::fs::create_dir_all(data).map_err(problem)?;
    tempfile::NamedTempFile::new_in(data).map_err(problem)?;
    Ok(data.display().to_string())
}

async fn mesh(surroundings: &Surroundings) -> Result<String, String> {
    let first_line = |error: Error| {
        error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mesh = surroundings.mesh().map_err(first_line)?;
    let request = contracts::orchestrator::GetStatisticsRequest {};
    let statistics = call!(mesh, workflows.get_statistics(request)).map_err(first_line)?;
    let slots: i64 = statistics.agent_types.iter().map(|t| t.slot_count).sum();
    Ok(format!("{}, {slots} slots", mesh.address()))
}
