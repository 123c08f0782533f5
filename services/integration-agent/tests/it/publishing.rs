//! The target moves once, from where it was, and by nobody else's loss.

use std::fs;

use contracts::{integration::Merge, task::Verdict};

use crate::{
    serving::{Project, Serving, context, report, rung, summary, verdict},
    world::{World, git},
};

#[tokio::test]
async fn a_target_that_moves_meanwhile_is_merged_again() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    // The check itself plays the rival: at its first run it moves the target.
    let rival = world.path("moved");
    let shop = project.path.display();
    project.write_check(&format!(
        "if mkdir {} 2>/dev/null; then git -C {shop} update-ref refs/heads/main refs/heads/rival; fi\n",
        rival.display(),
    ));
    project.commit("A check with a rival");
    project.part_cleanly();
    project.git(&["checkout", "-q", "-b", "rival", "main"]);
    project.write("rival", "x\n");
    let moved_to = project.commit("Rival").to_string();
    project.git(&["checkout", "-q", "--detach"]);

    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(report(&result).remerge_count, 1);
    assert_eq!(report(&result).target_before, moved_to);
    assert_eq!(project.git(&["rev-parse", "main^1"]), moved_to);
    assert_eq!(project.on_main("rival"), "x");
    assert!(project.on_main("values").ends_with("SEVEN"));
}

#[tokio::test]
async fn a_target_that_never_rests_is_given_up_untouched() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    let shop = project.path.display();
    project.write_check(&format!(
        "cd {shop} && git -c user.name=R -c user.email=r@x update-ref refs/heads/main \
         $(git -c user.name=R -c user.email=r@x commit-tree -p main -m rival main^{{tree}}) && cd - >/dev/null\n"
    ));
    project.commit("A restless target");
    project.part_cleanly();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::NotProven, "{}", summary(&result));
    assert_eq!(report(&result).remerge_count, 5);
    assert_eq!(rung(&result, "publish"), Verdict::NotProven);
    assert_eq!(
        project.git(&["rev-list", "--count", "--merges", "main"]),
        "0"
    );
}

#[tokio::test]
async fn a_clean_work_tree_on_the_target_follows_it() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    project.git(&["checkout", "-q", "main"]);
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    let values = fs::read_to_string(project.path.join("values")).unwrap();
    assert!(
        values.starts_with("ONE") && values.ends_with("SEVEN\n"),
        "{values}"
    );
    assert_eq!(project.git(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_work_tree_with_changes_keeps_the_target_where_it_is() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    project.git(&["checkout", "-q", "main"]);
    project.write("values", "my own work\n");
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Failed, "{}", summary(&result));
    assert!(
        summary(&result).contains("commit or stash"),
        "{}",
        summary(&result)
    );
    assert_eq!(rung(&result, "publish"), Verdict::Failed);
    assert_eq!(project.tip(), before);
    let values = fs::read_to_string(project.path.join("values")).unwrap();
    assert_eq!(values, "my own work\n");
}

#[tokio::test]
async fn a_refusing_hook_is_reported_in_its_own_words() {
    use std::os::unix::fs::PermissionsExt as _;

    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let hook = project.path.join(".git/hooks/update");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho frozen until monday >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let before = project.tip();
    let result = agent.merge(context(&project.path), Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Failed);
    assert!(
        summary(&result).contains("frozen until monday"),
        "{}",
        summary(&result)
    );
    assert_eq!(project.tip(), before);
}

#[tokio::test]
async fn exactly_the_commit_that_was_looked_at_is_merged() {
    let (world, agent) = (World::new(), Serving::start().await);
    let project = Project::new(&world);
    project.part_cleanly();
    let looked_at = project.git(&["rev-parse", "topic"]);
    // The branch goes on after the earlier stages.
    project.git(&["checkout", "-q", "topic"]);
    project.write("unseen", "x\n");
    project.commit("Unseen");
    project.git(&["checkout", "-q", "--detach"]);
    let mut context = context(&project.path);
    context.repository.as_mut().unwrap().head_commit = looked_at.clone();
    let result = agent.merge(context, Merge::default()).await;
    assert_eq!(verdict(&result), Verdict::Passed, "{}", summary(&result));
    assert_eq!(project.git(&["rev-parse", "main^2"]), looked_at);
    let files = git(&project.path, &["ls-tree", "--name-only", "main"]);
    assert!(!files.contains("unseen"), "{files}");
}
