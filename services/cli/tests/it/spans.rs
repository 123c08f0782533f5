//! Spans, as a collector says in words that it received them, and what every trace of a workflow has. Knows the words of
//! `rotel` and those of OpenTelemetry's own collector, which say nearly the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Stages of an app, in their order.
pub const STAGES: [&str; 5] = ["scaffold", "validation", "e2e", "integration", "deployment"];

/// Name of the span above all stages.
pub const CREATION: &str = "agentic.orchestrator.v1.WorkflowService/CreateWorkflow";

/// A span as the collector received it.
#[derive(Debug, Default)]
pub struct Span {
    /// Name of the service whose it is.
    pub service: String,
    pub trace: String,
    pub id: String,
    /// Empty: a root.
    pub parent: String,
    pub name: String,
    /// Such as `SERVER`.
    pub kind: String,
    /// Nanoseconds since the epoch, from `rotel`; another collector says a date, and this is 0.
    pub start: u64,
    /// The same.
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// Whether it is that of a program which an agent started.
    pub fn is_process(&self) -> bool {
        let target = self.attributes.get("target");
        target.is_some_and(|target| target == "agent_runtime::process::running")
    }
}

/// Reads words for people: a line for each fact; of a span, its trace id first.
pub fn read(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut service = String::new();
    let mut is_resource = false;
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once(':') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        match name {
            "Resource attributes" => is_resource = true,
            "Trace ID" => {
                is_resource = false;
                spans.push(Span {
                    service: service.clone(),
                    trace: value.to_owned(),
                    ..Span::default()
                });
            }
            "-> service.name" if is_resource => {
                attribute(value)
                    .unwrap_or_default()
                    .clone_into(&mut service);
            }
            _ if is_resource => {}
            _ => {
                if let Some(span) = spans.last_mut() {
                    add(span, name, value);
                }
            }
        }
    }
    spans
}

fn add(span: &mut Span, name: &str, value: &str) {
    match name {
        "Parent ID" => value.clone_into(&mut span.parent),
        "ID" => value.clone_into(&mut span.id),
        "Name" => value.clone_into(&mut span.name),
        "Kind" => span.kind = value.trim_start_matches("SPAN_KIND_").to_uppercase(),
        "Start time" => span.start = value.parse().unwrap_or_default(),
        "End time" => span.end = value.parse().unwrap_or_default(),
        _ => {
            if let Some(key) = name.strip_prefix("-> ")
                && let Some(value) = attribute(value)
            {
                span.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
    }
}

// What stands in `Str(…)`, or in that of another type.
fn attribute(value: &str) -> Option<&str> {
    let (_, inner) = value.split_once('(')?;
    Some(inner.strip_suffix(')').unwrap_or(inner))
}

/// The only span of that name right below another one.
pub fn child<'a>(trace: &[&'a Span], parent: &Span, name: &str) -> Result<&'a Span> {
    let found: Vec<_> = trace
        .iter()
        .filter(|span| span.parent == parent.id && span.name == name)
        .collect();
    ensure!(found.len() == 1, "{name} below {}: {found:?}", parent.name);
    Ok(found[0])
}

/// An agent's work on a stage: below its call, which is below the orchestrator's stage.
pub fn task<'a>(trace: &[&'a Span], creation: &Span, stage: &str) -> Result<&'a Span> {
    let leased = child(trace, creation, &format!("stage {stage}"))?;
    let call = trace
        .iter()
        .find(|span| span.parent == leased.id && span.name.ends_with("Service/Execute"))
        .with_context(|| format!("{stage}: no call of the agent"))?;
    ensure!(
        call.kind == "SERVER" && call.name.contains(stage),
        "{stage}: {call:?}"
    );
    let task = child(trace, call, &format!("task {stage}"))?;
    let of = task.attributes.get("agentic.stage");
    ensure!(of.is_some_and(|of| of == stage), "{task:?}");
    Ok(task)
}

#[test]
fn both_collectors_are_understood() {
    let rotel = "\
ResourceSpans #0
Resource attributes:
     -> service.name: Str(orchestrator)
ScopeSpans #0
Span #0
    Trace ID       : 5b49c61b2f84391d262d9ad9b3dea907
    Parent ID      : 
    ID             : 7d5131a11413cdde
    Name           : a.Service/Execute
    Kind           : SPAN_KIND_SERVER
Start time: 1795915487944938043
End time: 1795915487944966475
Attributes:
     -> agentic.stage: Str(scaffold)
ResourceSpans #1
Resource attributes:
     -> service.name: Str(e2e-agent)
Span #0
    Trace ID       : 4d6ee663ce3535c69f40a1a901690113
    ID             : 87cd2d26de7e1fdc
";
    let other = rotel
        .replace("SPAN_KIND_SERVER", "Server")
        .replace("1795915487944938043", "2026-11-29 01:24:47.944 +0000 UTC");
    for (text, start) in [(rotel, 1_795_915_487_944_938_043), (&other, 0)] {
        let spans = read(text);
        assert_eq!(spans.len(), 2, "{spans:?}");
        let (first, second) = (&spans[0], &spans[1]);
        assert_eq!(
            [&first.service, &first.parent, &first.name, &first.kind],
            ["orchestrator", "", "a.Service/Execute", "SERVER"]
        );
        assert_eq!(first.start, start);
        assert_eq!(
            first.attributes,
            BTreeMap::from([("agentic.stage".to_owned(), "scaffold".to_owned())])
        );
        assert_eq!(second.service, "e2e-agent");
        assert_eq!(second.id, "87cd2d26de7e1fdc");
    }
}
