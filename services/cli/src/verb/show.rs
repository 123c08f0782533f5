//! `agentic show`: one workflow with its stages and results.

use clap::Args;
use contracts::orchestrator::{Stage, Workflow, stage_result};
use contracts::task::Verdict;

use crate::describe;
use crate::error::Error;
use crate::exit::Exit;
use crate::outcome;
use crate::output::{Output, Paint, Painter, clean, of_verdict, of_workflow};
use crate::pick;
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic show shop
  agentic show shop --stage validation
  agentic show 0198c0de-0000-7000-8000-000000000000 --json";

// A result has at most 200 findings; a screen has less room.
const FINDINGS: usize = 20;

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ShowArgs {
    /// Id of a workflow, or its name: then the newest of that name.
    workflow: String,
    /// Show the result of this stage in detail.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
}

/// Shows a workflow.
pub async fn run(args: ShowArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    let workflow = pick::workflow(&mesh, &args.workflow).await?;
    if let Some(name) = &args.stage {
        let stage = workflow
            .stages
            .iter()
            .find(|stage| stage.name == *name)
            .ok_or_else(|| {
                let names: Vec<_> = workflow.stages.iter().map(|s| s.name.clone()).collect();
                Error::Usage(format!(
                    "--stage: there is no stage {name:?}{}",
                    crate::adapt::suggestion(name, &names)
                ))
            })?;
        return show_stage(stage, output);
    }
    if output.is_json() {
        output.message(&workflow)?;
        return Ok(Exit::Succeeded);
    }
    for line in lines(&workflow, output.painter()) {
        output.line(line)?;
    }
    Ok(Exit::Succeeded)
}

fn lines(workflow: &Workflow, painter: Painter) -> Vec<String> {
    let fact = |name: &str, value: &str| {
        format!(
            "  {} {}",
            painter.paint(Paint::Faint, &format!("{name:<11}")),
            clean(value)
        )
    };
    let mut lines = vec![
        fact("workflow", &workflow.workflow_id),
        fact("created", &words::moment(workflow.create_time)),
        fact(
            "pipeline",
            &format!(
                "{} version {}",
                workflow.pipeline_id, workflow.pipeline_version
            ),
        ),
        fact("environment", &workflow.environment),
        fact("priority", words::priority(workflow.priority())),
    ];
    let mut labels: Vec<_> = workflow
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    if !labels.is_empty() {
        lines.push(fact("labels", &labels.join(" ")));
    }
    if let Some(repository) = &workflow.repository {
        for (name, value) in [
            ("base", &repository.base_commit),
            ("head", &repository.head_commit),
            ("branch", &repository.branch),
            ("target", &repository.target_branch),
        ] {
            if !value.is_empty() {
                lines.push(fact(name, value));
            }
        }
    }
    if !workflow.trace_id.is_empty() {
        lines.push(fact("trace", &workflow.trace_id));
    }
    if words::is_over(workflow.state()) {
        let mut all = outcome::lines(workflow, painter);
        lines.append(&mut all);
    } else {
        let state = workflow.state();
        lines.push(format!(
            "{}  {} {:.0} %",
            painter.paint(
                of_workflow(state),
                &words::workflow_state(state).to_uppercase()
            ),
            clean(&workflow.name),
            workflow.percent,
        ));
        lines.extend(outcome::stage_lines(workflow, painter));
        if let Some(command) = outcome::next_command(workflow) {
            lines.push(fact("next", &command));
        }
    }
    lines
}

fn show_stage(stage: &Stage, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.message(stage)?;
        return Ok(Exit::Succeeded);
    }
    let painter = output.painter();
    output.line(format!(
        "{}: {}",
        clean(&stage.name),
        describe::stage_word(stage)
    ))?;
    if !stage.waits_for.is_empty() {
        output.line(format!("  waits for {}", clean(&stage.waits_for)))?;
    }
    if !stage.summary.is_empty() {
        output.line(format!("  {}", clean(&stage.summary)))?;
    }
    let Some(result) = &stage.result else {
        output.note("it has no result yet");
        return Ok(Exit::Succeeded);
    };
    for (verdict, name, reason) in parts(result.result.as_ref()) {
        let word = painter.paint(
            of_verdict(verdict),
            &format!("{:<10}", words::verdict(verdict)),
        );
        output.line(format!("  {word}  {}  {}", clean(&name), clean(&reason)))?;
    }
    if let Some(outcome) = result.outcome() {
        for finding in outcome.findings.iter().take(FINDINGS) {
            output.line(format!("  {}", describe::finding(finding)))?;
        }
        if outcome.findings.len() > FINDINGS {
            output.note(format!(
                "{} more with --json",
                words::count(outcome.findings.len() - FINDINGS, "finding")
            ));
        }
        for run in &outcome.tool_runs {
            let argv: Vec<_> = run.argv.iter().map(|word| clean(word)).collect();
            let ending = match run.exit_code {
                Some(code) => format!("exit code {code}"),
                None => clean(&run.ending),
            };
            output.line(format!("  ran {} ({ending})", argv.join(" ")))?;
        }
    }
    Ok(Exit::Succeeded)
}

// What a result is made of: its checks, gates, suites, rungs or steps.
fn parts(result: Option<&stage_result::Result>) -> Vec<(Verdict, String, String)> {
    use stage_result::Result;
    match result {
        Some(Result::Validation(result)) => {
            let checks = result
                .checks
                .iter()
                .map(|check| (check.verdict(), check.name.clone(), check.reason.clone()));
            let gates = result
                .gates
                .iter()
                .map(|gate| (gate.verdict(), gate.name.clone(), gate.reason.clone()));
            checks.chain(gates).collect()
        }
        Some(Result::E2e(result)) => result
            .suites
            .iter()
            .map(|suite| (suite.verdict(), suite.name.clone(), suite.reason.clone()))
            .collect(),
        Some(Result::Integration(result)) => result
            .merge
            .iter()
            .flat_map(|merge| merge.rungs.iter())
            .map(|rung| (rung.verdict(), rung.name.clone(), rung.reason.clone()))
            .collect(),
        Some(Result::Deployment(result)) => result
            .deployment
            .iter()
            .flat_map(|deployment| deployment.steps.iter())
            .map(|step| (step.verdict(), step.name.clone(), step.reason.clone()))
            .collect(),
        Some(Result::Scaffold(_)) | None => Vec::new(),
    }
}
