//! One trace from the command to the programs that agents start, as a real OpenTelemetry collector
//! received it; and how commands end whose collector is away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::collector::Collector;
use crate::command::{agentic, end};
use crate::mesh::{Place, finished, is_equipped};
use crate::spans::{CREATION, STAGES, Span, child, task};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

// A test of the app that says which trace it belongs to.
const TELLS: &str = r#"
import os
import unittest


class Trace(unittest.TestCase):
    def test_that_there_is_one(self):
        print("tests see", os.environ["TRACEPARENT"], flush=True)
"#;

#[tokio::test]
async fn one_trace_goes_from_the_command_to_the_programs_of_the_agents() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    testkit::require!(Rotel, Ok(()));
    let templates = tempfile::tempdir()?;
    telling_template(&templates.path().join("telling"))?;
    let collector = Collector::start(&["traces"]).await?;
    let place = Place::new()?;
    let mut up = place.up(&["--json", "--templates"]);
    up.arg(templates.path()).env(ENDPOINT, collector.endpoint());
    let mesh = place.start_as(up).await?;
    let arguments = "run --type app --template telling --name shop --json";
    let mut run = place.command(&arguments.split(' ').collect::<Vec<_>>());
    run.env(ENDPOINT, collector.endpoint());
    let ended = end(run).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let workflow = finished(&ended)?;
    let folder = templates.path().join("artifacts");
    let output = folder.to_str().context("no UTF-8")?;
    let download = ["artifacts", "download", "shop", "--output", output];
    let ended = place.run(&download).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let seen = seen_by_tests(&folder)?;
    mesh.stop().await?;
    let spans = collector.stop().await?;

    let run = only(&spans, |span| span.name == "agentic run");
    assert_eq!(run.parent, "");
    let trace: Vec<&Span> = spans
        .iter()
        .filter(|span| span.trace == run.trace)
        .collect();
    let ids: BTreeSet<&str> = trace.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), trace.len(), "every span is sent once");
    for span in &trace {
        let is_root = span.id == run.id;
        assert!(is_root || ids.contains(span.parent.as_str()), "{span:?}");
    }
    assert_eq!(workflow["traceId"], serde_json::json!(run.trace));

    let creation = child(&trace, run, CREATION)?;
    let mut tasks = Vec::new();
    for stage in STAGES {
        let task = task(&trace, creation, stage)?;
        // The template generator needs no program.
        let has_programs = trace
            .iter()
            .any(|span| span.parent == task.id && span.is_process());
        assert_eq!(has_programs, stage != "scaffold", "{stage}");
        tasks.push(task);
    }

    // What a child process was told is the span of that very process, below its task.
    let parts: Vec<&str> = seen.split('-').collect();
    assert_eq!(parts[1], run.trace);
    let process = only(&spans, |span| span.id == parts[2]);
    assert!(
        process.is_process() && process.name == "python3",
        "{process:?}"
    );
    assert_eq!(process.attributes["process.exit_code"], "0");
    assert_eq!(ancestor(&trace, process, "task"), tasks[1].name);

    say_own_time(creation, &trace, &tasks)
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_keeps_no_command_from_ending() -> Result<()> {
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    let away = free.local_addr()?;
    drop(free);
    for address in [silent.local_addr()?, away] {
        let home = tempfile::tempdir()?;
        let mut list = agentic(home.path());
        list.args(["--orchestrator", "http://127.0.0.1:1", "list"])
            .env(ENDPOINT, format!("http://{address}"));
        let begun = Instant::now();
        let ended = end(list).await?;
        // The end that it has without a collector.
        assert_eq!(ended.code, 4, "{ended:?}");
        // Two seconds, on a machine that may be busy with something else.
        assert!(begun.elapsed() < Duration::from_secs(20), "{address}");
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_reaches_no_mesh_sends_its_span_all_the_same() -> Result<()> {
    testkit::require!(Rotel, Ok(()));
    let collector = Collector::start(&["traces"]).await?;
    let home = tempfile::tempdir()?;
    let mut list = agentic(home.path());
    list.args(["--orchestrator", "http://127.0.0.1:1", "list"])
        .env(ENDPOINT, collector.endpoint());
    let ended = end(list).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    let spans = collector.stop().await?;
    let root = only(&spans, |span| span.name == "agentic list");
    assert_eq!(root.parent, "");
    Ok(())
}

// The built-in template with one more test.
fn telling_template(folder: &Path) -> Result<()> {
    let built_in =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scaffold-agent/templates/python-http");
    copy(&built_in, folder)?;
    fs::write(folder.join("files/tests/test_trace.py"), TELLS)?;
    Ok(())
}

// What a test of the app said, out of the log of the check that ran it.
fn seen_by_tests(artifacts: &Path) -> Result<String> {
    let log = fs::read_to_string(artifacts.join("validation/checks/tests.log"))?;
    let said = log.lines().find_map(|line| line.split_once("tests see "));
    let (_, seen) = said.with_context(|| format!("the tests said nothing: {log}"))?;
    Ok(seen.trim().to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn only(spans: &[Span], is_it: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<&Span> = spans.iter().filter(|span| is_it(span)).collect();
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "{found:?} of {names:?}");
    found[0]
}

// The name of the nearest span above whose name begins so.
fn ancestor<'a>(trace: &[&'a Span], span: &Span, beginning: &str) -> &'a str {
    let spans: BTreeMap<&str, &'a Span> =
        trace.iter().map(|span| (span.id.as_str(), *span)).collect();
    let mut parent = span.parent.as_str();
    while let Some(above) = spans.get(parent) {
        if above.name.starts_with(beginning) {
            return &above.name;
        }
        parent = &above.parent;
    }
    ""
}

// How much of a workflow is not the agents' work. For people: it depends on the machine.
fn say_own_time(creation: &Span, trace: &[&Span], tasks: &[&Span]) -> Result<()> {
    let end = trace
        .iter()
        .filter(|span| span.parent == creation.id)
        .map(|stage| stage.end)
        .max()
        .context("no stage")?;
    let whole = end - creation.start;
    let work: u64 = tasks.iter().map(|task| task.end - task.start).sum();
    let seconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64();
    let own = seconds(whole) - seconds(work);
    // Not `eprintln!`, whose words the test harness keeps to itself when a test passes.
    writeln!(
        std::io::stderr(),
        "a python-http app took {:.3} s, of which {own:.3} s ({:.1} %) were the mesh's own",
        seconds(whole),
        100.0 * own / seconds(whole),
    )?;
    Ok(())
}
