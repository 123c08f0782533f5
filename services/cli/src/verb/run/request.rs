//! What `agentic run` sends, from what was typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use contracts::orchestrator::{CreateWorkflowRequest, Pipeline, Priority, WorkflowType};
use contracts::task::Repository;

use crate::budget::BudgetArgs;
use crate::error::Error;
use crate::follow::FollowArgs;
use crate::setting::Setting;
use crate::{pipeline_file, request_id};

const AFTER_HELP: &str = "\
Examples:
  agentic run --type app --template python-http --name shop
  agentic run --type feature --repository . --requirements @feature.md
  agentic run --type change --repository ~/src/shop --source my-branch --target main
  agentic run --type app --name shop --set integration.strategy=squash --set deployment.port=8080
  agentic run --type custom --pipeline @nightly.yaml --repository . --name nightly --json
  agentic run --type app --name shop --validate-only";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RunArgs {
    /// Kind of work. Left out: `change` with --source, `app` without --repository, else `feature`.
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Kind>,
    /// Template of a new app, such as python-http.
    #[arg(long)]
    pub template: Option<String>,
    /// Name of the work; of an app, its own name. Left out: taken from the repository and the source.
    #[arg(long)]
    name: Option<String>,
    /// What is asked: text, or @FILE, or @- for standard input.
    #[arg(long, value_name = "TEXT|@FILE")]
    requirements: Option<String>,
    /// Repository: a path or a URL.
    #[arg(long, short = 'R', value_name = "PATH|URL")]
    repository: Option<String>,
    /// Branch, tag or commit with the change.
    #[arg(long, value_name = "REF")]
    source: Option<String>,
    /// Branch that the change is for. Left out: the repository's default branch.
    #[arg(long, value_name = "BRANCH")]
    target: Option<String>,
    /// Commit that the change is judged against. Left out: the merge base with the target.
    #[arg(long, value_name = "COMMIT")]
    base: Option<String>,
    /// Environment to deploy to. Left out: development.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// Order among waiting work.
    #[arg(long, value_enum, default_value = "normal")]
    priority: Urgency,
    /// Label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Pipeline: the name of a stored one, or @FILE with one in YAML.
    #[arg(long, value_name = "NAME|@FILE")]
    pipeline: Option<String>,
    /// Field of a stage's task, such as scaffold.template=python-http; may be repeated.
    #[arg(long, value_name = "STAGE.NAME=VALUE")]
    pub set: Vec<Setting>,
    /// Limit of the whole work. Left out: 24h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// What it may spend.
    #[command(flatten)]
    budget: BudgetArgs,
    /// Print the id and do not wait.
    #[arg(long, short)]
    pub detach: bool,
    /// Makes the call idempotent for 24 h. Left out: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Check everything, show the plan, create nothing.
    #[arg(long)]
    pub validate_only: bool,
    /// How to follow it.
    #[command(flatten)]
    pub follow: FollowArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A new app.
    App,
    /// A feature in what is there.
    Feature,
    /// A bug fix in what is there.
    Bugfix,
    /// A change that somebody already made.
    Change,
    /// A pipeline of your own.
    Custom,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Urgency {
    /// When nothing else waits.
    Low,
    /// As usual.
    Normal,
    /// Before the usual.
    High,
    /// First.
    Critical,
}

