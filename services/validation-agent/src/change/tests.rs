//! Real repositories with secrets in every corner of their history.

use std::sync::{Arc, LazyLock};

use agent_runtime::repository::{CommitId, Repository, RepositoryCache};
use testkit::repository::{Commit, Repository as Fixture};

use super::{SecretScan, scan_for_secrets, secret_scan::readable, texts};
use crate::secrets::Scanner;

static SCANNER: LazyLock<Arc<Scanner>> = LazyLock::new(|| Arc::new(Scanner::new().unwrap()));

/// A GitHub token, put together here.
fn token(tail: &str) -> String {
    format!("ghp_{}{tail}", "q7Zk29xVb4LmWt8RpY3sHd6JfGc1")
}

async fn open(fixture: &Fixture, folder: &std::path::Path) -> Repository {
    RepositoryCache::new(folder)
        .open(&fixture.url())
        .await
        .unwrap()
}

async fn scan(fixture: &Fixture, base: Option<&str>, head: &str) -> SecretScan {
    let folder = tempfile::tempdir().unwrap();
    let repository = open(fixture, folder.path()).await;
    let base = base.map(|base| base.parse::<CommitId>().unwrap());
    scan_for_secrets(&repository, SCANNER.clone(), base, head.parse().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_secret_that_a_later_commit_removes_is_found_where_it_came_in() {
    let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
    let base = fixture
        .commit(Commit::on("main").write("b.py", "y = 1\n"))
        .unwrap();
    let bad = fixture
        .commit(Commit::on("main").write("a.py", format!("x = 1\nt = '{}'\n", token("Aa0Bb1Cc"))))
        .unwrap();
    let head = fixture
        .commit(Commit::on("main").write("a.py", "x = 2\n"))
        .unwrap();
    let scan = scan(&fixture, Some(&base), &head).await;
    assert_eq!(scan.secrets.len(), 1);
    assert_eq!(scan.secrets[0].commit.unwrap().to_string(), bad);
    assert_eq!(
        (scan.secrets[0].path.as_str(), scan.secrets[0].secret.line),
        ("a.py", 2)
    );
    assert_eq!(scan.commit_count, 2);
}

#[tokio::test]
async fn a_secret_that_a_merged_parent_brings_is_found() {
    let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
    let base = fixture
        .commit(Commit::on("main").write("b.py", "y = 1\n"))
        .unwrap();
    let side = fixture
        .commit(
            Commit::on("side")
                .from(&base)
                .write("s.py", token("Aa0Bb1Cc")),
        )
        .unwrap();
    let head = fixture
        .commit(Commit::on("main").merging(&side).write("c.py", "z = 1\n"))
        .unwrap();
    assert_eq!(scan(&fixture, Some(&base), &head).await.secrets.len(), 1);
}

#[tokio::test]
async fn what_the_base_has_is_not_new_also_in_another_file() {
    let secret = format!("t = '{}'\n", token("Aa0Bb1Cc"));
    let mut fixture = Fixture::with_files([("old.py", secret.as_str())]).unwrap();
    let base = fixture
        .commit(Commit::on("main").write("b.py", "y = 1\n"))
        .unwrap();
    let head = fixture
        .commit(
            Commit::on("main")
                .delete("old.py")
                .write("new.py", format!("# moved\n{secret}")),
        )
        .unwrap();
    assert!(scan(&fixture, Some(&base), &head).await.secrets.is_empty());
    let other = fixture
        .commit(Commit::on("main").write("new.py", token("Zz9Yy8Xx")))
        .unwrap();
    assert_eq!(scan(&fixture, Some(&base), &other).await.secrets.len(), 1);
    // Judged alone, all of the tree counts.
    assert_eq!(scan(&fixture, None, &base).await.secrets.len(), 1);
}

#[tokio::test]
async fn commit_messages_count() {
    let mut fixture = Fixture::with_files([("a.py", "x = 1\n")]).unwrap();
    let base = fixture
        .commit(Commit::on("main").write("b.py", "y = 1\n"))
        .unwrap();
    let head = fixture
        .commit(
            Commit::on("main")
                .message(&format!("Use {}", token("Aa0Bb1Cc")))
                .write("b.py", "y = 2\n"),
        )
        .unwrap();
    assert_eq!(scan(&fixture, Some(&base), &head).await.secrets.len(), 1);
}

#[tokio::test]
async fn texts_of_both_sides_are_read() {
    let mut fixture =
        Fixture::with_files([("a.py", "1\n"), ("gone.py", "2\n"), ("bin", "\0")]).unwrap();
    let base = fixture
        .commit(Commit::on("main").write("keep.py", "3\n"))
        .unwrap();
    let head = fixture
        .commit(
            Commit::on("main")
                .write("a.py", "4\n")
                .delete("gone.py")
                .write("new.py", "5\n")
                .write("bin", "\0\0"),
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let repository = open(&fixture, folder.path()).await;
    let files = texts(&repository, base.parse().unwrap(), head.parse().unwrap())
        .await
        .unwrap();
    let find = |path: &str| {
        let file = files.iter().find(|file| file.path == path).unwrap();
        (file.before.clone(), file.after.clone())
    };
    assert_eq!(find("a.py"), (Some("1\n".into()), Some("4\n".into())));
    assert_eq!(find("gone.py"), (Some("2\n".into()), None));
    assert_eq!(find("new.py"), (None, Some("5\n".into())));
    let (before, after) = find("bin");
    assert!(before != after && before.unwrap().starts_with("binary "));
}

#[test]
fn wide_text_is_read() {
    let wide: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("ab".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    assert_eq!(readable(&wide), "ab");
}
