//! What the agent refuses, and what it leaves behind then: nothing.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use agent_runtime::process::{Command, Ending};
use contracts::{
    error_reason::ErrorReason,
    scaffold::{ScaffoldAction, ScaffoldTask, StopReason},
    task::Verdict,
};
use testkit::repository::Repository;

use crate::{
    serving::{Serving, context, try_config},
    tasks::{branch, generate, outcome, place},
};

#[tokio::test]
async fn other_content_in_the_way_fails_the_task_and_is_not_touched() {
    let agent = Serving::start().await;
    for (taken, other) in [
        ("src/main.rs", "fn main() {}\n"),
        ("src", "a file\n"),
        ("Cargo.toml/x", "a folder\n"),
    ] {
        let repository = Repository::with_files([(taken, other)]).unwrap();
        let result = agent
            .run(context("t-1", &repository.url()), generate("rust-http"))
            .await
            .unwrap();
        assert_eq!(outcome(&result).verdict(), Verdict::Failed, "{taken}");
        assert_eq!(result.stop_reason(), StopReason::Refused);
        let summary = &outcome(&result).summary;
        assert!(summary.contains("other content"), "{summary}");
        assert_eq!((result.commit.as_str(), result.branch.as_str()), ("", ""));
        assert_eq!(place(&result).head_commit, "");
        assert_eq!(repository.head(&branch()).unwrap(), None);
    }
}

#[tokio::test]
async fn a_wrong_task_is_refused_and_leaves_nothing_behind() {
    let agent = Serving::start().await;
    let unknown = agent
        .run(context("t-1", ""), generate("pyhton-http"))
        .await
        .unwrap_err();
    assert_eq!(unknown.reason, ErrorReason::InvalidField);
    assert_eq!(unknown.code(), tonic::Code::InvalidArgument);
    assert_eq!(unknown.fields[0].0, "task.template");
    assert!(
        unknown.message.contains("did you mean python-http?"),
        "{}",
        unknown.message
    );
    assert!(
        unknown
            .message
            .contains("node-http, python-http, rust-http, static-site")
    );
    assert_eq!(unknown.metadata["nearest"], "python-http");

    let mut parameters = generate("static-site");
    parameters.template_parameters = [("port", "70000"), ("themes", "dark")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let wrong = agent.run(context("t-2", ""), parameters).await.unwrap_err();
    let fields: Vec<_> = wrong
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "task.template_parameters[port]",
            "task.template_parameters[themes]"
        ]
    );
    assert!(
        wrong.message.contains("from 1 to 65535") && wrong.message.contains("did you mean theme?")
    );

    let mut generator = generate("");
    generator.generator = "templates".to_owned();
    let wrong = agent.run(context("t-3", ""), generator).await.unwrap_err();
    assert_eq!(wrong.fields[0].0, "task.generator");
    assert!(
        wrong.message.contains("did you mean template?"),
        "{}",
        wrong.message
    );

    let named = ScaffoldTask {
        name: "../../etc".to_owned(),
        ..ScaffoldTask::default()
    };
    let wrong = agent.run(context("t-4", ""), named).await.unwrap_err();
    assert_eq!(wrong.fields[0].0, "task.name");

    for action in [ScaffoldAction::Implement, ScaffoldAction::Fix] {
        let task = ScaffoldTask {
            action: action.into(),
            ..ScaffoldTask::default()
        };
        let unable = agent
            .run(context(action.as_str_name(), ""), task)
            .await
            .unwrap_err();
        assert_eq!(unable.reason, ErrorReason::CapabilityMissing);
        assert!(
            unable.message.contains("template generator cannot"),
            "{}",
            unable.message
        );
    }
    assert!(agent.made().is_empty(), "{:?}", agent.made());
}

