//! Suites of Hurl files, run by the Hurl program: one file is one test, one call runs one file. The JSON report
//! tells what happened, the exit code must agree, and a file that asserts nothing proves nothing.

use std::path::Path;

use agent_runtime::{
    process::{Command, Ending, Finished},
    project::{FilePattern, Folder, Source as _},
};
use serde::Deserialize;

use super::{Doubt, Place, PlannedSuite, Run, doubt_of, not_run, prepared, read_report};
use crate::tally::Seen;

/// Most files of one suite.
const MAX_FILES: usize = 1000;

/// Largest report that is read, in bytes.
const MAX_REPORT_BYTES: usize = 16 * 1024 * 1024;

/// Exit codes of the program (its documentation, "Exit Codes").
const WRONG_OPTIONS: i32 = 1;
const WRONG_FILE: i32 = 2;

/// What the JSON report says about one file.
#[derive(Debug, Deserialize)]
struct FileReport {
    success: bool,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    asserts: Vec<Assert>,
}

#[derive(Debug, Deserialize)]
struct Assert {
    success: bool,
    #[serde(default)]
    line: u64,
    message: Option<String>,
}

pub(super) async fn run(
    patterns: &[FilePattern],
    suite: &PlannedSuite,
    place: &Place,
    only: Option<&[String]>,
) -> Run {
    let files = match files(patterns, &place.checkout) {
        Ok(files) => files,
        Err(error) => {
            return Run::doubtful(Doubt::NotRun(format!(
                "the checkout cannot be read: {error}"
            )));
        }
    };
    let mut all = Run::default();
    for (index, file) in files.iter().enumerate() {
        if only.is_some_and(|only| !only.contains(file)) {
            continue;
        }
        let scratch = place.scratch.join(format!("hurl-{index}"));
        one(file, &scratch, suite, place, &mut all).await;
        let over = all
            .doubt
            .as_ref()
            .is_some_and(|doubt| !matches!(doubt, Doubt::Contradiction(_)));
        if over {
            break;
        }
    }
    all
}

fn files(patterns: &[FilePattern], checkout: &Path) -> std::io::Result<Vec<String>> {
    let folder = Folder::open(checkout)?;
    let matching = folder
        .files()
        .iter()
        .filter(|file| patterns.iter().any(|pattern| pattern.matches(file)));
    Ok(matching.take(MAX_FILES).cloned().collect())
}

async fn one(file: &str, scratch: &Path, suite: &PlannedSuite, place: &Place, all: &mut Run) {
    let junit = scratch.with_extension("xml");
    let base_url = format!("base_url={}", place.base_url);
    let command = Command::new(["hurl", "--test", "--no-color", "--variable", &base_url])
        .argument("--report-json")
        .argument(scratch)
        .argument("--report-junit")
        .argument(&junit)
        .argument("--")
        .argument(file);
    let finished = match prepared(command, suite, place).run().await {
        Ok(finished) => finished,
        Err(error) => {
            all.doubt = Some(not_run(&error));
            return;
        }
    };
    let name = file.replace('/', "-");
    for (end, media_type, path) in [
        ("json", "application/json", scratch.join("report.json")),
        ("junit.xml", "application/xml", junit),
    ] {
        if path.is_file() {
            all.reports
                .push((format!("{name}.{end}"), media_type, path));
        }
    }
    match doubt_of(finished.ending, suite) {
        Some(doubt) => all.doubt = Some(doubt),
        None => match seen(&finished, &scratch.join("report.json")) {
            Ok(seen) => all.seen.push((file.to_owned(), seen)),
            Err(doubt) => all.doubt = Some(doubt),
        },
    }
    all.runs.push(finished);
}

fn seen(finished: &Finished, report: &Path) -> Result<Seen, Doubt> {
    let code = match finished.ending {
        Ending::Exited(WRONG_OPTIONS) => {
            return Err(Doubt::NotRun(format!(
                "hurl refuses its options: {}",
                finished.last_lines(3)
            )));
        }
        Ending::Exited(WRONG_FILE) => {
            return Ok(Seen::failed(format!(
                "hurl cannot read the file:\n{}",
                finished.last_lines(10)
            )));
        }
        Ending::Exited(code) => code,
        Ending::Signalled(_) | Ending::TimedOut | Ending::Cancelled => {
            return Err(Doubt::NotRun(format!(
                "hurl ended with {}",
                finished.ending
            )));
        }
    };
    let contradiction =
        |problem: String| Doubt::Contradiction(format!("hurl ended with {code}, but {problem}"));
    let bytes = read_report(report, MAX_REPORT_BYTES)
        .map_err(|error| contradiction(format!("its report cannot be read: {error}")))?
        .ok_or_else(|| contradiction("it left no report".to_owned()))?;
    let reports: Vec<FileReport> = serde_json::from_slice(&bytes)
        .map_err(|error| contradiction(format!("its report cannot be read: {error}")))?;
    let [report] = reports.as_slice() else {
        return Err(contradiction(format!(
            "its report tells of {} files",
            reports.len()
        )));
    };
    let asserts: Vec<&Assert> = report
        .entries
        .iter()
        .flat_map(|entry| &entry.asserts)
        .collect();
    let failed = asserts.iter().find(|assert| !assert.success);
    match (code, report.success, failed) {
        (0, true, None) if asserts.is_empty() => Ok(Seen::Skipped),
        (0, true, None) => Ok(Seen::Passed),
        (0, ..) => Err(contradiction("its report shows a failure".to_owned())),
        (_, true, _) => Err(contradiction("its report shows none".to_owned())),
        (_, false, Some(assert)) => Ok(Seen::Failed {
            message: assert
                .message
                .clone()
                .unwrap_or_else(|| finished.last_lines(10)),
            step: format!("line {}", assert.line),
        }),
        // The request itself got no answer.
        (_, false, None) => Ok(Seen::failed(finished.last_lines(10))),
    }
}
