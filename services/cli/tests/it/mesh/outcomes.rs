//! Every way that work can end, on a real mesh, with its verdict and its exit code.

use anyhow::{Context, Result};
use serde_json::json;
use testkit::repository::{Commit, Repository};

use super::{Place, finished, get, git, is_equipped, sequences};

const LIBRARY: [(&str, &str); 2] = [
    ("shop.py", "def price():\n    return 2\n"),
    (
        "test_shop.py",
        "import unittest\n\nimport shop\n\n\nclass Price(unittest.TestCase):\n    def test_price(self):\n        self.assertEqual(shop.price(), 2)\n",
    ),
];

#[tokio::test]
async fn an_app_goes_through_all_five_stages_and_answers() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let arguments = [
        "run",
        "--type",
        "app",
        "--template",
        "python-http",
        "--name",
        "shop",
        "--json",
    ];
    let ended = place.run(&arguments).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let workflow = finished(&ended)?;
    let count = workflow["lastSequence"]
        .as_str()
        .context("no sequence")?
        .parse()?;
    assert_eq!(sequences(&ended.json()?), (1..=count).collect::<Vec<i64>>());
    for stage in workflow["stages"].as_array().unwrap() {
        assert_eq!(stage["verdict"], json!("VERDICT_PASSED"), "{stage}");
    }
    let outcome = &workflow["outcome"];
    let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
    let (status, _) = get(&format!("{endpoint}/health")).await?;
    assert_eq!(status, 200);
    let repository = workflow["repository"]["url"]
        .as_str()
        .context("no repository")?;
    let tip = git(repository.as_ref(), &["rev-parse", "refs/heads/main"])?;
    assert_eq!(outcome["mergedCommit"], json!(tip));

    let ended = place.run(&["artifacts", "list", "shop", "--json"]).await?;
    assert!(!ended.json()?.is_empty());
    let folder = place.data().join("downloaded");
    let folder = folder.to_str().unwrap();
    let ended = place
        .run(&["artifacts", "download", "shop", "--output", folder])
        .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = place
        .run(&["logs", "shop", "--stage", "validation"])
        .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    mesh.stop().await
}

#[tokio::test]
async fn changes_end_as_they_deserve() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let mut repository = Repository::with_files(LIBRARY)?;
    repository.commit(
        Commit::on("good")
            .from("main")
            .write("shop.py", "def price():\n    return 1 + 1\n"),
    )?;
    repository.commit(
        Commit::on("bad")
            .from("main")
            .write("shop.py", "def price():\n    return 3\n"),
    )?;
    repository.commit(Commit::on("untested").from("main").delete("test_shop.py"))?;
    let url = repository.url();
    let change = |source: &'static str| {
        let url = url.clone();
        let place = &place;
        async move {
            let arguments = [
                "run",
                "--type",
                "change",
                "--repository",
                &url,
                "--source",
                source,
                "--target",
                "main",
                "--json",
                "--no-input",
            ];
            place.run(&arguments).await
        }
    };
    let before = git(repository.path(), &["rev-parse", "main"])?;
    let ended = change("bad").await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    let workflow = finished(&ended)?;
    assert_eq!(workflow["outcome"]["verdict"], json!("VERDICT_FAILED"));
    assert_eq!(workflow["outcome"]["stage"], json!("validation"));

    // Deleting the tests is a change of the judge: a person is asked, or it proves nothing.
    let ended = change("untested").await?;
    assert!(matches!(ended.code, 3 | 10), "{ended:?}");

    let ended = change("no-such-branch").await?;
    assert!(matches!(ended.code, 1 | 3), "{ended:?}");
    assert_eq!(git(repository.path(), &["rev-parse", "main"])?, before);

    let ended = change("good").await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let workflow = finished(&ended)?;
    let tip = git(repository.path(), &["rev-parse", "main"])?;
    assert_ne!(tip, before);
    assert_eq!(workflow["outcome"]["mergedCommit"], json!(tip));
    for (stage, state) in [
        ("e2e", "STAGE_STATE_SKIPPED"),
        ("deployment", "STAGE_STATE_SKIPPED"),
    ] {
        let stages = workflow["stages"].as_array().unwrap();
        let found = stages.iter().find(|s| s["name"] == json!(stage)).unwrap();
        assert_eq!(found["state"], json!(state), "a library has no {stage}");
    }
    mesh.stop().await
}

