//! From what people call a commit to the commit.

use std::fs;

use agent_runtime::repository::{CommitId, Error};

use super::world::{World, commit_all, git};

#[tokio::test]
async fn every_kind_of_name_resolves_to_its_commit() {
    let world = World::new();
    let user = world.user_repository("user");
    let first: CommitId = git(&user, &["rev-parse", "HEAD"]).parse().unwrap();
    git(&user, &["tag", "-a", "v1", "-m", "v1"]);
    git(&user, &["checkout", "-q", "-b", "topic/x"]);
    fs::write(user.join("new"), "x").unwrap();
    let second = commit_all(&user, "second");
    git(&user, &["update-ref", "refs/remotes/origin/other", "HEAD"]);
    git(&user, &["update-ref", "refs/pull/7/head", "HEAD"]);
    git(&user, &["checkout", "-q", "main"]);

    let repository = world.open(&user).await;
    for (name, commit) in [
        ("main", first),
        ("HEAD", first),
        ("v1", first),
        ("refs/tags/v1", first),
        (&first.to_string(), first),
        (&first.to_string()[..8], first),
        ("topic/x", second),
        ("refs/heads/topic/x", second),
        ("origin/other", second),
        ("refs/pull/7/head", second),
    ] {
        assert_eq!(repository.resolve(name).await.unwrap(), commit, "{name}");
    }
    assert_eq!(repository.default_branch().await.unwrap(), "main");
    assert_eq!(repository.merge_base(first, second).await.unwrap(), first);
    assert!(repository.contains(second, first).await.unwrap());
    assert!(!repository.contains(first, second).await.unwrap());
    for name in [
        "nope",
        "refs/heads/nope",
        "1234567",
        &"0".repeat(39),
        &"1".repeat(40),
        "a..b",
        "-x",
        "",
    ] {
        let error = repository.resolve(name).await.unwrap_err();
        assert!(
            matches!(error, Error::RefNotFound { .. }),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_name_of_two_commits_is_ambiguous() {
    let world = World::new();
    let user = world.user_repository("user");
    git(&user, &["tag", "same"]);
    git(&user, &["checkout", "-q", "-b", "same"]);
    fs::write(user.join("new"), "x").unwrap();
    commit_all(&user, "second");
    let error = world.open(&user).await.resolve("same").await.unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error:?}");
}

#[tokio::test]
async fn a_commit_on_no_branch_is_fetched_by_its_id() {
    let world = World::new();
    let user = world.user_repository("user");
    git(&user, &["checkout", "-q", "--detach"]);
    fs::write(user.join("new"), "x").unwrap();
    let detached = commit_all(&user, "detached");
    git(&user, &["checkout", "-q", "main"]);
    let repository = world.open(&user).await;
    let resolved = repository.resolve(&detached.to_string()).await.unwrap();
    assert_eq!(resolved, detached);
}