#[tokio::test]
async fn a_place_that_is_not_there_is_said_to_be_missing() {
    let agent = Serving::start().await;
    let missing = agent
        .run(context("t-1", "/no/such/repository"), generate(""))
        .await
        .unwrap_err();
    assert_eq!(missing.reason, ErrorReason::RepositoryNotFound);
    assert_eq!(missing.code(), tonic::Code::FailedPrecondition);
    assert!(
        missing.message.contains("/no/such/repository"),
        "{}",
        missing.message
    );

    let folder = tempfile::tempdir().unwrap();
    let plain = agent
        .run(
            context("t-2", folder.path().to_str().unwrap()),
            generate(""),
        )
        .await
        .unwrap_err();
    assert_eq!(plain.reason, ErrorReason::RepositoryNotFound);

    let repository = Repository::with_files([("a", "1\n")]).unwrap();
    let mut asked = context("t-3", &repository.url());
    asked.repository.as_mut().unwrap().target_branch = "release".to_owned();
    let no_branch = agent.run(asked, generate("")).await.unwrap_err();
    assert_eq!(no_branch.reason, ErrorReason::RefNotFound);
    assert!(
        no_branch.message.contains("release"),
        "{}",
        no_branch.message
    );

    let mut asked = context("t-4", &repository.url());
    asked.repository.as_mut().unwrap().base_commit = "1".repeat(40);
    let no_commit = agent.run(asked, generate("")).await.unwrap_err();
    assert_eq!(no_commit.reason, ErrorReason::RefNotFound);

    let odd = agent
        .run(context("t-5", "ext::sh -c id"), generate(""))
        .await
        .unwrap_err();
    assert_eq!(odd.fields[0].0, "context.repository.url");
}

#[tokio::test]
async fn a_repository_that_refuses_the_push_is_reported() {
    let agent = Serving::start().await;
    let repository = Repository::with_files([("a", "1\n")]).unwrap();
    let hook = repository.path().join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho not on a Friday >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = agent
        .run(context("t-1", &repository.url()), generate(""))
        .await
        .unwrap_err();
    assert_eq!(refused.reason, ErrorReason::PushRejected, "{refused}");
    assert_eq!(repository.head(&branch()).unwrap(), None);
}

#[test]
fn wrong_settings_are_refused_in_one_sentence() {
    let data = tempfile::tempdir().unwrap();
    let templates = tempfile::tempdir().unwrap();
    let own = templates.path().join("own");
    fs::create_dir_all(own.join("files")).unwrap();
    fs::write(own.join("files/a"), "").unwrap();
    fs::write(
        own.join("template.yaml"),
        "version: 1\ndescription: x\nparamters: {}\n",
    )
    .unwrap();
    for (more, why) in [
        (
            &["--template", "pyhton-http"][..],
            "did you mean python-http?",
        ),
        (&["--generator", "magic"], "there are template"),
        (&["--generator", "cassette"], "needs --cassette"),
        (
            &["--cassette", data.path().to_str().unwrap()],
            "has no recording",
        ),
        (&["--templates", "/no/such/folder"], "/no/such/folder"),
        (
            &["--templates", templates.path().to_str().unwrap()],
            "paramters",
        ),
    ] {
        let error = try_config(&data, more).expect_err(why).to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(error.starts_with(more[0]), "{error}");
    }
}

#[tokio::test]
async fn the_process_ends_with_64_and_one_sentence() {
    let data = tempfile::tempdir().unwrap();
    for (variable, value, why) in [
        (
            "AGENTIC_SCAFFOLD_TEMPLATE",
            "pyhton-http",
            "did you mean python-http?",
        ),
        (
            "AGENTIC_SCAFOLD_TEMPLATE",
            "python-http",
            "did you mean AGENTIC_SCAFFOLD_TEMPLATE?",
        ),
        ("AGENTIC_LISTEN", "0.0.0.0:0", "clear text"),
    ] {
        let ended = Command::new([env!("CARGO_BIN_EXE_scaffold-agent")])
            .environment("AGENTIC_DATA", data.path())
            .environment(variable, value)
            .timeout(Duration::from_secs(20))
            .run()
            .await
            .unwrap();
        let said = ended.stderr.text();
        assert_eq!(ended.ending, Ending::Exited(64), "{variable}: {said}");
        assert!(said.contains(why), "{variable}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
}
