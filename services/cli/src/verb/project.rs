//! `agentic project explain`: what was found about a project, from where, and what each agent will
//! run. Needs no mesh.

use std::path::{Path, PathBuf};

use agent_runtime::project::{Explained, Explanation, Folder, Project};
use clap::{Args, Subcommand};

use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Paint, clean};
use crate::surroundings::Surroundings;

const AFTER_HELP: &str = "\
Examples:
  agentic project explain
  agentic project explain ~/src/shop --json";

/// Arguments of `project`.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what a project is, where that was found, and what each agent will run.
    #[command(after_help = AFTER_HELP)]
    Explain {
        /// Folder of the project.
        #[arg(default_value = ".")]
        path: PathBuf,
    },
}

/// Explains a project.
pub fn run(args: &ProjectArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let What::Explain { path } = &args.what;
    let output = &surroundings.output;
    let explanation = explain(path)?;
    if output.is_json() {
        let line = serde_json::to_string(&explanation)
            .map_err(|error| Error::Failed(format!("cannot write the explanation: {error}")))?;
        output.line(line)?;
    } else {
        show(&explanation, output)?;
    }
    Ok(Exit::Succeeded)
}

fn explain(path: &Path) -> Result<Explanation, Error> {
    let folder = Folder::open(path).map_err(|source| Error::File {
        doing: "cannot read",
        path: path.to_owned(),
        source,
    })?;
    Project::read(&folder)
        .map(|project| project.explain())
        .map_err(|error| Error::Failed(crate::chain(&error)))
}

fn show(explanation: &Explanation, output: &Output) -> Result<(), Error> {
    let painter = output.painter();
    output.line(format!(
        "{} ({})",
        painter.paint(Paint::Strong, &clean(&explanation.kind)),
        clean(&explanation.description_origin)
    ))?;
    for (title, lines) in [
        ("languages", &explanation.languages),
        ("validation", &explanation.validation),
        ("e2e", &explanation.e2e),
        ("integration", &explanation.integration),
        ("deployment", &explanation.deployment),
    ] {
        output.line(painter.paint(Paint::Strong, title))?;
        if lines.is_empty() {
            output.line(painter.paint(Paint::Faint, "  nothing"))?;
        }
        for line in lines {
            output.line(explained(line, |text| painter.paint(Paint::Faint, text)))?;
        }
    }
    Ok(())
}

fn explained(line: &Explained, faint: impl Fn(&str) -> String) -> String {
    let origin = faint(&format!("({})", clean(&line.origin)));
    format!(
        "  {:<14} {}  {origin}",
        clean(&line.subject),
        clean(&line.what)
    )
}
