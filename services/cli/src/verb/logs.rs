//! `agentic logs`: the logs of a workflow's tasks.

use clap::Args;
use contracts::orchestrator::{WatchWorkflowLogsRequest, WatchWorkflowLogsResponse};
use contracts::task::{LogLevel, LogStream};
use tonic::Request;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Paint, Painter, clean, clean_text};
use crate::pick;
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic logs shop
  agentic logs shop --stage e2e --follow
  agentic logs shop --stage validation > validation.log";

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct LogsArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Only of this stage.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Go on until the workflow ends.
    #[arg(long, short)]
    follow: bool,
    /// Show the time of each line.
    #[arg(long, short)]
    timestamps: bool,
}

/// Shows logs.
pub async fn run(args: LogsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let workflow_id = pick::workflow_id(&mesh, &args.workflow).await?;
    let request = Request::new(WatchWorkflowLogsRequest {
        workflow_id,
        stage: args.stage.clone().unwrap_or_default(),
        follow: args.follow,
    });
    let mut stream = mesh
        .workflows()
        .watch_workflow_logs(request)
        .await
        .map_err(|status| mesh.error(&status))?
        .into_inner();
    loop {
        let message = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
            message = stream.message() => message.map_err(|status| mesh.error(&status))?,
        };
        let Some(line) = message else {
            return Ok(Exit::Succeeded);
        };
        if output.is_json() {
            output.message(&line)?;
        } else {
            output.line(show(&line, &args, output.painter()))?;
        }
    }
}

fn show(line: &WatchWorkflowLogsResponse, args: &LogsArgs, painter: Painter) -> String {
    let log = line.log.clone().unwrap_or_default();
    let mut text = String::new();
    if args.timestamps {
        text.push_str(&words::moment(line.time));
        text.push_str("  ");
    }
    if args.stage.is_none() {
        let stage = format!("{:<12}", clean(&line.stage));
        text.push_str(&painter.paint(Paint::Faint, &stage));
        text.push_str("  ");
    }
    let said = clean_text(&log.text);
    let paint = match (log.level(), log.stream()) {
        (LogLevel::Error, _) => Some(Paint::Bad),
        (LogLevel::Warn, _) => Some(Paint::Doubt),
        (_, LogStream::Agent) => Some(Paint::Faint),
        _ => None,
    };
    text.push_str(&paint.map_or_else(|| said.clone(), |paint| painter.paint(paint, &said)));
    text
}
