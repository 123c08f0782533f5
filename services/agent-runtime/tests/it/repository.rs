//! Repositories, with the real git on both ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use agent_runtime::repository::{
    CacheSettings, ChangeKind, CheckoutSettings, CommitId, Error, Expectation, FileChange,
    FileWrite, NewCommit, Pushed, Rejection, Repository, RepositoryCache, TreePath, create_bare,
};

struct World {
    folder: tempfile::TempDir,
    cache: RepositoryCache,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepositoryCache::new(folder.path().join("cache"));
        Self { folder, cache }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A repository with a work tree and one commit on `main`.
    fn user_repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        fs::write(path.join("README"), "one\ntwo\nthree\n").unwrap();
        commit_all(&path, "first");
        path
    }

    async fn open(&self, path: &Path) -> Repository {
        self.cache.open(path.to_str().unwrap()).await.unwrap()
    }
}

fn git(at: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2024-01-02T03:04:05Z")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit_all(at: &Path, message: &str) -> CommitId {
    git(at, &["add", "-A"]);
    git(at, &["commit", "-q", "-m", message]);
    git(at, &["rev-parse", "HEAD"]).parse().unwrap()
}

fn write(path: &str, content: &str) -> FileChange {
    FileChange {
        path: TreePath::parse(path).unwrap(),
        write: FileWrite::File {
            content: content.as_bytes().to_vec(),
            executable: false,
        },
    }
}

fn commit_on(parents: Vec<CommitId>, changes: Vec<FileChange>) -> NewCommit {
    NewCommit {
        parents,
        changes,
        message: "change\n".to_owned(),
        author_name: "Agent".to_owned(),
        author_email: "agent@example.org".to_owned(),
        time: 1_700_000_000,
    }
}

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

