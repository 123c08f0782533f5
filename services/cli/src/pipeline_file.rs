//! Pipelines that people write as YAML (or JSON, which is YAML): the fields of
//! `agentic.orchestrator.v1.Pipeline`, with the short forms of `adapt`.

use std::path::Path;

use contracts::orchestrator::Pipeline;
use prost_reflect::prost::Name;
use serde_json::Value;

use crate::adapt;
use crate::error::Error;

// A request of ours carries 1 MiB at most (contract.md), and so does what it is made of.
const FILE_BYTES: u64 = 1024 * 1024;

/// Reads a pipeline from a file.
pub fn read(path: &Path) -> Result<Pipeline, Error> {
    let text = text(path)?;
    parse(&text).map_err(|problem| Error::Usage(format!("{}: {problem}", path.display())))
}

/// A file that is a reasonable part of a request.
pub fn text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File {
        doing: "cannot read",
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES {
        return Err(Error::Usage(format!(
            "{} has {size} bytes, at most {FILE_BYTES}",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn parse(text: &str) -> Result<Pipeline, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if value.is_null() {
        return Err("is empty".to_owned());
    }
    let descriptor = contracts::json::pool()
        .map_err(|error| error.to_string())?
        .get_message_by_name(&Pipeline::full_name())
        .ok_or("the contract has no pipelines")?;
    let fit = adapt::message(&descriptor, value, "").map_err(|misfit| misfit.to_string())?;
    contracts::json::from_value(fit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use contracts::orchestrator::{NeedCondition, stage_task::Task};

    use super::*;

    const NIGHTLY: &str = "
name: nightly
description: Validates and probes the main branch.
stages:
  - name: validation
    timeout: 20m
    task: {validation: {checks: [build, tests]}}
  - name: probe
    needs: [{stage: validation, condition: always}]
    retry: {max_attempts: 2, initial_backoff: 500ms}
    optional: true
    task:
      deployment:
        environment: staging
        check_health: {}
";

    #[test]
    fn yaml_becomes_a_pipeline() {
        let pipeline = parse(NIGHTLY).unwrap();
        assert_eq!(pipeline.name, "nightly");
        assert_eq!(pipeline.stages[0].timeout.unwrap().seconds, 1200);
        let probe = &pipeline.stages[1];
        assert_eq!(probe.needs[0].condition(), NeedCondition::Always);
        assert!(probe.optional);
        let backoff = probe.retry.as_ref().unwrap().initial_backoff.unwrap();
        assert_eq!(backoff.nanos, 500_000_000);
        let Some(Task::Deployment(task)) = &probe.task.as_ref().unwrap().task else {
            panic!()
        };
        assert_eq!(task.environment, "staging");
        assert!(task.action.is_some());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, expected) in [
            ("", "is empty"),
            ("stages: [", "line 1"),
            ("name: a\nname: b", "duplicate"),
            ("name: a\nstage: []", "did you mean \"stages\"?"),
            (
                "stages: [{task: {validaton: {}}}]",
                "did you mean \"validation\"?",
            ),
            ("stages: [{task: {validation: {}, e2e: {}}}]", "task"),
            ("- a\n- b", "is not a set of fields"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.to_lowercase().contains(&expected.to_lowercase()),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn hostile_yaml_is_bounded() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let before = level - 1;
            let many = vec![format!("*a{before}"); 9].join(",");
            bomb = format!("{bomb}a{level}: &a{level} [{many}]\n");
        }
        assert!(parse(&bomb).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
