//! The agent as its callers see it: over gRPC, from commits, with results in full.

use contracts::{
    deployment::{
        CheckHealth, Deploy, DeploymentResult, Diff, Rollback, Status as AskStatus, Strategy,
        TargetKind, Verify, deployment_task::Action,
    },
    error::Error,
    error_reason::ErrorReason,
    orchestrator::{StageResult, stage_result},
    task::{
        AgentType, DecisionCategory, Repository as WireRepository, Resolution, ResolvedDecision,
        StageInput, TaskContext, Verdict, task_event,
    },
};
use testkit::{
    repository::{Commit, Repository},
    requirement::{Thing, is_met},
};
use tonic::Code;

use crate::{
    apps::APP,
    bench::get,
    load::{Load, loopback},
    serving::{Serving, commit, context, deploy, execute, project, repository},
};

fn port_of(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_becomes_an_app_that_answers() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let repository = repository("1", "");
    let head = repository.head("main").unwrap().unwrap();
    let (events, result) = execute(agent.address, context("t1", &repository, &head), deploy())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    assert_eq!(outcome.revision, "1");
    assert_eq!(outcome.project_is_app, Some(true));
    assert_eq!(outcome.repository.unwrap().head_commit, head);
    let report = result.deployment.unwrap();
    assert_eq!(report.commit, head);
    assert_eq!(report.strategy(), Strategy::BlueGreen);
    assert_eq!(report.target(), TargetKind::Process);
    assert_eq!(
        (
            report.desired_count,
            report.running_count,
            report.failed_count
        ),
        (1, 1, 0)
    );
    assert_eq!(report.endpoint, outcome.endpoint);
    assert!(
        report
            .steps
            .iter()
            .all(|step| step.verdict() == Verdict::Passed)
    );
    assert!(!result.prerequisites.is_empty());
    assert_eq!(
        get(loopback(port_of(&report.endpoint)), "/").await,
        (200, "1".to_owned())
    );
    let percents: Vec<f64> = events
        .iter()
        .filter_map(|event| match event.payload.as_ref()? {
            task_event::Payload::Progress(progress) => Some(progress.percent),
            _ => None,
        })
        .collect();
    assert!(percents.len() > 3 && percents.is_sorted(), "{percents:?}");
    agent.stop().await;
    let closed = tokio::net::TcpStream::connect(loopback(port_of(&report.endpoint))).await;
    assert!(closed.is_err(), "the app must be gone with its agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_is_told_compared_probed_and_taken_back() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "");
    let first = repository.head("main").unwrap().unwrap();
    let asked = |task: &str, head: &str| context(task, &repository, head);
    let ask = |context: TaskContext, action| execute(agent.address, context, action);

    let (_, empty) = ask(asked("s0", &first), Action::Status(AskStatus {}))
        .await
        .unwrap();
    assert!(empty.status.unwrap().revisions.is_empty());
    let (_, unknown) = ask(
        asked("h0", &first),
        Action::CheckHealth(CheckHealth::default()),
    )
    .await
    .unwrap();
    assert_eq!(unknown.outcome.unwrap().verdict(), Verdict::NotProven);
    let (_, verified) = ask(asked("v0", &first), Action::Verify(Verify::default()))
        .await
        .unwrap();
    assert_eq!(verified.outcome.unwrap().verdict(), Verdict::Passed);
    ask(asked("d1", &first), deploy()).await.unwrap();

    let second = commit(&mut repository, "2", "");
    let asked = |task: &str, head: &str| context(task, &repository, head);
    let (_, diff) = ask(asked("f1", &second), Action::Diff(Diff {}))
        .await
        .unwrap();
    let diff = diff.diff.unwrap();
    assert_eq!(
        (diff.live_commit, diff.new_commit),
        (first.clone(), second.clone())
    );
    assert_eq!(diff.changed_files, [".agentic/project.yaml"]);
    let (_, deployed) = ask(asked("d2", &second), deploy()).await.unwrap();
    let endpoint = deployed.outcome.unwrap().endpoint;

    let (_, health) = ask(
        asked("h2", &second),
        Action::CheckHealth(CheckHealth::default()),
    )
    .await
    .unwrap();
    let health = health.health.unwrap();
    assert_eq!(health.verdict(), Verdict::Passed);
    assert_eq!(
        health.probes.len(),
        2,
        "through the router and at the instance"
    );
    let wrong = CheckHealth { path: "/no".into() };
    let (_, wrong) = ask(asked("h3", &second), Action::CheckHealth(wrong))
        .await
        .unwrap();
    assert_eq!(
        wrong.health.unwrap().verdict(),
        Verdict::Passed,
        "any path answers 200 here"
    );

    let (_, status) = ask(asked("s2", &second), Action::Status(AskStatus {}))
        .await
        .unwrap();
    let status = status.status.unwrap();
    let told: Vec<_> = status
        .revisions
        .iter()
        .map(|r| (r.revision, r.state.as_str(), r.live))
        .collect();
    assert_eq!(told, [(2, "live", true), (1, "verified", false)]);
    assert_eq!(status.endpoint, endpoint);

    let back = Rollback {
        reason: "the shop is empty".into(),
    };
    let (_, back) = ask(asked("r1", &second), Action::Rollback(back))
        .await
        .unwrap();
    assert_eq!(back.outcome.unwrap().verdict(), Verdict::Passed);
    let back = back.rollback.unwrap();
    assert_eq!((back.from_revision, back.to_revision), (2, 1));
    assert_eq!(back.reason, "the shop is empty");
    assert_eq!(
        get(loopback(port_of(&endpoint)), "/").await,
        (200, "1".to_owned())
    );
    agent.stop().await;
}

/// What a workflow says when the stage that gave `deployed` is undone.
fn undo_of(deployed: &DeploymentResult, context: TaskContext) -> TaskContext {
    let result = StageResult {
        result: Some(stage_result::Result::Deployment(deployed.clone())),
    };
    TaskContext {
        stage: "deployment".to_owned(),
        inputs: vec![StageInput {
            stage: "deployment".to_owned(),
            agent_type: AgentType::Deployment.into(),
            outcome: result.outcome().cloned(),
            result: result.to_any(),
        }],
        ..context
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_takes_back_what_its_stage_deployed_and_nothing_else() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "");
    let first = repository.head("main").unwrap().unwrap();
    let second = commit(&mut repository, "2", "");
    let third = commit(&mut repository, "3", "");
    let asked = |task: &str, head: &str| context(task, &repository, head);
    let ask = |context, action| execute(agent.address, context, action);
    let undo = || {
        Action::Rollback(Rollback {
            reason: "it did not succeed".into(),
        })
    };
    ask(asked("d1", &first), deploy()).await.unwrap();
    let (_, two) = ask(asked("d2", &second), deploy()).await.unwrap();
    let endpoint = two.outcome.as_ref().unwrap().endpoint.clone();
    // Somebody else's workflow finds it live.
    let (_, same) = ask(asked("d3", &second), deploy()).await.unwrap();
    assert!(same.deployment.as_ref().unwrap().already_live);
    let context = undo_of(&same, asked("u3", &second));
    let (_, kept) = ask(context, undo()).await.unwrap();
    let kept = kept.outcome.unwrap();
    assert_eq!(kept.verdict(), Verdict::Passed, "{}", kept.summary);
    assert_eq!((&*kept.revision, &kept.endpoint), ("2", &endpoint));
    // And a third one follows, which the undo of the second leaves alone.
    ask(asked("d4", &third), deploy()).await.unwrap();
    let (_, kept) = ask(undo_of(&two, asked("u2", &second)), undo())
        .await
        .unwrap();
    let kept = kept.outcome.unwrap();
    assert_eq!(kept.verdict(), Verdict::Passed, "{}", kept.summary);
    assert!(
        kept.summary.contains("revision 2 is not live"),
        "{}",
        kept.summary
    );
    let live = get(loopback(port_of(&endpoint)), "/").await;
    assert_eq!(live, (200, "3".to_owned()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sick_commit_is_failed_with_rollback_and_its_evidence() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "");
    let first = repository.head("main").unwrap().unwrap();
    execute(agent.address, context("d1", &repository, &first), deploy())
        .await
        .unwrap();
    let second = commit(&mut repository, "2", "exits");
    let (_, result) = execute(agent.address, context("d2", &repository, &second), deploy())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed);
    assert!(
        outcome
            .summary
            .contains("no configuration for the database"),
        "{}",
        outcome.summary
    );
    assert_eq!(outcome.revision, "1", "that is what is live");
    assert_eq!(result.rollback.unwrap().to_revision, 1);
    assert_eq!(result.deployment.unwrap().failed_count, 1);
    let names: Vec<_> = outcome.artifacts.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        ["forensics/instance-1.json", "forensics/instance-1.log"]
    );
    let log = outcome.artifacts[1].uri.strip_prefix("file://").unwrap();
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .contains("no configuration")
    );
    assert_eq!(
        get(loopback(port_of(&outcome.endpoint)), "/").await,
        (200, "1".to_owned())
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_is_deployed_and_the_base_says_how() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "");
    let base = repository.head("main").unwrap().unwrap();
    // The change would rather not be watched at all.
    let lax = project("2", "", "{target: process, strategy: recreate}");
    let change = Commit::on("change")
        .from("main")
        .write(".agentic/project.yaml", &lax);
    let change = repository.commit(change).unwrap();
    let merged = repository
        .commit(
            Commit::on("main")
                .merging("change")
                .write("README.md", "merged\n"),
        )
        .unwrap();
    let mut context = context("d1", &repository, &change);
    context.repository.as_mut().unwrap().base_commit = base;
    context.inputs = vec![contracts::task::StageInput {
        stage: "integration".into(),
        outcome: Some(contracts::task::Outcome {
            merged_commit: merged.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }];
    let (_, result) = execute(agent.address, context, deploy()).await.unwrap();
    let report = result.deployment.unwrap();
    assert_eq!(report.commit, merged);
    assert_eq!(report.strategy(), Strategy::BlueGreen);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_and_builds_are_made_in_the_release_and_told() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut yaml = project("1", "", crate::serving::QUICK);
    yaml.push_str("dependencies: {command: [sh, -c, 'echo installing; echo yes > installed']}\n");
    yaml.push_str(
        "checks: {build: {command: [sh, -c, 'test -f installed && echo built > built']}}\n",
    );
    let repository =
        Repository::with_files([("app.py", APP), (".agentic/project.yaml", &yaml)]).unwrap();
    let head = repository.head("main").unwrap().unwrap();
    let (_, result) = execute(agent.address, context("d1", &repository, &head), deploy())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    assert_eq!(outcome.tool_runs.len(), 2);
    assert!(
        outcome
            .tool_runs
            .iter()
            .all(|run| run.exit_code == Some(0) && run.tool == "sh")
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_is_not_proven_and_wrong_calls_are_refused_by_field() {
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let library = Repository::with_files([("README.md", "# A library\n")]).unwrap();
    let head = library.head("main").unwrap().unwrap();
    let (_, result) = execute(agent.address, context("d1", &library, &head), deploy())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::NotProven);
    assert_eq!(outcome.project_is_app, Some(false));

    let mut nowhere = context("d2", &library, &head);
    nowhere.repository = Some(WireRepository {
        url: "/no/such/repository".into(),
        ..Default::default()
    });
    let status = execute(agent.address, nowhere, deploy()).await.unwrap_err();
    assert_eq!(
        Error::from_status(&status).unwrap().reason,
        ErrorReason::RepositoryNotFound
    );

    let wrong = Deploy {
        desired_count: 99,
        target: 3,
        port: -1,
        ..Deploy::default()
    };
    let call = execute(
        agent.address,
        context("d3", &library, &head),
        Action::Deploy(wrong),
    );
    let status = call.await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let error = Error::from_status(&status).unwrap();
    let named: Vec<_> = error
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    assert_eq!(
        named,
        [
            "task.deploy.desired_count",
            "task.deploy.port",
            "task.deploy.target"
        ]
    );

    let broken =
        Repository::with_files([(".agentic/project.yaml", "version: 1\nap: {}\n")]).unwrap();
    let head = broken.head("main").unwrap().unwrap();
    let status = execute(agent.address, context("d4", &broken, &head), deploy())
        .await
        .unwrap_err();
    let error = Error::from_status(&status).unwrap();
    assert_eq!(error.reason, ErrorReason::ProjectInvalid);
    assert!(
        error.message.contains("app"),
        "the nearest key is named: {error}"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_about_a_sick_revision_after_an_irreversible_migration() {
    if !is_met(Thing::Python) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let agent = Serving::start(data.path()).await;
    let mut repository = repository("1", "");
    let first = repository.head("main").unwrap().unwrap();
    let (_, live) = execute(agent.address, context("d1", &repository, &first), deploy())
        .await
        .unwrap();
    let address = loopback(port_of(&live.outcome.unwrap().endpoint));
    let migrating = project(
        "2",
        "sick later",
        "{bake: 10s, probe: {interval: 100ms}, irreversible_migration: true}",
    );
    let second = Commit::on("main").write(".agentic/project.yaml", &migrating);
    let second = repository.commit(second).unwrap();
    let load = Load::start(address, 2);
    let (_, sick) = execute(agent.address, context("d2", &repository, &second), deploy())
        .await
        .unwrap();
    load.stop().await;
    let outcome = sick.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed);
    assert!(sick.rollback.is_none());
    let decision = outcome.decision.unwrap();
    assert_eq!(decision.category(), DecisionCategory::DataMigration);
    assert_eq!(decision.choices, ["roll back", "keep"]);

    let decided = |choice: &str| ResolvedDecision {
        category: DecisionCategory::DataMigration.into(),
        subject_digest: decision.subject_digest.clone(),
        resolution: Resolution::Approve.into(),
        choice: choice.into(),
        rationale: "the data was copied back".into(),
        ..ResolvedDecision::default()
    };
    let mut context = context("d2", &repository, &second);
    context.attempt = 2;
    context.decisions = vec![decided("roll back")];
    let (_, back) = execute(agent.address, context, deploy()).await.unwrap();
    let outcome = back.outcome.unwrap();
    assert_eq!(
        outcome.verdict(),
        Verdict::Failed,
        "taken back is no success"
    );
    let rollback = back.rollback.unwrap();
    assert_eq!((rollback.from_revision, rollback.to_revision), (2, 1));
    assert_eq!(rollback.reason, "the data was copied back");
    assert_eq!(get(address, "/").await, (200, "1".to_owned()));
    agent.stop().await;
}