#[tokio::test]
async fn a_missing_repository_is_told_from_a_missing_host() {
    let world = World::new();
    fs::create_dir(world.path("plain")).unwrap();
    for path in [world.path("nowhere"), world.path("plain")] {
        let error = world.cache.open(path.to_str().unwrap()).await.unwrap_err();
        assert!(
            matches!(error, Error::RepositoryNotFound { .. }),
            "{error:?}"
        );
        assert!(!error.is_retryable());
    }
    // A port that nothing listens on: bound and closed again.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = world
        .cache
        .open(&format!("http://127.0.0.1:{port}/x.git"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_server_that_never_answers_runs_into_the_deadline() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cache = RepositoryCache::with_settings(
        world.path("cache"),
        CacheSettings {
            deadline: Duration::from_millis(300),
            ..CacheSettings::default()
        },
    );
    let error = cache
        .open(&format!("http://127.0.0.1:{port}/x.git"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

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
async fn a_push_moves_a_branch_only_from_where_it_is_expected() {
    let world = World::new();
    let bare = world.path("shop.git");
    create_bare(&bare, "main").await.unwrap();
    let repository = world.open(&bare).await;
    let make = |parents: Vec<CommitId>, content: &'static str| {
        let repository = repository.clone();
        async move {
            repository
                .commit(commit_on(parents, vec![write("f", content)]))
                .await
                .unwrap()
        }
    };
    let one = make(vec![], "1").await;
    let two = make(vec![one], "2").await;
    let rival = make(vec![one], "rival").await;
    let main = "refs/heads/main";
    let rejected = |result: Result<Pushed, Error>| match result.unwrap_err() {
        Error::Rejected { rejection, .. } => rejection,
        error => panic!("{error:?}"),
    };
    let push = |commit, expect| repository.push(commit, main, expect);

    assert_eq!(
        rejected(push(two, Expectation::At(one)).await),
        Rejection::Moved { actual: None }
    );
    assert_eq!(push(one, Expectation::Absent).await.unwrap(), Pushed::Moved);
    // Twice is once.
    assert_eq!(
        push(one, Expectation::Absent).await.unwrap(),
        Pushed::AlreadyThere
    );
    assert!(matches!(
        rejected(push(two, Expectation::Absent).await),
        Rejection::Exists { .. }
    ));
    assert_eq!(
        push(two, Expectation::At(one)).await.unwrap(),
        Pushed::Moved
    );
    assert_eq!(
        push(two, Expectation::At(one)).await.unwrap(),
        Pushed::AlreadyThere
    );
    assert!(matches!(
        rejected(push(rival, Expectation::At(one)).await),
        Rejection::Moved { actual: Some(_) }
    ));
    // Never backwards, never sideways, also when the place is the expected one.
    for commit in [one, rival] {
        for expect in [Expectation::At(two), Expectation::FastForward] {
            assert_eq!(
                rejected(push(commit, expect).await),
                Rejection::NotFastForward
            );
        }
    }
    assert_eq!(repository.remote_tip(main).await.unwrap(), Some(two));
}

#[tokio::test]
async fn of_two_rivals_one_push_wins() {
    let world = World::new();
    let user = world.user_repository("user");
    let bare = world.path("shop.git");
    git(
        world.folder.path(),
        &["clone", "-q", "--bare", user.to_str().unwrap(), "shop.git"],
    );
    let repository = world.open(&bare).await;
    let main = repository.resolve("main").await.unwrap();
    let mut pushes = tokio::task::JoinSet::new();
    for rival in 0..6 {
        let repository = repository.clone();
        pushes.spawn(async move {
            let change = commit_on(vec![main], vec![write("f", &rival.to_string())]);
            let commit = repository.commit(change).await.unwrap();
            repository
                .push(commit, "refs/heads/main", Expectation::At(main))
                .await
                .map(|_| commit)
        });
    }
    let results = pushes.join_all().await;
    let winners: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().ok())
        .collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for result in &results {
        if let Err(error) = result {
            let lost = error.is_moved() || error.is_retryable();
            assert!(lost, "{error:?}");
        }
    }
    let tip = repository.remote_tip("refs/heads/main").await.unwrap();
    assert_eq!(tip.as_ref(), Some(winners[0]));
}

#[tokio::test]
async fn a_held_lock_is_waited_for_and_never_removed() {
    let world = World::new();
    let bare = world.path("shop.git");
    create_bare(&bare, "main").await.unwrap();
    let repository = world.open(&bare).await;
    let commit = repository
        .commit(commit_on(vec![], vec![write("f", "1")]))
        .await
        .unwrap();
    let lock = bare.join("refs/heads/main.lock");
    fs::write(&lock, "").unwrap();
    let push = repository.push(commit, "refs/heads/main", Expectation::Absent);
    tokio::pin!(push);
    let early = tokio::time::timeout(Duration::from_millis(1500), &mut push).await;
    assert!(early.is_err(), "{early:?}");
    assert!(lock.exists());
    fs::remove_file(&lock).unwrap();
    assert_eq!(push.await.unwrap(), Pushed::Moved);
}

#[tokio::test]
async fn a_clean_work_tree_follows_its_branch() {
    let world = World::new();
    let user = world.user_repository("user");
    let repository = world.open(&user).await;
    let main = repository.resolve("main").await.unwrap();
    let change = commit_on(vec![main], vec![write("README", "merged\n")]);
    let commit = repository.commit(change).await.unwrap();
    let pushed = repository
        .push(commit, "refs/heads/main", Expectation::At(main))
        .await
        .unwrap();
    assert_eq!(pushed, Pushed::Moved);
    assert_eq!(fs::read_to_string(user.join("README")).unwrap(), "merged\n");
    assert_eq!(git(&user, &["status", "--porcelain"]), "");
    // Nothing of it stays behind in the user's configuration.
    let config = fs::read_to_string(user.join(".git/config")).unwrap();
    assert!(!config.contains("denyCurrentBranch"), "{config}");
}

#[tokio::test]
async fn a_work_tree_with_changes_is_left_alone() {
    let world = World::new();
    let user = world.user_repository("user");
    let repository = world.open(&user).await;
    let main = repository.resolve("main").await.unwrap();
    let commit = repository
        .commit(commit_on(
            vec![main],
            vec![write("README", "merged\n"), write("new", "ours\n")],
        ))
        .await
        .unwrap();
    let attempt = || async {
        match repository
            .push(commit, "refs/heads/main", Expectation::At(main))
            .await
            .unwrap_err()
        {
            Error::Rejected {
                rejection: rejection @ Rejection::WorkTreeDirty { .. },
                ..
            } => rejection,
            error => panic!("{error:?}"),
        }
    };
    // A changed file.
    fs::write(user.join("README"), "mine\n").unwrap();
    attempt().await;
    assert_eq!(fs::read_to_string(user.join("README")).unwrap(), "mine\n");
    // A staged one.
    git(&user, &["add", "README"]);
    attempt().await;
    git(&user, &["reset", "-q", "--hard"]);
    // A file that git does not know and that would be overwritten.
    fs::write(user.join("new"), "mine\n").unwrap();
    attempt().await;
    assert_eq!(fs::read_to_string(user.join("new")).unwrap(), "mine\n");
    assert_eq!(
        repository.remote_tip("refs/heads/main").await.unwrap(),
        Some(main)
    );
}

#[tokio::test]
async fn a_refusing_hook_is_policy() {
    let world = World::new();
    let bare = world.path("shop.git");
    create_bare(&bare, "main").await.unwrap();
    let hook = bare.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho frozen until monday >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let repository = world.open(&bare).await;
    let commit = repository
        .commit(commit_on(vec![], vec![write("f", "1")]))
        .await
        .unwrap();
    let error = repository
        .push(commit, "refs/heads/main", Expectation::Absent)
        .await
        .unwrap_err();
    let Error::Rejected {
        rejection: Rejection::Policy { detail },
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert!(detail.contains("frozen until monday"), "{detail}");
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

#[tokio::test]
async fn a_checkout_has_the_files_of_the_commit_and_nothing_else() {
    let world = World::new();
    let user = world.user_repository("user");
    fs::write(user.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(user.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(user.join("docs")).unwrap();
    fs::write(user.join("docs/.gitattributes"), "* export-ignore\n").unwrap();
    fs::write(user.join("docs/kept"), "kept\n").unwrap();
    for (link, target) in [
        ("inside", "docs/kept"),
        ("etc", "/etc/passwd"),
        ("up", "docs/../../x"),
    ] {
        std::os::unix::fs::symlink(target, user.join(link)).unwrap();
    }
    fs::write(user.join(".gitignore"), "ignored\n").unwrap();
    fs::write(user.join("ignored"), "x").unwrap();
    let module = world.user_repository("module");
    git(
        &user,
        &[
            "submodule",
            "--quiet",
            "add",
            module.to_str().unwrap(),
            "vendor/module",
        ],
    );
    git(&user, &["tag", "v1"]);
    let commit = commit_all(&user, "all");

    let repository = world.open(&user).await;
    let started = std::time::SystemTime::now() - Duration::from_secs(2);
    let checkout = repository
        .checkout(commit, &world.path("work"), CheckoutSettings::default())
        .await
        .unwrap();
    let root = checkout.path().to_owned();
    let mode = fs::metadata(root.join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert!(
        fs::metadata(root.join("README"))
            .unwrap()
            .modified()
            .unwrap()
            >= started
    );
    assert_eq!(
        fs::read_to_string(root.join("docs/kept")).unwrap(),
        "kept\n"
    );
    assert_eq!(
        fs::read_link(root.join("inside")).unwrap(),
        Path::new("docs/kept")
    );
    assert!(!root.join(".git").exists() && !root.join("ignored").exists());
    assert_eq!(
        checkout.escaping_links(),
        [Path::new("etc"), Path::new("up")]
    );
    assert!(fs::symlink_metadata(root.join("etc")).is_err());
    assert_eq!(checkout.submodules(), [Path::new("vendor/module")]);
    assert_eq!(fs::read_dir(root.join("vendor/module")).unwrap().count(), 0);

    // What a tool made read-only goes away too.
    fs::create_dir(root.join("cache")).unwrap();
    fs::write(root.join("cache/file"), "").unwrap();
    fs::set_permissions(root.join("cache"), fs::Permissions::from_mode(0o555)).unwrap();
    drop(checkout);
    assert!(!root.exists());

    let with_git = CheckoutSettings {
        with_git: true,
        ..CheckoutSettings::default()
    };
    let checkout = repository
        .checkout(commit, &world.path("work"), with_git)
        .await
        .unwrap();
    let root = checkout.path();
    assert_eq!(git(root, &["rev-parse", "HEAD"]), commit.to_string());
    assert_eq!(git(root, &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(
        git(root, &["describe", "--tags"]),
        format!("v1-1-g{}", &commit.to_string()[..7])
    );
    let status = git(root, &["status", "--porcelain"]);
    assert_eq!(status, "D etc\n D up", "{status}");
}

#[tokio::test]
async fn a_path_through_a_link_that_leaves_is_not_resolved() {
    let world = World::new();
    let user = world.user_repository("user");
    let repository = world.open(&user).await;
    let main = repository.resolve("main").await.unwrap();
    let checkout = repository
        .checkout(main, &world.path("work"), CheckoutSettings::default())
        .await
        .unwrap();
    // As a build step might make them.
    std::os::unix::fs::symlink("/etc", checkout.path().join("out")).unwrap();
    std::os::unix::fs::symlink("/nowhere/x", checkout.path().join("dangling")).unwrap();
    let resolve = |path: &str| checkout.resolve(&TreePath::parse(path).unwrap());
    assert!(resolve("README").is_ok());
    assert!(resolve("new/file").is_ok());
    for path in ["out", "out/passwd", "out/new", "dangling"] {
        assert!(
            matches!(resolve(path), Err(Error::InvalidPath { .. })),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_tree_with_git_s_own_folder_is_not_written_out() {
    let world = World::new();
    let user = world.user_repository("user");
    // What `git` refuses to make by hand can be made by a plumbing command, and arrive by a fetch.
    let blob = git(&user, &["rev-parse", "HEAD:README"]);
    let below = make_tree(&user, &format!("100644 blob {blob}\tconfig\n"));
    let tree = make_tree(
        &user,
        &format!("040000 tree {below}\t.git\n100644 blob {blob}\tREADME\n"),
    );
    let commit = git(&user, &["commit-tree", &tree, "-m", "evil"]);
    git(&user, &["update-ref", "refs/heads/evil", &commit]);
    let repository = world.open(&user).await;
    let evil = repository.resolve("evil").await.unwrap();
    let checkout = repository
        .checkout(evil, &world.path("work"), CheckoutSettings::default())
        .await
        .unwrap();
    assert_eq!(checkout.refused_paths(), [Path::new(".git/config")]);
    assert!(!checkout.path().join(".git").exists());
}

fn make_tree(at: &Path, listing: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("git")
        .current_dir(at)
        .arg("mktree")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(listing.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn too_much_for_a_checkout_is_an_error_and_leaves_nothing() {
    let world = World::new();
    let user = world.user_repository("user");
    let repository = world.open(&user).await;
    let main = repository.resolve("main").await.unwrap();
    let settings = CheckoutSettings {
        byte_limit: 3,
        ..CheckoutSettings::default()
    };
    let error = repository
        .checkout(main, &world.path("work"), settings)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    assert_eq!(fs::read_dir(world.path("work")).unwrap().count(), 0);
}

fn copy_of(world: &World) -> PathBuf {
    fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "git"))
        .unwrap()
}

#[tokio::test]
async fn a_broken_copy_is_made_anew() {
    let world = World::new();
    let user = world.user_repository("user");
    let main = world.open(&user).await.resolve("main").await.unwrap();
    let copy = copy_of(&world);
    let breakages: [(&str, &dyn Fn()); 4] = [
        ("objects gone", &|| {
            fs::remove_dir_all(copy.join("objects")).unwrap();
        }),
        ("no repository at all", &|| {
            fs::remove_file(copy.join("HEAD")).unwrap();
        }),
        ("empty packs and objects", &|| {
            for entry in walkdir::WalkDir::new(copy.join("objects")) {
                let entry = entry.unwrap();
                if entry.file_type().is_file() {
                    let _ = fs::remove_file(entry.path());
                    fs::write(entry.path(), b"").unwrap();
                }
            }
        }),
        ("killed while writing, with a lock left", &|| {
            fs::write(copy.join("agentic-writing"), b"").unwrap();
            fs::write(copy.join("packed-refs.lock"), b"").unwrap();
            fs::create_dir_all(copy.join("refs/heads")).unwrap();
            fs::write(copy.join("refs/heads/main.lock"), b"").unwrap();
        }),
    ];
    for (name, breakage) in breakages {
        breakage();
        fs::write(user.join("README"), name).unwrap();
        let newer = commit_all(&user, name);
        let repository = world.open(&user).await;
        assert_eq!(repository.resolve("main").await.unwrap(), newer, "{name}");
        let content = repository
            .read_file(newer, &TreePath::parse("README").unwrap())
            .await
            .unwrap();
        assert_eq!(content.as_deref(), Some(name.as_bytes()), "{name}");
        assert!(repository.contains(newer, main).await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn a_deep_loss_after_a_kill_is_found() {
    let world = World::new();
    let user = world.user_repository("user");
    let first = git(&user, &["rev-parse", "HEAD"]);
    fs::write(user.join("README"), "second\n").unwrap();
    commit_all(&user, "second");
    world.open(&user).await;
    let copy = copy_of(&world);
    // An old commit is lost, the tip is whole: only a walk can see it.
    let object = copy.join("objects").join(&first[..2]).join(&first[2..]);
    assert!(object.exists(), "small fetches are stored as loose objects");
    fs::remove_file(&object).unwrap();
    fs::write(copy.join("agentic-writing"), b"").unwrap();
    let repository = world.open(&user).await;
    assert!(
        repository
            .commit_summary(first.parse().unwrap())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn concurrent_openings_share_one_copy() {
    let world = World::new();
    let user = world.user_repository("user");
    let mut openings = tokio::task::JoinSet::new();
    for index in 0..8 {
        // As several processes do.
        let cache = if index % 2 == 0 {
            world.cache.clone()
        } else {
            RepositoryCache::new(world.path("cache"))
        };
        let url = user.to_str().unwrap().to_owned();
        openings.spawn(async move {
            cache
                .open(&url)
                .await
                .unwrap()
                .resolve("main")
                .await
                .unwrap()
        });
    }
    let commits = openings.join_all().await;
    assert!(commits.windows(2).all(|pair| pair[0] == pair[1]));
    let copies = fs::read_dir(world.path("cache"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count();
    assert_eq!(copies, 1);
}

#[tokio::test]
async fn branches_that_are_gone_there_are_gone_here() {
    let world = World::new();
    let user = world.user_repository("user");
    git(&user, &["branch", "topic"]);
    let repository = world.open(&user).await;
    assert!(repository.resolve("topic").await.is_ok());
    git(&user, &["branch", "-q", "-D", "topic"]);
    git(&user, &["branch", "topic/deeper"]);
    repository.refresh().await.unwrap();
    assert!(repository.resolve("topic").await.is_err());
    assert!(repository.resolve("topic/deeper").await.is_ok());
}
