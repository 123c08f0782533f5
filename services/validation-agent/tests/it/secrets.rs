//! Secrets anywhere in a change.

use contracts::task::{Severity, Verdict};
use testkit::{repository::Commit, require};

use crate::serving::{PYTHON_TEST, Serving, good, python};

/// A GitHub token, put together here: none stands in this repository.
fn token() -> String {
    ["ghp", "_q7Zk29xVb4LmWt8R", "pY3sHd6JfGc1Aa0Bb1Cc"].concat()
}

#[tokio::test]
async fn a_secret_that_a_later_commit_removes_fails_the_change_and_is_not_shown() {
    require!(Python);
    let (mut fixture, base) = python();
    let clean = "def total(prices):\n    return sum(prices)\n";
    let bad = fixture
        .commit(
            Commit::on("main").write("shop/prices.py", format!("TOKEN = '{}'\n{clean}", token())),
        )
        .unwrap();
    let _ = fixture
        .commit(Commit::on("main").write("shop/prices.py", clean))
        .unwrap();
    let head = good(&mut fixture);
    let seen = Serving::start()
        .await
        .validate(&fixture, Some(&base), &head)
        .await;
    seen.expect(Verdict::Failed);
    let secrets = seen.check("secrets");
    let finding = &secrets.findings[0];
    assert_eq!(
        (finding.rule.as_str(), finding.path.as_str(), finding.line),
        ("secret:github-token", "shop/prices.py", 1)
    );
    assert_eq!(finding.severity(), Severity::Critical);
    assert!(finding.message.contains(&bad[..12]));
    assert_eq!(seen.metric("new_secret_count"), Some(1.0));
    assert!(!format!("{:?}{:?}", seen.result, seen.events).contains(&token()));
    assert!(
        seen.result
            .recommendations
            .iter()
            .any(|advice| advice.contains("revoke"))
    );
}

#[tokio::test]
async fn a_waiver_of_the_base_holds_for_exactly_that_secret() {
    require!(Python);
    let (mut fixture, first) = python();
    let serving = Serving::start().await;
    let with_secret = |secret: &str| {
        Commit::on("main")
            .write("shop/example.py", format!("EXAMPLE = '{secret}'\n"))
            .write("tests/test_prices.py", PYTHON_TEST)
    };
    let head = fixture.commit(with_secret(&token()).from(&first)).unwrap();
    let seen = serving.validate(&fixture, Some(&first), &head).await;
    let fingerprint = seen.check("secrets").findings[0].fingerprint.clone();
    let policy = format!(
        "version: 1\nwaivers:\n  - {{finding: {fingerprint}, owner: ada, reason: an example, until: 2999-01-01}}\n"
    );
    let base = fixture
        .commit(
            Commit::on("policy")
                .from(&first)
                .write(".agentic/gates.yaml", policy),
        )
        .unwrap();
    let head = fixture.commit(with_secret(&token()).from(&base)).unwrap();
    let seen = serving.validate(&fixture, Some(&base), &head).await;
    seen.expect(Verdict::Passed);
    assert!(
        seen.check("secrets").findings[0]
            .message
            .contains("waived by ada")
    );
    let other = fixture
        .commit(with_secret(&token().replace('q', "r")).from(&base))
        .unwrap();
    serving
        .validate(&fixture, Some(&base), &other)
        .await
        .expect(Verdict::Failed);
}
