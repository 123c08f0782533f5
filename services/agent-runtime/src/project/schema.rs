//! Keeps the published JSON Schemas true: they are what the types say, and they judge documents as the
//! parser does.

use std::{fs, path::PathBuf};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{Description, GatePolicy};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(name)
}

fn generated<T: JsonSchema>(name: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    schema["$id"] = Value::from(format!("https://agentic.invalid/schemas/{name}"));
    schema
}

fn all() -> [(&'static str, Value); 2] {
    [
        (
            "project.schema.json",
            generated::<Description>("project.schema.json"),
        ),
        (
            "gates.schema.json",
            generated::<GatePolicy>("gates.schema.json"),
        ),
    ]
}

fn published(name: &str) -> Value {
    serde_json::from_slice(&fs::read(file(name)).unwrap()).unwrap()
}

/// Run with `--ignored` after a change of the types.
#[test]
#[ignore = "writes the published schemas"]
fn write_the_published_schemas() {
    for (name, schema) in all() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        fs::write(file(name), text).unwrap();
    }
}

#[test]
fn published_schemas_are_what_the_types_say() {
    for (name, schema) in all() {
        let hint = "run: cargo test -p agent-runtime write_the_published_schemas -- --ignored";
        assert_eq!(published(name), schema, "{name} is out of date; {hint}");
    }
}

/// Whether schema and parser agree that `yaml` is right or wrong.
#[track_caller]
fn assert_judged(name: &str, yaml: &str, right: bool) {
    let parsed = match name {
        "project.schema.json" => Description::parse(yaml.as_bytes()).map(|_| ()),
        _ => GatePolicy::parse(yaml.as_bytes()).map(|_| ()),
    };
    assert_eq!(parsed.is_ok(), right, "parser on {yaml}: {parsed:?}");
    let document: Value = serde_saphyr::from_str(yaml).unwrap();
    let validator = jsonschema::draft202012::new(&published(name)).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors.is_empty(), right, "schema on {yaml}: {errors:?}");
}

#[test]
fn schema_and_parser_agree_on_projects() {
    let right = [
        "version: 1",
        "version: 1\napp:\n  start: {command: [python3, -m, shop], port_variable: PORT}",
        "version: 1\napp:\n  ready: {http: {path: /health, status: 204}, within: 1m 30s}\n  stop_within: 10s",
        "version: 1\napp:\n  ready: {log: 'listening on .*:(?<port>[0-9]+)'}",
        "version: 1\napp:\n  endpoints: [{path: /, contains: shop, headers: {content-type: text/html}, json: {'$.a': 1}}]",
        "version: 1\ndependencies: {command: [pip, install], timeout: 5m}",
        "version: 1\nchecks:\n  tests: {command: [pytest], report: {junit: a.xml}, coverage: {lcov: b.info}}",
        "version: 1\ne2e:\n  retries: 2\n  suites: [{name: a, hurl: ['e2e/*.hurl']}, {name: b, playwright: e2e, browsers: [firefox]}]",
        "version: 1\nenvironments:\n  production: {target: process, strategy: canary, steps: [10, 50], memory_limit: 512MiB}",
    ];
    for yaml in right {
        assert_judged("project.schema.json", yaml, true);
    }
    let wrong = [
        "version: 2",
        "app: {}",
        "version: 1\nap: {}",
        "version: 1\napp: {start: {command: [x], image: y}}",
        "version: 1\napp: {start: {}}",
        "version: 1\napp: {start: {command: []}}",
        "version: 1\napp: {ready: {http: {path: health}}}",
        "version: 1\napp: {ready: {within: 3s}}",
        "version: 1\napp: {ready: {tcp: true, within: fast}}",
        "version: 1\napp: {endpoints: [{path: /, status: 20}]}",
        "version: 1\nchecks: {Tests: {command: [x]}}",
        "version: 1\nchecks: {tests: {}}",
        "version: 1\nchecks: {tests: {command: [x], coverage: {gcov: y}}}",
        "version: 1\nchecks: {tests: {command: [x], report: {junit: /tmp/x.xml}}}",
        "version: 1\ne2e: {suites: [{name: a}]}",
        "version: 1\ne2e: {retries: 4}",
        "version: 1\nenvironments: {production: {target: mars}}",
        "version: 1\nenvironments: {production: {memory_limit: plenty}}",
    ];
    for yaml in wrong {
        assert_judged("project.schema.json", yaml, false);
    }
}

#[test]
fn schema_and_parser_agree_on_gates() {
    let right = [
        "version: 1",
        "version: 1\ngates:\n  - {metric: line_coverage_percent, at_least: 80}\n  - {metric: p95_latency_ms, below: 500, advisory: true}",
        "version: 1\nwaivers: [{finding: tests, owner: me, reason: because, until: 2027-01-31}]",
    ];
    for yaml in right {
        assert_judged("gates.schema.json", yaml, true);
    }
    let wrong = [
        "version: 1\ngates: [{metric: line_coverage, at_least: 80}]",
        "version: 1\ngates: [{metric: line_coverage_percent}]",
        "version: 1\ngates: [{metric: line_coverage_percent, at_least: 80, at_most: 90}]",
        "version: 1\ngates: [{metric: line_coverage_percent, at_leats: 80}]",
        "version: 1\nwaivers: [{finding: tests, reason: because, until: 2027-01-31}]",
        "version: 1\nwaivers: [{finding: '', owner: me, reason: because, until: 2027-01-31}]",
        "version: 1\nwaivers: [{finding: tests, owner: me, reason: because, until: tomorrow}]",
    ];
    for yaml in wrong {
        assert_judged("gates.schema.json", yaml, false);
    }
}
