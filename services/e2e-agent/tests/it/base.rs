//! What the base commit tells about a change, and what a change may not do to its judges.

use contracts::{
    e2e::E2eTask,
    task::{ApprovalEffect, Resolution, ResolvedDecision, Verdict},
};
use testkit::repository::{Commit, Repository};

use crate::agent::{SERVER, ServedAgent, context, description, tested_change};

const START: &str = "[python3, app.py]";

fn described(rest: &str) -> String {
    description(START, "20s", rest)
}

fn suite(script: &str) -> String {
    described(&format!(
        "e2e:\n  suites: [{{name: s, command: [sh, {script}]}}]\n"
    ))
}

#[tokio::test]
async fn the_base_says_what_is_declared() {
    let base = described("  endpoints: [{path: /, contains: shop}]\n");
    let weaker = described("  endpoints: [{path: /}]\n");
    let broken = SERVER.replace("shop", "slop");
    let change = Commit::on("change")
        .from("main")
        .write(".agentic/project.yaml", weaker)
        .write("app.py", broken);
    let tested = tested_change(
        &[(".agentic/project.yaml", &base), ("app.py", SERVER)],
        change,
        E2eTask::default(),
    )
    .await;
    tested.assert(
        Verdict::Failed,
        &[
            "does not contain \"shop\"",
            "none of them fails at the base",
        ],
    );
    assert_eq!(tested.result.description_source, "base");
}

#[tokio::test]
async fn a_failure_that_the_base_has_too_is_still_one_and_says_so() {
    let yaml = described("  endpoints: [{path: /, contains: books}]\n");
    let change = Commit::on("change").from("main").write("note", "x");
    let tested = tested_change(
        &[(".agentic/project.yaml", &yaml), ("app.py", SERVER)],
        change,
        E2eTask::default(),
    )
    .await;
    tested.assert(Verdict::Failed, &["all of them fail at the base, too"]);
    assert!(tested.suite("endpoints").failures[0].fails_at_base);
    assert!(!tested.result.outcome.as_ref().unwrap().findings[0].new);
}

#[tokio::test]
async fn flaky_at_the_base_already_passes_with_a_note_and_made_flaky_by_the_change_fails() {
    let flaky = "if [ -e once ]; then exit 0; fi; touch once; exit 1\n";
    let steady = "exit 0\n";
    let yaml = suite("s.sh");
    let files = |script| {
        [
            (".agentic/project.yaml", yaml.as_str()),
            ("app.py", SERVER),
            ("s.sh", script),
        ]
    };
    let change = || Commit::on("change").from("main").write("note", "x");
    let old = tested_change(&files(flaky), change(), E2eTask::default()).await;
    old.assert(Verdict::Passed, &["flaky, and were at the base already"]);
    assert_eq!(old.suite("s").flaky_count, 1);
    let new = tested_change(
        &files(steady),
        change().write("s.sh", flaky),
        E2eTask::default(),
    )
    .await;
    new.assert(Verdict::Failed, &["the change made them flaky"]);
}

#[tokio::test]
async fn a_base_that_does_not_start_tells_nothing() {
    let yaml = described("  endpoints: [{path: /, contains: books}]\n");
    let change = Commit::on("change").from("main").write("app.py", SERVER);
    let base = [
        (".agentic/project.yaml", yaml.as_str()),
        ("app.py", "import sys; sys.exit(3)"),
    ];
    let tested = tested_change(&base, change, E2eTask::default()).await;
    tested.assert(
        Verdict::Failed,
        &["the base cannot tell", "ended before it was ready"],
    );
}

#[tokio::test]
async fn a_detected_start_that_works_at_the_base_counts_against_the_change() {
    let change = Commit::on("change")
        .from("main")
        .write("server.py", format!("import sys\nsys.exit('no')\n{SERVER}"));
    let tested = tested_change(&[("server.py", SERVER)], change, E2eTask::default()).await;
    tested.assert(Verdict::Failed, &["at the base it starts in the same way"]);
}

#[tokio::test]
async fn a_test_that_the_change_skips_needs_a_person() {
    let report = |case: &str| {
        format!(
            "mkdir -p out\necho '<testsuite name=\"s\"><testcase name=\"a\"/>{case}</testsuite>' > out/s.xml\n"
        )
    };
    let yaml = described(
        "e2e:\n  suites: [{name: s, command: [sh, run/it.sh], report: {junit: out/s.xml}}]\n",
    );
    let base = report("<testcase name=\"b\"/>");
    let skipping = report("<testcase name=\"b\"><skipped/></testcase>");
    let change = Commit::on("change")
        .from("main")
        .write("run/it.sh", skipping);
    let files = [
        (".agentic/project.yaml", yaml.as_str()),
        ("app.py", SERVER),
        ("run/it.sh", base.as_str()),
    ];
    let tested = tested_change(&files, change, E2eTask::default()).await;
    tested.assert(
        Verdict::NotProven,
        &["skips tests that run at the base", "s::b"],
    );
}

#[tokio::test]
async fn weaker_tests_need_a_person_who_can_agree() {
    testkit::require!(Hurl);
    let yaml = described("e2e:\n  suites: [{name: api, hurl: ['e2e/*.hurl']}]\n");
    let strict = "GET {{base_url}}/\nHTTP 200\n[Asserts]\nbody contains \"shop\"\n";
    let mut repository = Repository::with_files([
        (".agentic/project.yaml", yaml.as_str()),
        ("app.py", SERVER),
        ("e2e/a.hurl", strict),
        ("e2e/b.hurl", strict),
    ])
    .unwrap();
    let base = repository.resolve("main").unwrap();
    let change = Commit::on("change")
        .from("main")
        .write("e2e/a.hurl", "GET {{base_url}}/\nHTTP 200\n")
        .delete("e2e/b.hurl");
    let head = repository.commit(change).unwrap();
    let agent = ServedAgent::start().await;
    let mut context = context(&repository, &base, &head);
    let result = agent
        .run(context.clone(), E2eTask::default())
        .await
        .unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::NotProven, "{}", outcome.summary);
    assert!(
        outcome.summary.contains("`e2e/b.hurl` is deleted"),
        "{}",
        outcome.summary
    );
    assert!(
        outcome.summary.contains("no longer says `body contains"),
        "{}",
        outcome.summary
    );
    let decision = outcome.decision.unwrap();
    assert_eq!(decision.on_approval(), ApprovalEffect::Accept);

    context.decisions.push(ResolvedDecision {
        subject_digest: decision.subject_digest.clone(),
        resolution: Resolution::Approve.into(),
        actor: "ann".into(),
        ..ResolvedDecision::default()
    });
    let agreed = agent
        .run(context.clone(), E2eTask::default())
        .await
        .unwrap()
        .outcome
        .unwrap();
    assert_eq!(agreed.verdict(), Verdict::Passed, "{}", agreed.summary);
    assert!(agreed.summary.contains("ann agreed"), "{}", agreed.summary);

    context.decisions[0].subject_digest = "sha256:other".into();
    let other = agent
        .run(context, E2eTask::default())
        .await
        .unwrap()
        .outcome
        .unwrap();
    assert_eq!(
        other.verdict(),
        Verdict::NotProven,
        "an answer to another question is none"
    );
    agent.stop().await;
}
