//! Throw-away folders with the files of a commit.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use agent_runtime::repository::{CheckoutSettings, Error, TreePath};

use super::world::{World, commit_all, git};

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
