//! A reference moves only from where it is expected, and never backwards.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use agent_runtime::repository::{CommitId, Error, Expectation, Pushed, Rejection, create_bare};

use super::world::{World, commit_on, git, write};

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