/// The request. What the mesh can judge better is left to it.
pub fn build(args: &RunArgs) -> Result<CreateWorkflowRequest, Error> {
    let kind = args.kind.unwrap_or_else(|| guess(args));
    let url = match &args.repository {
        Some(place) => repository(place, Path::new("."))?,
        None if kind != Kind::App => {
            return Err(Error::Usage(
                "--repository is required for all but --type app".to_owned(),
            ));
        }
        None => String::new(),
    };
    let (pipeline_id, pipeline) = pipeline(args.pipeline.as_deref())?;
    let repository = Repository {
        url,
        base_commit: args.base.clone().unwrap_or_default(),
        branch: args.source.clone().unwrap_or_default(),
        target_branch: args.target.clone().unwrap_or_default(),
        ..Repository::default()
    };
    Ok(CreateWorkflowRequest {
        request_id: args.request_id.clone().unwrap_or_else(request_id::fresh),
        r#type: workflow_type(kind).into(),
        name: name(args, kind, &repository)?,
        requirements: args
            .requirements
            .as_deref()
            .map(text)
            .transpose()?
            .unwrap_or_default(),
        repository: Some(repository),
        priority: priority(args.priority).into(),
        pipeline_id,
        pipeline,
        parameters: std::collections::HashMap::new(),
        budget: args.budget.wire(),
        labels: args.labels.iter().cloned().collect(),
        environment: args.environment.clone().unwrap_or_default(),
        validate_only: args.validate_only,
        timeout: args.timeout.map(contracts::wire_time::wire_duration),
    })
}

fn guess(args: &RunArgs) -> Kind {
    if args.source.is_some() {
        Kind::Change
    } else if args.repository.is_none() {
        Kind::App
    } else if args.pipeline.is_some() {
        Kind::Custom
    } else {
        Kind::Feature
    }
}

fn workflow_type(kind: Kind) -> WorkflowType {
    match kind {
        Kind::App => WorkflowType::App,
        Kind::Feature => WorkflowType::Feature,
        Kind::Bugfix => WorkflowType::Bugfix,
        Kind::Change => WorkflowType::Change,
        Kind::Custom => WorkflowType::Custom,
    }
}

fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Low => Priority::Low,
        Urgency::Normal => Priority::Normal,
        Urgency::High => Priority::High,
        Urgency::Critical => Priority::Critical,
    }
}

fn name(args: &RunArgs, kind: Kind, repository: &Repository) -> Result<String, Error> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    if kind == Kind::App {
        return Err(Error::Usage("--name is required for --type app".to_owned()));
    }
    let of_repository = repository
        .url
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .map(|last| last.strip_suffix(".git").unwrap_or(last))
        .unwrap_or_default();
    let name = match &args.source {
        Some(source) => format!("{of_repository}: {source}"),
        None => of_repository.to_owned(),
    };
    Ok(name
        .chars()
        .take(contracts::parse::NAME_CHARACTERS)
        .collect())
}

/// A repository as agents can find it: URLs as they are, local paths made absolute.
pub fn repository(place: &str, here: &Path) -> Result<String, Error> {
    if place.is_empty() {
        return Err(Error::Usage("--repository is empty".to_owned()));
    }
    let colon = place.find(':');
    let slash = place.find('/').unwrap_or(usize::MAX);
    // `https://…`, and the `user@host:path` of ssh.
    if place.contains("://") || colon.is_some_and(|colon| colon < slash) {
        return Ok(place.to_owned());
    }
    let path = here.join(place);
    // A path of another machine may be meant when the mesh is not here.
    if Path::new(place).is_absolute() && !path.exists() {
        return Ok(place.to_owned());
    }
    let path = path
        .canonicalize()
        .map_err(|error| Error::Usage(format!("--repository {place}: {error}")))?;
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Usage(format!("--repository {place}: the path is not UTF-8")))
}

fn pipeline(given: Option<&str>) -> Result<(String, Option<Pipeline>), Error> {
    match given.map(|given| given.strip_prefix('@').ok_or(given)) {
        None => Ok((String::new(), None)),
        Some(Ok(file)) => Ok((String::new(), Some(pipeline_file::read(Path::new(file))?))),
        Some(Err(name)) => Ok((name.to_owned(), None)),
    }
}

fn text(given: &str) -> Result<String, Error> {
    match given.strip_prefix('@') {
        None => Ok(given.to_owned()),
        Some("-") => std::io::read_to_string(std::io::stdin()).map_err(|source| Error::File {
            doing: "cannot read",
            path: PathBuf::from("standard input"),
            source,
        }),
        Some(file) => pipeline_file::text(Path::new(file)),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("is not of the form key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests;
