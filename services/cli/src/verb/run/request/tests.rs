//! From the command line to the request.

use std::path::Path;

use clap::Parser;
use contracts::orchestrator::{CreateWorkflowRequest, Priority, WorkflowType};

use super::{RunArgs, build, repository};
use crate::exit::Exit;

#[derive(Debug, Parser)]
struct Only {
    #[command(flatten)]
    run: RunArgs,
}

fn request(arguments: &[&str]) -> Result<CreateWorkflowRequest, crate::error::Error> {
    let line = std::iter::once("run").chain(arguments.iter().copied());
    build(&Only::try_parse_from(line).unwrap().run)
}

#[test]
fn everything_typed_is_sent() {
    let sent = request(&[
        "--type",
        "change",
        "--repository",
        "https://example.org/shop.git",
        "--source",
        "topic",
        "--target",
        "main",
        "--base",
        &"a".repeat(40),
        "--environment",
        "staging",
        "--priority",
        "high",
        "--label",
        "team=web",
        "--label",
        "x=",
        "--pipeline",
        "mine",
        "--timeout",
        "90m",
        "--request-id",
        "r1",
        "--validate-only",
        "--requirements",
        "do it",
        "--budget-cost",
        "2.5",
        "--budget-tokens",
        "1000",
        "--budget-time",
        "2h",
    ])
    .unwrap();
    assert_eq!(sent.r#type(), WorkflowType::Change);
    assert_eq!(sent.name, "shop: topic");
    assert_eq!(sent.requirements, "do it");
    assert_eq!(sent.priority(), Priority::High);
    assert_eq!(sent.pipeline_id, "mine");
    assert_eq!(sent.request_id, "r1");
    assert_eq!(sent.environment, "staging");
    assert_eq!(sent.labels["team"], "web");
    assert_eq!(sent.labels["x"], "");
    assert_eq!(sent.timeout.unwrap().seconds, 5400);
    assert!(sent.validate_only);
    let budget = sent.budget.unwrap();
    assert_eq!((budget.cost_micros, budget.token_count), (2_500_000, 1000));
    assert_eq!(budget.wall_time.unwrap().seconds, 7200);
    let repository = sent.repository.unwrap();
    assert_eq!(repository.branch, "topic");
    assert_eq!(repository.target_branch, "main");
    assert_eq!(repository.base_commit, "a".repeat(40));
}

#[test]
fn the_kind_of_work_follows_from_what_is_given() {
    let url = "https://example.org/shop";
    for (arguments, expected) in [
        (vec!["--name", "shop"], WorkflowType::App),
        (vec!["--repository", url], WorkflowType::Feature),
        (
            vec!["--repository", url, "--source", "b"],
            WorkflowType::Change,
        ),
        (
            vec!["--repository", url, "--pipeline", "p"],
            WorkflowType::Custom,
        ),
    ] {
        assert_eq!(
            request(&arguments).unwrap().r#type(),
            expected,
            "{arguments:?}"
        );
    }
}

#[test]
fn every_call_has_a_request_id() {
    let (one, two) = (
        request(&["--name", "a"]).unwrap(),
        request(&["--name", "a"]).unwrap(),
    );
    assert!(!one.request_id.is_empty());
    assert_ne!(one.request_id, two.request_id);
}

#[test]
fn relative_paths_are_made_absolute_and_urls_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("shop")).unwrap();
    let absolute = folder.path().canonicalize().unwrap().join("shop");
    let absolute = absolute.to_str().unwrap();
    for place in ["shop", "./shop", "shop/", "shop/../shop", absolute] {
        assert_eq!(
            repository(place, folder.path()).unwrap(),
            absolute,
            "{place}"
        );
    }
    for url in [
        "https://example.org/a.git",
        "file:///srv/a",
        "git@example.org:a/b.git",
        "/srv/elsewhere",
    ] {
        assert_eq!(repository(url, folder.path()).unwrap(), url);
    }
    for bad in ["", "no/such/folder"] {
        let error = repository(bad, Path::new(folder.path())).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{bad}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (arguments, expected) in [
        (vec!["--type", "app"], "--name"),
        (vec!["--type", "change", "--source", "b"], "--repository"),
    ] {
        let error = request(&arguments).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
