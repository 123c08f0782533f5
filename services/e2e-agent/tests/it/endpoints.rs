//! What an app answers, compared with what it declares.

use contracts::task::Verdict;

use crate::agent::{SERVER, Tested, description, tested};

async fn asked(endpoints: &str) -> Tested {
    let yaml = description(
        "[python3, app.py]",
        "20s",
        &format!("  endpoints: [{endpoints}]\n"),
    );
    tested(&[(".agentic/project.yaml", &yaml), ("app.py", SERVER)]).await
}

#[tokio::test]
async fn everything_that_can_be_declared_is_checked_and_holds() {
    let tested = asked(
        "{path: /, contains: shop, headers: {content-type: text/html}}, {path: /nowhere, status: 404}, \
         {path: /json, json: {'$.items[0].name': tea, '$.items[0].price': 3.0}}, {path: /slow, latency_below: 20s}, \
         {method: POST, path: /, status: 201, contains: hello, send: {body: hello, headers: {x-a: b}}}",
    )
    .await;
    tested.assert(Verdict::Passed, &["5 tests passed"]);
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_named_with_its_step() {
    let table = [
        (
            "{path: /broken}",
            "status",
            "answered 500 instead of 200: oh no",
        ),
        (
            "{path: /, status: 404}",
            "status",
            "answered 200 instead of 404",
        ),
        (
            "{path: /, contains: books}",
            "contains",
            "does not contain \"books\"",
        ),
        (
            "{path: /, headers: {content-type: text/plain}}",
            "headers",
            "is \"text/html\" instead of \"text/plain\"",
        ),
        (
            "{path: /, headers: {x-missing: a}}",
            "headers",
            "is missing",
        ),
        (
            "{path: /json, json: {'$.items[0].name': coffee}}",
            "json",
            "is \"tea\" instead of \"coffee\"",
        ),
        (
            "{path: /json, json: {'$.nothing': 1}}",
            "json",
            "is missing",
        ),
        ("{path: /, json: {'$.a': 1}}", "json", "is not JSON"),
        (
            "{path: /slow, latency_below: 10ms}",
            "latency",
            "not below 10ms",
        ),
    ];
    let endpoints: Vec<&str> = table.iter().map(|(endpoint, _, _)| *endpoint).collect();
    let tested = asked(&endpoints.join(", ")).await;
    assert_eq!(tested.verdict(), Verdict::Failed);
    let suite = tested.suite("endpoints");
    assert_eq!(suite.failed_count, i32::try_from(table.len()).unwrap());
    for (failure, (endpoint, step, part)) in suite.failures.iter().zip(table) {
        assert_eq!(failure.step, step, "{endpoint}: {}", failure.message);
        assert!(
            failure.message.contains(part),
            "{endpoint}: {}",
            failure.message
        );
        assert_eq!(
            failure.attempt_count, 3,
            "a failure is looked at again at once and at the end"
        );
    }
    assert_eq!(
        tested.result.outcome.as_ref().unwrap().findings.len(),
        table.len()
    );
}
