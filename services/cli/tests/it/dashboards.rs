//! Dashboards and alert rules ask for nothing that a mesh which has worked does not show.

#![allow(clippy::unwrap_used, reason = "the expressions are constants")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::Value;

use crate::mesh::{Place, get, is_equipped};
use crate::prometheus::Prometheus;

// Names of series that are ours; everything else in a query is a word of the language or a label.
static SERIES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:agentic|rpc_server|db_client_connection_(?:count|pending))_?[a-z_]*\b(?P<labels>\{[^}]*\})?").unwrap()
});
static MATCHER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?P<label>[a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap());
static GROUPING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:by|on) \((?P<labels>[a-z_, ]+)\)").unwrap());
static SAMPLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? ").unwrap());
static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"([a-z_]+)=""#).unwrap());

// What a mesh on one machine does not show: it serves clear text, so that no certificate could end, and has no Redis.
const ELSEWHERE: [&str; 2] = ["agentic_tls_certificate_", "agentic_rate_limit_shared"];

fn infra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra")
}

/// Every query, with where it stands.
fn dashboards() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(infra().join("grafana/dashboards"))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        for panel in panels {
            for target in panel["targets"].as_array().context("no targets")? {
                let expression = target["expr"].as_str().context("no query")?;
                let at = format!("{}: {}", dashboard["title"], panel["title"]);
                queries.push((at, expression.replace("$__rate_interval", "1m")));
            }
        }
    }
    assert!(queries.len() > 30, "{}", queries.len());
    Ok(queries)
}

fn alerts() -> Result<Vec<(String, String)>> {
    let rules = std::fs::read_to_string(infra().join("prometheus/alerts.yaml"))?;
    let rules: Value = serde_saphyr::from_str(&rules)?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    rules
        .flatten()
        .map(|rule| {
            let text = |key: &str| rule[key].as_str().map(str::to_owned);
            Ok((
                text("alert").context("no name")?,
                text("expr").context("no query")?,
            ))
        })
        .collect()
}

/// Labels of each series.
fn scraped(metrics: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut series: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for sample in metrics.lines().filter_map(|line| SAMPLE.captures(line)) {
        let labels = sample.name("labels").map_or("", |labels| labels.as_str());
        let labels = LABEL.captures_iter(labels).map(|label| label[1].to_owned());
        series
            .entry(sample["name"].to_owned())
            .or_default()
            .extend(labels);
    }
    series
}

/// What is wrong with a query, given what exists.
fn problem(query: &str, series: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    // Prometheus adds these.
    let mut known: BTreeSet<&str> = ["job", "instance"].into();
    for found in SERIES.captures_iter(query) {
        let name = found[0].split('{').next().unwrap_or_default();
        let Some(labels) = series.get(name) else {
            return Some(format!("no series {name}"));
        };
        known.extend(labels.iter().map(String::as_str));
        let matchers = found.name("labels").map_or("", |labels| labels.as_str());
        for matcher in MATCHER.captures_iter(matchers) {
            if !labels.contains(&matcher["label"]) && &matcher["label"] != "job" {
                return Some(format!("{name} has no label {}", &matcher["label"]));
            }
        }
    }
    let mut grouped = GROUPING.captures_iter(query).flat_map(|found| {
        found["labels"]
            .split(", ")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    grouped
        .find(|label| !known.contains(label.as_str()))
        .map(|label| format!("nothing has the label {label}"))
}

#[test]
fn a_query_for_what_does_not_exist_is_found() {
    let series = scraped(
        "agentic_stage_finished_total{agent_type=\"e2e\",verdict=\"passed\"} 1\n\
         # TYPE agentic_task_count gauge\n",
    );
    for (query, expected) in [
        ("sum(rate(agentic_stage_finished_total[1m]))", None),
        (
            "sum(agentic_stage_ended_total)",
            Some("no series agentic_stage_ended_total"),
        ),
        ("agentic_task_count", Some("no series agentic_task_count")),
        (
            r#"agentic_stage_finished_total{outcome="failed"}"#,
            Some("agentic_stage_finished_total has no label outcome"),
        ),
        (
            "sum by (agent_type, job) (agentic_stage_finished_total)",
            None,
        ),
        (
            "sum by (agent_type, state) (agentic_stage_finished_total)",
            Some("nothing has the label state"),
        ),
    ] {
        assert_eq!(problem(query, &series).as_deref(), expected, "{query}");
    }
}

#[tokio::test]
async fn every_query_of_dashboards_and_alerts_is_answered_by_a_mesh_that_worked() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let http = mesh.ready["http"].as_str().context("no HTTP port")?;
    let prometheus = Prometheus::start(http.trim_start_matches("http://")).await?;
    let ended = place.run(&["run", "--name", "shop", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    // A call that fails, for the panel of those.
    let ended = place
        .run(&["show", "0192f0c1-2b3c-7def-8123-456789abcdef"])
        .await?;
    assert_ne!(ended.code, 0, "{ended:?}");
    let (status, metrics) = get(&format!("{http}/metrics")).await?;
    assert_eq!(status, 200);
    let series = scraped(&metrics);
    let (mut dashboards, mut alerts) = (dashboards()?, alerts()?);
    for queries in [&mut dashboards, &mut alerts] {
        queries.retain(|(_, query)| !ELSEWHERE.iter().any(|series| query.contains(series)));
    }
    let wrong: Vec<_> = dashboards
        .iter()
        .chain(&alerts)
        .filter_map(|(at, query)| Some(format!("{at}: {}", problem(query, &series)?)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    if let Some(prometheus) = prometheus {
        prometheus.scraped_twice_from_now().await?;
        for (at, query) in &dashboards {
            let answer = prometheus.query(query).await?;
            let any = answer["data"]["result"].as_array().context("no result")?;
            assert!(!any.is_empty(), "{at}: nothing for {query}");
        }
        for (_, query) in &alerts {
            prometheus.query(query).await?;
        }
        let traces = prometheus
            .exemplars("rpc_server_duration_seconds_bucket")
            .await?;
        let of_run = prometheus
            .exemplars("agentic_workflow_duration_seconds_bucket")
            .await?;
        assert!(
            !traces.is_empty() && !of_run.is_empty(),
            "{traces:?} {of_run:?}"
        );
        prometheus.stop().await?;
    }
    mesh.stop().await?;
    Ok(())
}
