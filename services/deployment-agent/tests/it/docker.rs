//! The target `docker` on a real engine: built from commits, run with limits, switched without a
//! failed request, taken back, and found again after a crash.

use std::time::Duration;

use contracts::{
    deployment::{
        Build, Deploy, DeploymentResult, Push, Strategy, TargetKind, deployment_task::Action,
    },
    task::{TaskEvent, Verdict, task_event},
};
use deployment_agent::ledger::Ledger;
use testkit::repository::{Commit, Repository};

use crate::{
    apps::APP,
    bench::get,
    containers::{BASE, DOCKERFILE, containers, docker, is_ready},
    load::{Load, loopback},
    serving::{Process, Serving, context, execute},
};

fn project(version: &str, vice: &str, more: &str) -> String {
    format!(
        "version: 1
app:
  start: {{command: [python3, -u, app.py], environment: {{VERSION: \"{version}\", VICE: \"{vice}\"}}}}
  ready: {{http: {{path: /health, status: 200}}, within: 30s}}
  stop_within: 2s
environments:
  production: {{target: docker, strategy: blue_green, bake: 500ms, drain: 2s, probe: {{interval: 100ms}}{more}}}
"
    )
}

fn repository(version: &str, vice: &str, more: &str) -> Repository {
    Repository::with_files([
        ("app.py", APP),
        ("Dockerfile", DOCKERFILE),
        ("secret.txt", "not for the image"),
        (".dockerignore", "*.txt\n"),
        (".agentic/project.yaml", &project(version, vice, more)),
    ])
    .unwrap()
}

fn head(repository: &Repository) -> String {
    repository.head("main").unwrap().unwrap()
}

async fn deploy(
    agent: &Serving,
    task: &str,
    repository: &Repository,
) -> (Vec<TaskEvent>, DeploymentResult) {
    let context = context(task, repository, &head(repository));
    execute(agent.address, context, Action::Deploy(Deploy::default()))
        .await
        .unwrap()
}

fn port_of(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_built_limited_switched_under_load_and_removed() {
    if !is_ready() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "", ", memory_limit: 256MiB");
    let (events, first) = deploy(&agent, "d1", &repository).await;
    let outcome = first.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    let report = first.deployment.unwrap();
    assert_eq!(report.target(), TargetKind::Docker);
    let address = loopback(port_of(&report.endpoint));
    assert_eq!(get(address, "/").await, (200, "1".to_owned()));
    let built = events.iter().any(|event| match &event.payload {
        Some(task_event::Payload::Log(log)) => log.text.contains("COPY . ."),
        _ => false,
    });
    assert!(built, "the builder's own words are streamed");

    let running = containers(data.path());
    assert_eq!(running.len(), 1);
    let inspect = |format: &str| docker(&["inspect", "--format", format, &running[0]]);
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");
    assert_eq!(
        inspect("{{.HostConfig.Memory}}"),
        (256 * 1024 * 1024).to_string()
    );
    assert_eq!(inspect("{{.HostConfig.CapDrop}}"), "[ALL]");
    assert_eq!(
        inspect("{{.HostConfig.SecurityOpt}}"),
        "[no-new-privileges]"
    );
    assert_eq!(
        inspect("{{(index .NetworkSettings.Ports \"8080/tcp\" 0).HostIp}}"),
        "127.0.0.1"
    );
    assert_eq!(
        inspect("{{index .Config.Labels \"agentic.commit\"}}"),
        head(&repository)
    );
    let files = docker(&[
        "exec",
        &running[0],
        "/usr/bin/python3",
        "-c",
        "import os; print(os.listdir())",
    ]);
    assert!(
        files.contains("app.py") && !files.contains("secret.txt"),
        "{files}"
    );

    let load = Load::start(address, 6);
    load.wait_for(100).await;
    let next = Commit::on("main").write(".agentic/project.yaml", project("2", "", ""));
    repository.commit(next).unwrap();
    let (_, second) = deploy(&agent, "d2", &repository).await;
    assert_eq!(second.outcome.as_ref().unwrap().verdict(), Verdict::Passed);
    load.wait_for(100).await;
    let seen = load.stop().await;
    let failures = seen.failures.len();
    assert_eq!(failures, 0, "such as {:?}", seen.failures.first());
    assert!(
        seen.bodies["1"] > 0 && seen.bodies["2"] > 0,
        "{:?}",
        seen.bodies
    );
    assert_eq!(second.deployment.unwrap().failed_request_count, 0);
    let after = containers(data.path());
    assert!(after.len() == 1 && after != running, "{after:?}");
    agent.stop().await;
    assert_eq!(containers(data.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_own_health_check_may_be_the_readiness() {
    if !is_ready() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let yaml =
        project("1", "", "").replace("http: {path: /health, status: 200}", "docker_health: true");
    let files = [
        ("app.py", APP),
        ("Dockerfile", DOCKERFILE),
        (".agentic/project.yaml", &yaml),
    ];
    let repository = Repository::with_files(files).unwrap();
    let (_, result) = deploy(&agent, "d1", &repository).await;
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    let sick = yaml
        .replace("VICE: \"\"", "VICE: \"unhealthy\"")
        .replace("within: 30s", "within: 6s");
    let mut repository = repository;
    repository
        .commit(Commit::on("main").write(".agentic/project.yaml", &sick))
        .unwrap();
    let (_, result) = deploy(&agent, "d2", &repository).await;
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed, "{}", outcome.summary);
    assert!(
        outcome.summary.contains("health check of container"),
        "{}",
        outcome.summary
    );
    assert_eq!(result.rollback.unwrap().to_revision, 1);
    agent.stop().await;
}

/// Deploys what cannot work, and hands over what is said about it.
async fn refused(files: &[(&str, &str)]) -> (Verdict, String) {
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let repository = Repository::with_files(files.iter().copied()).unwrap();
    let (_, result) = deploy(&agent, "d1", &repository).await;
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.endpoint, "");
    assert_eq!(containers(data.path()), Vec::<String>::new());
    agent.stop().await;
    (outcome.verdict(), outcome.summary)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_exits_fails_with_its_last_words() {
    if !is_ready() {
        return;
    }
    let yaml = project("1", "exits", "");
    let files = [
        ("app.py", APP),
        ("Dockerfile", DOCKERFILE),
        (".agentic/project.yaml", &yaml),
    ];
    let (verdict, summary) = refused(&files).await;
    assert_eq!(verdict, Verdict::Failed);
    assert!(
        summary.contains("exit code 1; last line of its log: no configuration"),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_dockerfile_is_failed_and_a_missing_base_image_is_not_proven() {
    if !is_ready() {
        return;
    }
    let yaml = project("1", "", "");
    let broken = DOCKERFILE.replace("COPY . .", "COPY . .\nRUN echo preparing && exit 3");
    let files = [
        ("app.py", APP),
        ("Dockerfile", &broken),
        (".agentic/project.yaml", &yaml),
    ];
    let (verdict, summary) = refused(&files).await;
    assert_eq!(verdict, Verdict::Failed, "{summary}");
    assert!(
        summary.contains("RUN echo preparing") && summary.contains('3'),
        "{summary}"
    );

    let away = DOCKERFILE.replace("agentic-test-python:1", "127.0.0.1:1/no-such-image:1");
    let files = [
        ("app.py", APP),
        ("Dockerfile", &away),
        (".agentic/project.yaml", &yaml),
    ];
    let (verdict, summary) = refused(&files).await;
    assert_eq!(verdict, Verdict::NotProven, "{summary}");
    assert!(summary.contains("a base image cannot be had"), "{summary}");

    let files = [("app.py", APP), (".agentic/project.yaml", &yaml)];
    let (verdict, summary) = refused(&files).await;
    assert_eq!(verdict, Verdict::Failed, "{summary}");
    assert!(summary.contains("there is no Dockerfile"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_answer_is_a_missing_prerequisite() {
    let data = tempfile::tempdir().unwrap();
    let away = data.path().join("no.sock");
    let address = format!("unix://{}", away.display());
    let agent = Serving::start_with(data.path(), &["--docker", &address]).await;
    let repository = repository("1", "", "");
    let (_, result) = deploy(&agent, "d1", &repository).await;
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::NotProven, "{}", outcome.summary);
    assert!(
        outcome.summary.contains("container engine"),
        "{}",
        outcome.summary
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_over_its_memory_limit_is_taken_back() {
    if !is_ready() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "", "");
    let (_, first) = deploy(&agent, "d1", &repository).await;
    let address = loopback(port_of(&first.outcome.unwrap().endpoint));
    let hungry =
        project("2", "eats memory", ", memory_limit: 64MiB").replace("bake: 500ms", "bake: 20s");
    repository
        .commit(Commit::on("main").write(".agentic/project.yaml", &hungry))
        .unwrap();
    let load = Load::start(address, 2);
    let (_, result) = deploy(&agent, "d2", &repository).await;
    load.stop().await;
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed, "{}", outcome.summary);
    assert!(
        outcome.summary.contains("memory limit of 64 MiB exceeded"),
        "{}",
        outcome.summary
    );
    assert_eq!(get(address, "/").await, (200, "1".to_owned()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agents_containers_are_removed_and_the_live_revision_comes_back() {
    if !is_ready() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let repository = repository("1", "", "");
    let agent = Process::start(data.path()).await;
    let asked = context("d1", &repository, &head(&repository));
    let deploy = Action::Deploy(Deploy::default());
    let (_, result) = execute(agent.address, asked, deploy).await.unwrap();
    let address = loopback(port_of(&result.outcome.unwrap().endpoint));
    let before = containers(data.path());
    assert_eq!(before.len(), 1);
    agent.kill();
    assert_eq!(containers(data.path()), before);
    let agent = Process::start(data.path()).await;
    let back = async {
        while tokio::net::TcpStream::connect(address).await.is_err()
            || get(address, "/").await != (200, "1".to_owned())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), back)
        .await
        .unwrap();
    let after = containers(data.path());
    assert!(after.len() == 1 && after != before, "{after:?}");
    let path = data
        .path()
        .join("deployment/environments/production/shop/ledger.json");
    let ledger = Ledger::open(&path, "production", "shop").await.unwrap();
    assert!(
        ledger
            .live()
            .unwrap()
            .spec
            .image
            .as_ref()
            .unwrap()
            .starts_with("sha256:")
    );
    assert!(agent.terminate());
    assert_eq!(containers(data.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_on_demand_by_either_builder_and_run_by_name() {
    if !is_ready() {
        return;
    }
    for builder in ["legacy", "buildkit"] {
        let data = tempfile::tempdir().unwrap();
        let agent = Serving::start_with(data.path(), &["--image-builder", builder]).await;
        let repository = repository("1", "", "");
        let tag = format!("agentic-test-shop:{builder}");
        let wish = Build {
            tag: tag.clone(),
            ..Build::default()
        };
        let asked = |task: &str| context(task, &repository, &head(&repository));
        let (events, result) = execute(agent.address, asked("b1"), Action::Build(wish))
            .await
            .unwrap();
        let outcome = result.outcome.unwrap();
        assert_eq!(
            outcome.verdict(),
            Verdict::Passed,
            "{builder}: {}",
            outcome.summary
        );
        let built = result.build.unwrap();
        assert!(
            built.image_id.starts_with("sha256:"),
            "{builder}: {}",
            built.image_id
        );
        assert!(built.size_bytes > 1_000_000 && built.layer_count > 1);
        assert!(
            events.iter().any(|event| matches!(&event.payload,
            Some(task_event::Payload::Log(log)) if log.text.contains("COPY"))),
            "{builder}"
        );

        let deploy = Deploy {
            image: tag.clone(),
            strategy: Strategy::Rolling.into(),
            ..Deploy::default()
        };
        let (_, result) = execute(agent.address, asked("d1"), Action::Deploy(deploy))
            .await
            .unwrap();
        let outcome = result.outcome.unwrap();
        assert_eq!(
            outcome.verdict(),
            Verdict::Passed,
            "{builder}: {}",
            outcome.summary
        );
        agent.stop().await;
        docker(&["image", "rm", "--force", &tag]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_takes_no_image() {
    if !is_ready() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let push = Push {
        image: BASE.into(),
        repository: "127.0.0.1:1/shop:1".into(),
    };
    let repository = repository("1", "", "");
    let asked = context("p1", &repository, &head(&repository));
    let (_, result) = execute(agent.address, asked, Action::Push(push))
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed);
    assert!(result.push.is_none());
    docker(&["image", "rm", "127.0.0.1:1/shop:1"]);
    agent.stop().await;
}
