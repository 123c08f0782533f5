//! Our copies of repositories outlive crashes and many callers.

use std::{fs, path::PathBuf};

use agent_runtime::repository::{RepositoryCache, TreePath};

use super::world::{World, commit_all, git};

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
