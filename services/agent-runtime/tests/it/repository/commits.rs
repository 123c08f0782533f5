//! Commits that we write, and what changed between commits.

use std::{fs, path::Path};

use agent_runtime::repository::{ChangeKind, Error, Expectation, Pushed, TreePath, create_bare};

use super::world::{World, commit_all, commit_on, git, write};

#[tokio::test]
async fn an_empty_repository_takes_a_first_commit() {
    let world = World::new();
    let bare = world.path("shop.git");
    create_bare(&bare, "trunk").await.unwrap();
    assert!(create_bare(&bare, "trunk").await.is_err());
    let repository = world.open(&bare).await;
    assert!(repository.is_empty().await.unwrap());
    assert_eq!(repository.default_branch().await.unwrap(), "trunk");
    let commit = repository
        .commit(commit_on(
            vec![],
            vec![write("src/main.rs", "fn main() {}\n")],
        ))
        .await
        .unwrap();
    let pushed = repository
        .push(commit, "refs/heads/trunk", Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(pushed, Pushed::Moved);
    repository.refresh().await.unwrap();
    assert_eq!(repository.resolve("trunk").await.unwrap(), commit);
    assert_eq!(git(&bare, &["show", "trunk:src/main.rs"]), "fn main() {}");
}

#[tokio::test]
async fn the_same_input_gives_the_same_commit() {
    let world = World::new();
    let user = world.user_repository("user");
    let repository = world.open(&user).await;
    let main = repository.resolve("main").await.unwrap();
    let new = commit_on(
        vec![main],
        vec![write("a/b", "x"), write("README", "other\n")],
    );
    let one = repository.commit(new.clone()).await.unwrap();
    let two = repository.commit(new).await.unwrap();
    assert_eq!(one, two);
    let read = |path| {
        let repository = repository.clone();
        async move {
            repository
                .read_file(one, &TreePath::parse(path).unwrap())
                .await
                .unwrap()
        }
    };
    assert_eq!(read("a/b").await.as_deref(), Some(&b"x"[..]));
    assert_eq!(read("a").await, None);
    assert_eq!(read("nope").await, None);
    assert_eq!(repository.tree(one).await.unwrap().len(), 2);
    // A file cannot silently replace a folder or the other way round.
    for path in ["a", "README/x"] {
        let clash = commit_on(vec![one], vec![write(path, "x")]);
        let error = repository.commit(clash).await.unwrap_err();
        assert!(matches!(error, Error::InvalidPath { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn changes_are_reported_with_their_new_lines() {
    let world = World::new();
    let user = world.user_repository("user");
    fs::write(
        user.join("old-name"),
        "some\nlong\nenough\ncontent\nto be\nrecognised\n",
    )
    .unwrap();
    fs::write(user.join("gone"), "x\n").unwrap();
    let base = commit_all(&user, "base");
    fs::write(user.join("README"), "one\n2\n3\nthree\nfour\n").unwrap();
    fs::rename(user.join("old-name"), user.join("new-name")).unwrap();
    fs::remove_file(user.join("gone")).unwrap();
    fs::write(user.join("binary"), b"\0\x01\x02").unwrap();
    let head = commit_all(&user, "head");
    let repository = world.open(&user).await;
    let diff = repository.diff(Some(base), head).await.unwrap();
    let of = |path: &str| {
        diff.iter()
            .find(|file| file.change.path == Path::new(path))
            .unwrap()
    };
    assert_eq!(diff.len(), 4);
    assert_eq!(of("README").added, [2..=3, 5..=5]);
    assert_eq!(
        (of("README").added_count, of("README").removed_count),
        (3, 1)
    );
    assert_eq!(of("new-name").change.kind, ChangeKind::Renamed);
    assert_eq!(
        of("new-name").change.old_path.as_deref(),
        Some(Path::new("old-name"))
    );
    assert!(of("new-name").added.is_empty());
    assert_eq!(of("gone").change.kind, ChangeKind::Deleted);
    assert!(of("binary").is_binary);
    let paths = repository.changed_paths(Some(base), head).await.unwrap();
    assert_eq!(paths.len(), 4);
    let all = repository.diff(None, head).await.unwrap();
    assert!(all.iter().all(|file| file.change.kind == ChangeKind::Added));
    let (patch, cut) = repository.patch(Some(base), head, 1 << 20).await.unwrap();
    assert!(patch.contains("+four") && !cut, "{patch}");
    let (patch, cut) = repository.patch(Some(base), head, 50).await.unwrap();
    assert!(patch.len() <= 50 && cut);
    let commits = repository
        .commits_between(Some(base), head, 10)
        .await
        .unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].message, "head\n");
}
