//! Tasks of the template generator, over real gRPC, in real repositories.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use agent_runtime::Agent as _;
use contracts::{
    scaffold::{ScaffoldAction, ScaffoldResult, ScaffoldTask, StopReason},
    task::{self, Finding, Outcome, Verdict},
};
use scaffold_agent::ScaffoldAgent;
use testkit::repository::{Commit, Repository, isolated_git};

use crate::serving::{Serving, WORKFLOW, config, context, progress};

pub fn branch() -> String {
    format!("agentic/{WORKFLOW}")
}

pub fn outcome(result: &ScaffoldResult) -> &Outcome {
    result.outcome.as_ref().unwrap()
}

pub fn place(result: &ScaffoldResult) -> &task::Repository {
    outcome(result).repository.as_ref().unwrap()
}

fn paths(result: &ScaffoldResult) -> Vec<&str> {
    let files = &result.structure.as_ref().unwrap().files;
    files.iter().map(|file| file.path.as_str()).collect()
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = isolated_git()
        .arg("--git-dir")
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn generate(template: &str) -> ScaffoldTask {
    ScaffoldTask {
        template: template.to_owned(),
        ..ScaffoldTask::default()
    }
}

#[tokio::test]
async fn an_app_without_a_repository_gets_one() {
    let agent = Serving::start().await;
    let task = ScaffoldTask {
        name: "shop".to_owned(),
        description: "Sells things".to_owned(),
        requirements: "Sell.\nDeliver.".to_owned(),
        features: vec!["A cart".to_owned()],
        ..ScaffoldTask::default()
    };
    let (events, result) = agent.watch(context("t-1", ""), task).await.unwrap();

    let folder = agent.made().pop().unwrap();
    assert_eq!(outcome(&result).verdict(), Verdict::Passed);
    assert_eq!(place(&result).url, folder.to_str().unwrap());
    assert_eq!(place(&result).target_branch, "main");
    assert_eq!(place(&result).branch, branch());
    assert_eq!(result.branch, branch());
    assert_eq!(git(&folder, &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(
        git(&folder, &["rev-parse", "main"]),
        place(&result).base_commit
    );
    assert_eq!(git(&folder, &["rev-parse", &branch()]), result.commit);
    assert_eq!(place(&result).head_commit, result.commit);
    assert_eq!(
        git(&folder, &["rev-parse", &format!("{}^{{tree}}", branch())]),
        result.tree
    );
    assert_eq!(git(&folder, &["rev-list", "--count", &branch()]), "2");
    assert_eq!(
        git(&folder, &["ls-tree", "main"]),
        "",
        "the first commit has files"
    );
    git(&folder, &["fsck", "--strict"]);

    let listed = git(&folder, &["ls-tree", "-r", "--name-only", &branch()]);
    assert_eq!(paths(&result), listed.lines().collect::<Vec<_>>());
    assert!(paths(&result).contains(&"app/server.py"));
    let structure = result.structure.as_ref().unwrap();
    assert_eq!(structure.root, "shop");
    assert_eq!(structure.directories, [".agentic", "app", "tests"]);
    assert_eq!(structure.scripts["test"], "python3 -m tests");
    assert!(structure.dependencies.is_empty());
    let readme = structure
        .files
        .iter()
        .find(|file| file.path == "README.md")
        .unwrap();
    assert_eq!(readme.kind, "documentation");
    let text = git(&folder, &["show", &format!("{}:README.md", branch())]);
    assert_eq!(usize::try_from(readme.size_bytes).unwrap(), text.len() + 1);
    for said in ["# shop", "Sells things", "- A cart", "Sell.\nDeliver."] {
        assert!(text.contains(said), "{text}");
    }

    assert_eq!(result.created_count as usize, paths(&result).len());
    assert_eq!((result.changed_count, result.deleted_count), (0, 0));
    let generator = result.generator.as_ref().unwrap();
    assert_eq!(
        (generator.backend.as_str(), generator.template.as_str()),
        ("template", "python-http")
    );
    assert_eq!(generator.model, "");
    assert_eq!(result.stop_reason(), StopReason::Done);
    assert!((result.confidence - 1.0).abs() < f64::EPSILON);
    assert_eq!(outcome(&result).project_is_app, Some(true));
    assert!(
        result.analysis.contains("does not implement them"),
        "{}",
        result.analysis
    );

    let progress = progress(&events);
    assert!(progress.is_sorted_by(|a, b| a.0 <= b.0), "{progress:?}");
    assert_eq!(progress.last().unwrap().1, "done");
}

#[tokio::test]
async fn the_same_task_gives_the_same_commit_everywhere_and_always() {
    let (one, other) = (Serving::start().await, Serving::start().await);
    let first = one
        .run(context("t-1", ""), generate("rust-http"))
        .await
        .unwrap();
    let elsewhere = other
        .run(context("t-1", ""), generate("rust-http"))
        .await
        .unwrap();
    assert_eq!(
        (&first.commit, &first.tree),
        (&elsewhere.commit, &elsewhere.tree)
    );
    assert_eq!(place(&first).base_commit, place(&elsewhere).base_commit);

    let folder = one.made().pop().unwrap();
    let before = git(&folder, &["for-each-ref"]);
    let mut again = context("t-1", "");
    again.attempt = 2;
    let second = one.run(again, generate("rust-http")).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(git(&folder, &["for-each-ref"]), before);
    assert_eq!(one.made().len(), 1);
}

#[tokio::test]
async fn the_commit_tells_its_task_and_the_workflows_time() {
    let agent = Serving::start().await;
    let result = agent
        .run(context("t-1", ""), generate("static-site"))
        .await
        .unwrap();
    let folder = agent.made().pop().unwrap();
    let shown = git(
        &folder,
        &[
            "show",
            "--no-patch",
            "--format=%an|%ae|%at|%ct|%B",
            &result.commit,
        ],
    );
    let expected = format!(
        "Agentic Scaffold|scaffold@agentic.invalid|1718360050|1718360050|\
         shop made from template static-site: {} files\n\nAgentic-Workflow: {WORKFLOW}\nAgentic-Task: t-1",
        paths(&result).len()
    );
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_later_task_of_the_workflow_goes_on_from_the_earlier_one() {
    let agent = Serving::start().await;
    let first = agent
        .run(context("t-1", ""), generate("python-http"))
        .await
        .unwrap();
    let url = place(&first).url.clone();

    let unchanged = agent
        .run(context("t-2", &url), generate("python-http"))
        .await
        .unwrap();
    assert_eq!(unchanged.commit, first.commit);
    assert_eq!(unchanged.created_count, 0);
    assert_eq!(outcome(&unchanged).verdict(), Verdict::Passed);
    assert!(outcome(&unchanged).summary.contains("there already"));
    assert_eq!(place(&unchanged).base_commit, place(&first).base_commit);
}

#[tokio::test]
async fn a_target_that_moves_between_attempts_moves_nothing_of_the_task() {
    let agent = Serving::start().await;
    let mut repository = Repository::with_files([("notes.txt", "1\n")]).unwrap();
    let first = agent
        .run(context("t-1", &repository.url()), generate("node-http"))
        .await
        .unwrap();
    repository
        .commit(Commit::on("main").write("notes.txt", "2\n"))
        .unwrap();
    let mut again = context("t-1", &repository.url());
    again.attempt = 2;
    let second = agent.run(again, generate("node-http")).await.unwrap();
    assert_eq!(second, first);
    let later = agent
        .run(context("t-2", &repository.url()), generate("node-http"))
        .await
        .unwrap();
    assert_eq!(place(&later).base_commit, place(&first).base_commit);
}

#[tokio::test]
async fn what_people_have_before_there_is_a_project_stays() {
    let agent = Serving::start().await;
    let repository = Repository::with_files([
        ("README.md", "Ours.\n"),
        ("LICENSE", "Ours too.\n"),
        (".gitignore", "*.swp\n/target/\n"),
        ("notes/plan.txt", "Later.\n"),
    ])
    .unwrap();
    let result = agent
        .run(context("t-1", &repository.url()), generate("rust-http"))
        .await
        .unwrap();
    assert_eq!(outcome(&result).verdict(), Verdict::Passed);
    let read = |path: &str| {
        let content = repository.read(&branch(), path).unwrap().unwrap();
        String::from_utf8(content).unwrap()
    };
    assert_eq!(read("README.md"), "Ours.\n");
    assert_eq!(read("LICENSE"), "Ours too.\n");
    assert_eq!(read(".gitignore"), "*.swp\n/target/\n");
    assert_eq!(read("notes/plan.txt"), "Later.\n");
    assert!(read("Cargo.toml").contains("name = \"shop\""));
    assert!(
        result.analysis.contains("Left as they were: README.md"),
        "{}",
        result.analysis
    );
    assert_eq!(
        place(&result).base_commit,
        repository.resolve("main").unwrap()
    );
    assert_eq!((result.changed_count, result.deleted_count), (0, 0));
}

#[tokio::test]
async fn an_empty_repository_gets_its_first_commit() {
    let agent = Serving::start().await;
    let repository = Repository::empty().unwrap();
    let mut asked = context("t-1", &repository.url());
    asked.repository.as_mut().unwrap().target_branch = "trunk".to_owned();
    let result = agent.run(asked, generate("node-http")).await.unwrap();
    assert_eq!(place(&result).target_branch, "trunk");
    assert_eq!(
        repository.head("trunk").unwrap().unwrap(),
        place(&result).base_commit
    );
    assert_eq!(repository.head(&branch()).unwrap().unwrap(), result.commit);
}

#[tokio::test]
async fn a_change_starts_where_the_task_says() {
    let agent = Serving::start().await;
    let mut repository = Repository::with_files([("a", "1\n")]).unwrap();
    let base = repository.resolve("main").unwrap();
    let head = repository
        .commit(Commit::on("feature").from("main").write("b", "2\n"))
        .unwrap();
    repository
        .commit(Commit::on("main").write("c", "3\n"))
        .unwrap();
    let mut asked = context("t-1", &repository.url());
    let place_asked = asked.repository.as_mut().unwrap();
    place_asked.base_commit.clone_from(&base);
    place_asked.head_commit.clone_from(&head);
    let result = agent.run(asked, generate("static-site")).await.unwrap();
    assert_eq!(place(&result).base_commit, base);
    assert_eq!(
        repository.resolve(&format!("{}^", result.commit)).unwrap(),
        head
    );
    assert!(!paths(&result).contains(&"b"));
}

#[tokio::test]
async fn a_repair_that_cannot_be_made_says_what_stands() {
    let agent = Serving::start().await;
    let first = agent
        .run(context("t-1", ""), generate("python-http"))
        .await
        .unwrap();
    let finding = Finding {
        rule: "tests".to_owned(),
        message: "test_health fails".to_owned(),
        ..Finding::default()
    };
    let task = ScaffoldTask {
        action: ScaffoldAction::Repair.into(),
        findings: vec![finding.clone()],
        ..ScaffoldTask::default()
    };
    let mut asked = context("t-2", &place(&first).url);
    asked.repository = Some(place(&first).clone());
    let result = agent.run(asked, task).await.unwrap();
    assert_eq!(outcome(&result).verdict(), Verdict::Failed);
    assert_eq!(result.stop_reason(), StopReason::Refused);
    assert!(
        outcome(&result)
            .summary
            .contains("tests: test_health fails")
    );
    assert_eq!(outcome(&result).findings, [finding]);
    assert_eq!(place(&result), place(&first), "the change is where it was");
}

#[tokio::test]
async fn a_template_of_the_users_own_is_used_and_published() {
    let templates = tempfile::tempdir().unwrap();
    let own = templates.path().join("cron-job");
    fs::create_dir_all(own.join("files/bin")).unwrap();
    fs::write(
        own.join("template.yaml"),
        "version: 1\ndescription: A job\nparameters: {every: {type: choice, choices: [hour, day]}}\n",
    )
    .unwrap();
    let script = own.join("files/bin/{{ name }}.j2");
    fs::write(&script, "#!/bin/sh\n# every {{ every }}\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = templates.path().to_str().unwrap();
    let agent = Serving::start_with(&["--templates", folder]).await;

    let mut task = generate("cron-job");
    let missing = agent
        .run(context("t-1", ""), task.clone())
        .await
        .unwrap_err();
    assert!(
        missing.message.contains("is required: one of hour, day"),
        "{}",
        missing.message
    );
    task.template_parameters = [("every".to_owned(), "day".to_owned())].into();
    let result = agent.run(context("t-2", ""), task).await.unwrap();
    assert_eq!(paths(&result), ["bin/shop"]);
    assert_eq!(outcome(&result).project_is_app, None);
    let made = agent.made().pop().unwrap();
    let listed = git(&made, &["ls-tree", "-r", &branch()]);
    assert!(listed.starts_with("100755 blob"), "{listed}");

    let data = tempfile::tempdir().unwrap();
    let config = config(&data, &["--templates", folder]);
    let capabilities = ScaffoldAgent::new(config.scaffold)
        .unwrap()
        .capabilities()
        .await;
    for (kind, name) in [
        ("template", "cron-job"),
        ("template", "rust-http"),
        ("generator", "template"),
        ("tool", "git"),
    ] {
        assert!(
            capabilities
                .iter()
                .any(|capability| capability.kind == kind && capability.name == name),
            "{kind} {name}: {capabilities:?}"
        );
    }
}
