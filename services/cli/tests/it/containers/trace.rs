//! The trace of a workflow, as the collector in the stack received it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::stack::Stack;
use crate::spans::{CREATION, STAGES, Span, read, task};

// Processes send what they have every five seconds.
const COMES_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until all spans of a workflow that began after `since` have come, and each is in its place.
pub async fn comes_whole(stack: &Stack, trace_id: &str, since: SystemTime) -> Result<()> {
    let collector = stack.container("collector").await?;
    let begun = Instant::now();
    loop {
        let spans = read(&collector.said(since).await?);
        let trace: Vec<_> = spans.iter().filter(|span| span.trace == trace_id).collect();
        match is_whole(&trace) {
            Err(_) if begun.elapsed() < COMES_WITHIN => sleep(LOOK_EVERY).await,
            ended => return ended.with_context(|| format!("{} spans: {trace:?}", trace.len())),
        }
    }
}

fn is_whole(trace: &[&Span]) -> Result<()> {
    let creation = trace.iter().find(|span| span.name == CREATION);
    let creation = creation.context("no creation of the workflow")?;
    ensure!(creation.service == "orchestrator", "{creation:?}");
    for stage in STAGES {
        let task = task(trace, creation, stage)?;
        ensure!(task.service == format!("{stage}-agent"), "{task:?}");
    }
    let ids: BTreeSet<&str> = trace.iter().map(|span| span.id.as_str()).collect();
    ensure!(ids.len() == trace.len(), "a span came twice");
    // The root is the command's own span, which it keeps to itself.
    let unknown: BTreeSet<&str> = trace
        .iter()
        .map(|span| span.parent.as_str())
        .filter(|parent| !ids.contains(parent))
        .collect();
    let root = BTreeSet::from([creation.parent.as_str()]);
    ensure!(unknown == root, "parents that never came: {unknown:?}");
    Ok(())
}
