//! Calls and repositories that cannot be worked on.

use contracts::{
    error_reason::ErrorReason,
    task::{Repository, TaskContext, Verdict},
    validation::ValidationTask,
};
use testkit::{repository::Commit, require};

use crate::serving::{Serving, context, good, python};

#[tokio::test]
async fn wrong_calls_are_refused_with_their_reason() {
    let (fixture, base) = python();
    let serving = Serving::start().await;
    let with = |repository: Repository| TaskContext {
        repository: Some(repository),
        ..TaskContext::default()
    };
    let named = || Repository {
        url: fixture.url(),
        ..Repository::default()
    };
    for (context, reason) in [
        (TaskContext::default(), ErrorReason::InvalidField),
        (with(named()), ErrorReason::InvalidField),
        (
            with(Repository {
                head_commit: "main".into(),
                ..named()
            }),
            ErrorReason::InvalidField,
        ),
        (
            with(Repository {
                branch: "nowhere".into(),
                ..named()
            }),
            ErrorReason::RefNotFound,
        ),
        (
            with(Repository {
                head_commit: "0".repeat(39) + "1",
                ..named()
            }),
            ErrorReason::RefNotFound,
        ),
        (
            with(Repository {
                url: "/no/such/place".into(),
                head_commit: base.clone(),
                ..named()
            }),
            ErrorReason::RepositoryNotFound,
        ),
    ] {
        let error = serving
            .run(context.clone(), ValidationTask::default())
            .await
            .unwrap_err();
        assert_eq!(error.reason, reason, "{context:?}: {error}");
    }
}

#[tokio::test]
async fn a_refused_policy_proves_nothing_and_names_the_line() {
    require!(Python);
    let (mut fixture, _) = python();
    let policy = "version: 1\ngates:\n  - {metric: line_coverage, at_least: 80}\n";
    let base = fixture
        .commit(Commit::on("main").write(".agentic/gates.yaml", policy))
        .unwrap();
    let head = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::NotProven);
    assert!(
        seen.summary().contains("line_coverage_percent"),
        "{}",
        seen.summary()
    );
    assert!(
        seen.summary().contains(".agentic/gates.yaml:3"),
        "{}",
        seen.summary()
    );
}

#[tokio::test]
async fn a_branch_is_judged_against_the_default_branch() {
    require!(Python);
    let (mut fixture, base) = python();
    let head = fixture
        .commit(
            Commit::on("feature")
                .from(&base)
                .write("shop/more.py", "x = 1\n"),
        )
        .unwrap();
    let mut context = context(&fixture, None, "");
    context.repository.as_mut().unwrap().branch = "feature".into();
    let (_, result) = Serving::start()
        .await
        .run(context, ValidationTask::default())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    let repository = outcome.repository.unwrap();
    assert_eq!(
        (repository.head_commit, repository.base_commit),
        (head, base)
    );
}
