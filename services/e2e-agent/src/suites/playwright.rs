//! Suites that are the project's own Playwright tests: in Node with the JSON reporter, in Python through pytest
//! with JUnit. Retries of the runner are switched off, because we count attempts ourselves.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use agent_runtime::{
    process::{Command, Ending, Finished},
    project::Browser,
};
use serde::Deserialize;

use super::{Doubt, Place, PlannedSuite, Run, command, doubt_of, not_run, prepared, read_report};
use crate::tally::Seen;

/// Largest report that is read, in bytes.
const MAX_REPORT_BYTES: usize = 64 * 1024 * 1024;

/// Deepest nesting of `describe` blocks that is looked into.
const MAX_DEPTH: usize = 32;

const NODE_CONFIGURATIONS: [&str; 4] = [
    "playwright.config.ts",
    "playwright.config.js",
    "playwright.config.mjs",
    "playwright.config.cjs",
];

pub(super) async fn run(
    folder: &str,
    browser: Browser,
    suite: &PlannedSuite,
    place: &Place,
) -> Run {
    let tests = place.checkout.join(folder);
    let has = |wanted: &dyn Fn(&str) -> bool| has_file(&tests, wanted, MAX_DEPTH);
    let is_node = |name: &str| {
        [".spec.", ".test."]
            .iter()
            .any(|middle| name.contains(middle))
    };
    let is_python = |name: &str| name.starts_with("test_") || name.ends_with("_test.py");
    if has(&is_node) {
        node(folder, browser, suite, place).await
    } else if has(&is_python) {
        python(folder, browser, suite, place).await
    } else {
        Run::default()
    }
}

fn has_file(folder: &Path, wanted: &dyn Fn(&str) -> bool, depth: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .any(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => depth > 0 && has_file(&entry.path(), wanted, depth - 1),
            Ok(kind) => kind.is_file() && entry.file_name().to_str().is_some_and(wanted),
            Err(_) => false,
        })
}

async fn python(folder: &str, browser: Browser, suite: &PlannedSuite, place: &Place) -> Run {
    let probe = Command::new([
        "python3",
        "-c",
        "import pytest, playwright, pytest_playwright",
    ]);
    match prepared(probe, suite, place).run().await {
        Ok(finished) if finished.is_success() => {}
        Ok(_) => {
            let missing = "`pytest-playwright` is not installed for python3".to_owned();
            return Run::doubtful(Doubt::ToolMissing(missing));
        }
        Err(error) => return Run::doubtful(not_run(&error)),
    }
    let report = place.scratch.join("playwright.xml");
    let mut junit = OsString::from("--junitxml=");
    junit.push(&report);
    let command = Command::new(["python3", "-m", "pytest", folder, "--browser"])
        .argument(browser.to_string())
        .argument("--base-url")
        .argument(&place.base_url)
        .argument(junit);
    match prepared(command, suite, place).run().await {
        Ok(finished) => command::judged(finished, Some(&report), suite),
        Err(error) => Run::doubtful(not_run(&error)),
    }
}

async fn node(folder: &str, browser: Browser, suite: &PlannedSuite, place: &Place) -> Run {
    let program = "node_modules/.bin/playwright";
    if !place.checkout.join(program).exists() {
        let missing = "`@playwright/test` is not among the project's installed packages".to_owned();
        return Run::doubtful(Doubt::ToolMissing(missing));
    }
    // A configuration with projects refuses `--browser`, and one without knows no `--project`.
    let has_projects = NODE_CONFIGURATIONS.iter().any(|file| {
        std::fs::read_to_string(place.checkout.join(file))
            .is_ok_and(|text| text.contains("projects"))
    });
    let browser = if has_projects {
        format!("--project={browser}")
    } else {
        format!("--browser={browser}")
    };
    let report = place.scratch.join("playwright.json");
    let command = Command::new([&format!("./{program}"), "test", folder, &browser])
        .argument("--retries=0")
        .argument("--reporter=json")
        .environment("PLAYWRIGHT_JSON_OUTPUT_NAME", &report);
    let finished = match prepared(command, suite, place).run().await {
        Ok(finished) => finished,
        Err(error) => return Run::doubtful(not_run(&error)),
    };
    let mut run = Run {
        doubt: doubt_of(finished.ending, suite),
        ..Run::default()
    };
    if report.is_file() {
        run.reports.push((
            format!("{}.json", suite.name),
            "application/json",
            report.clone(),
        ));
    }
    if run.doubt.is_none() {
        match compare(&finished, &report) {
            Ok(seen) => run.seen = seen,
            Err(doubt) => run.doubt = Some(doubt),
        }
    }
    run.runs.push(finished);
    run
}