#[tokio::test]
async fn a_conflict_stays_unmerged_and_asks_a_person() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let mut repository = Repository::with_files(LIBRARY)?;
    repository.commit(
        Commit::on("theirs")
            .from("main")
            .write("shop.py", "def price():\n    return 4 - 2\n"),
    )?;
    let ours = repository
        .commit(Commit::on("main").write("shop.py", "def price():\n    return 6 // 3\n"))?;
    let url = repository.url();
    let arguments = [
        "run",
        "--type",
        "change",
        "--repository",
        &url,
        "--source",
        "theirs",
        "--name",
        "conflict",
        "--no-input",
    ];
    let ended = place.run(&arguments).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(ended.err.contains("agentic approve "), "{}", ended.err);
    assert_eq!(git(repository.path(), &["rev-parse", "main"])?, ours);
    let ended = place.run(&["decisions", "show", "conflict"]).await?;
    for side in ["6 // 3", "4 - 2"] {
        assert!(ended.out.contains(side), "{side}: {}", ended.out);
    }
    let ended = place
        .run(&["reject", "conflict", "--reason", "neither"])
        .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = place.run(&["watch", "conflict"]).await?;
    assert!(matches!(ended.code, 1 | 3), "{ended:?}");
    assert_eq!(git(repository.path(), &["rev-parse", "main"])?, ours);
    mesh.stop().await
}

#[tokio::test]
async fn production_asks_first_and_deploys_what_was_approved() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    let arguments = [
        "run",
        "--type",
        "app",
        "--template",
        "python-http",
        "--name",
        "prod",
        "--environment",
        "production",
        "--no-input",
    ];
    let ended = place.run(&arguments).await?;
    assert_eq!(ended.code, 10, "{ended:?}");
    let approve = ended
        .err
        .lines()
        .find_map(|line| line.trim().strip_prefix("agentic approve "))
        .context("no command")?;
    let mut words = vec!["approve"];
    words.extend(approve.split_whitespace());
    let ended = place.run(&words).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = place.run(&["watch", "prod", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let endpoint = finished(&ended)?["outcome"]["endpoint"].clone();
    let (status, _) = get(&format!(
        "{}/health",
        endpoint.as_str().context("no endpoint")?
    ))
    .await?;
    assert_eq!(status, 200);
    mesh.stop().await
}

#[tokio::test]
async fn wrong_work_is_refused_or_ends_without_success() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let mesh = place.start().await?;
    for (arguments, codes) in [
        (
            vec!["run", "--name", "a", "--template", "no-such-template"],
            vec![1, 3],
        ),
        (
            vec![
                "run",
                "--type",
                "change",
                "--repository",
                "/no/such/repository",
                "--source",
                "x",
            ],
            vec![1, 3],
        ),
        (
            vec!["run", "--name", "Not a slug", "--template", "python-http"],
            vec![2],
        ),
        (
            vec!["run", "--name", "a", "--environment", "Not Valid"],
            vec![2],
        ),
        (
            vec!["run", "--name", "a", "--pipeline", "no-such-pipeline"],
            vec![1],
        ),
        (
            vec!["run", "--name", "a", "--request-id", &"r".repeat(129)],
            vec![2],
        ),
        (
            vec!["show", "01976f3e-0000-7000-8000-000000000000"],
            vec![1],
        ),
        (
            vec!["retry", "01976f3e-0000-7000-8000-000000000000"],
            vec![1],
        ),
        (vec!["pipelines", "delete", "app"], vec![1]),
    ] {
        let ended = place.run(&arguments).await?;
        assert!(codes.contains(&ended.code), "{arguments:?}: {ended:?}");
        let told = format!("{}{}", ended.out, ended.err);
        assert!(!told.contains("panicked"), "{told}");
    }
    mesh.stop().await
}