/// The parts of the JSON report that are counted (Playwright's documentation, "Reporters").
#[derive(Debug, Deserialize)]
struct JsonReport {
    #[serde(default)]
    suites: Vec<JsonSuite>,
    #[serde(default)]
    errors: Vec<JsonError>,
    stats: JsonStats,
}

#[derive(Debug, Deserialize)]
struct JsonStats {
    expected: usize,
    unexpected: usize,
    skipped: usize,
    #[serde(default)]
    flaky: usize,
}

#[derive(Debug, Deserialize)]
struct JsonSuite {
    #[serde(default)]
    title: String,
    #[serde(default)]
    specs: Vec<JsonSpec>,
    #[serde(default)]
    suites: Vec<JsonSuite>,
}

#[derive(Debug, Deserialize)]
struct JsonSpec {
    title: String,
    #[serde(default)]
    tests: Vec<JsonTest>,
}

#[derive(Debug, Deserialize)]
struct JsonTest {
    #[serde(rename = "expectedStatus", default)]
    expected_status: String,
    #[serde(default)]
    results: Vec<JsonResult>,
}

#[derive(Debug, Deserialize)]
struct JsonResult {
    status: String,
    #[serde(default)]
    errors: Vec<JsonError>,
}

#[derive(Debug, Deserialize)]
struct JsonError {
    #[serde(default)]
    message: String,
}

fn compare(finished: &Finished, report: &Path) -> Result<Vec<(String, Seen)>, Doubt> {
    let success = finished.ending == Ending::Exited(0);
    let contradiction = |problem: String| {
        Doubt::Contradiction(format!("it ended with {}, but {problem}", finished.ending))
    };
    let bytes = read_report(report, MAX_REPORT_BYTES)
        .map_err(|error| contradiction(format!("its report cannot be read: {error}")))?
        .ok_or_else(|| contradiction("it left no report".to_owned()))?;
    let report: JsonReport = serde_json::from_slice(&bytes)
        .map_err(|error| contradiction(format!("its report cannot be read: {error}")))?;
    let mut seen = Vec::new();
    for suite in &report.suites {
        collect(suite, "", MAX_DEPTH, &mut seen);
    }
    let count =
        |wanted: &dyn Fn(&Seen) -> bool| seen.iter().filter(|(_, seen)| wanted(seen)).count();
    let failed = count(&|seen| matches!(seen, Seen::Failed { .. }));
    let skipped = count(&|seen| *seen == Seen::Skipped);
    let stats = &report.stats;
    let total = stats.expected + stats.unexpected + stats.skipped + stats.flaky;
    if total != seen.len() || stats.unexpected != failed || stats.skipped != skipped {
        return Err(contradiction(format!(
            "its totals do not add up: it counts {total} tests, {} unexpected and {} skipped, and shows {}, {failed} and {skipped}",
            stats.unexpected,
            stats.skipped,
            seen.len()
        )));
    }
    if let Some(error) = report.errors.first() {
        // A file that does not load: its tests are missing from every count.
        seen.push(("(loading)".to_owned(), Seen::failed(error.message.clone())));
    } else if success != (failed == 0) && !(failed == 0 && seen.is_empty()) {
        return Err(contradiction(format!(
            "its report shows {failed} failed tests"
        )));
    }
    Ok(seen)
}

fn collect(suite: &JsonSuite, prefix: &str, depth: usize, seen: &mut Vec<(String, Seen)>) {
    let join = |title: &str| {
        if prefix.is_empty() {
            title.to_owned()
        } else {
            format!("{prefix} › {title}")
        }
    };
    let prefix = join(&suite.title);
    for spec in &suite.specs {
        for test in &spec.tests {
            seen.push((format!("{prefix} › {}", spec.title), look(test)));
        }
    }
    if depth > 0 {
        for inner in &suite.suites {
            collect(inner, &prefix, depth - 1, seen);
        }
    }
}

fn look(test: &JsonTest) -> Seen {
    let statuses: BTreeSet<&str> = test
        .results
        .iter()
        .map(|result| result.status.as_str())
        .collect();
    let expected = if test.expected_status.is_empty() {
        "passed"
    } else {
        &test.expected_status
    };
    if statuses.is_empty() || statuses.contains("skipped") {
        return Seen::Skipped;
    }
    if statuses.contains("interrupted") {
        return Seen::Infrastructure {
            message: "it was interrupted".to_owned(),
        };
    }
    if statuses.iter().all(|status| *status == expected) {
        return Seen::Passed;
    }
    let message = test
        .results
        .iter()
        .flat_map(|result| &result.errors)
        .map(|error| error.message.as_str())
        .next()
        .unwrap_or("it failed and says nothing");
    Seen::failed(message)
}
