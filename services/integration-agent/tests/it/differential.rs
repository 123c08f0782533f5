//! Our merges, compared with `git merge` and `git rebase` in a work tree, over random histories: the same
//! tree, or the same paths in conflict.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use agent_runtime::repository::{CommitId, Repository};
use integration_agent::{
    commit::{Identity, Purpose},
    conflict::{Author, Choice, Conflict, Kind},
    ladder::{Verdict, form, regions},
    merge::{Markers, Sides, merge},
    resolution::{Choices, resolve},
    strategy::{Candidate, Integration, Prepared, Strategy, prepare},
    trees::{Entry, Trees},
};

use crate::{
    histories::{self, History, Mood},
    world::{World, git, try_git},
};

/// What somebody made of a merge.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Tree(String),
    Unmerged(BTreeSet<String>),
}

/// As many histories as a normal test run has time for.
const MERGES: u64 = 400;
const REBASES: u64 = 120;
const RESOLUTIONS: u64 = 150;
const LADDERS: u64 = 150;

async fn many(
    world: &World,
    seeds: std::ops::Range<u64>,
    mood: Mood,
) -> (PathBuf, Repository, Vec<(u64, History)>) {
    let path = world.repository("many");
    let objects = git2::Repository::open(&path).unwrap();
    let histories: Vec<_> = seeds
        .map(|seed| (seed, histories::write(&objects, seed, mood)))
        .collect();
    for (seed, history) in &histories {
        for (side, commit) in [("ours", history.ours), ("theirs", history.theirs)] {
            objects
                .reference(&format!("refs/heads/{seed}/{side}"), commit.oid(), true, "")
                .unwrap();
        }
    }
    let repository = world.open(&path).await;
    (path, repository, histories)
}

fn without_label(path: &str) -> String {
    // `file~HEAD`, `file~<commit>`: the sides have other names here and there.
    path.split('~').next().unwrap().to_owned()
}

fn unmerged(at: &Path) -> BTreeSet<String> {
    let listing = git(at, &["ls-files", "-u", "-z"]);
    listing
        .split('\0')
        .filter_map(|entry| entry.split_once('\t'))
        .map(|(_, path)| without_label(path))
        .collect()
}

fn start_at(at: &Path, commit: CommitId) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
    git(at, &["read-tree", "--empty"]);
    git(
        at,
        &["checkout", "-q", "-f", "--detach", &commit.to_string()],
    );
}

fn git_merges(at: &Path, history: &History) -> Answer {
    start_at(at, history.ours);
    let merged = try_git(
        at,
        &[
            "merge",
            "-q",
            "--no-ff",
            "-m",
            "m",
            &history.theirs.to_string(),
        ],
    );
    if merged.status.success() {
        Answer::Tree(git(at, &["rev-parse", "HEAD^{tree}"]))
    } else {
        Answer::Unmerged(unmerged(at))
    }
}

fn git_rebases(at: &Path, history: &History) -> Answer {
    start_at(at, history.theirs);
    let rebased = try_git(at, &["rebase", "-q", &history.ours.to_string()]);
    if rebased.status.success() {
        return Answer::Tree(git(at, &["rev-parse", "HEAD^{tree}"]));
    }
    let answer = Answer::Unmerged(unmerged(at));
    git(at, &["rebase", "--abort"]);
    answer
}

fn paths_of(conflicts: &[Conflict]) -> BTreeSet<String> {
    conflicts
        .iter()
        .flat_map(|conflict| &conflict.unmerged)
        .map(|path| without_label(path.to_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn merges_are_those_of_git() {
    let world = World::new();
    let (path, repository, histories) = many(&world, 0..MERGES, Mood::Wild).await;
    let (mut clean, mut conflicted, mut unregistered) = (0, 0, 0);
    let mut kinds = BTreeSet::new();
    for (seed, history) in &histories {
        let expected = git_merges(&path, history);
        let sides = Sides {
            base: None,
            ours: history.ours,
            theirs: history.theirs,
        };
        let merged = merge(&repository, sides, Markers::Usual).await.unwrap();
        kinds.extend(merged.conflicts.iter().map(|conflict| conflict.kind));
        // Git merges these by lines without a word; to us they are a conflict.
        let (drivers, others): (Vec<_>, Vec<_>) = merged
            .conflicts
            .iter()
            .cloned()
            .partition(|conflict| conflict.kind == Kind::Driver);
        unregistered += drivers.len();
        let actual = if others.is_empty() && !matches!(&expected, Answer::Unmerged(_)) {
            Answer::Tree(merged.tree.to_string())
        } else {
            let expected_paths = match &expected {
                Answer::Unmerged(paths) => paths.clone(),
                Answer::Tree(_) => BTreeSet::new(),
            };
            let mut paths = paths_of(&others);
            let also: BTreeSet<_> = paths_of(&drivers)
                .intersection(&expected_paths)
                .cloned()
                .collect();
            paths.extend(also);
            Answer::Unmerged(paths)
        };
        assert_eq!(actual, expected, "seed {seed}: {:#?}", merged.conflicts);
        match expected {
            Answer::Tree(_) => clean += 1,
            Answer::Unmerged(_) => conflicted += 1,
        }
    }
    eprintln!(
        "{clean} clean, {conflicted} in conflict, {unregistered} for want of a driver: {kinds:?}"
    );
    // The histories must reach what they are for.
    assert!(
        clean > 50 && conflicted > 50,
        "{clean} clean, {conflicted} in conflict"
    );
    assert!(unregistered > 0);
    for kind in [
        Kind::Content,
        Kind::Rename,
        Kind::Delete,
        Kind::Add,
        Kind::Type,
        Kind::Binary,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} never happened");
    }
}

#[tokio::test]
async fn one_side_s_lines_are_those_that_git_takes() {
    let world = World::new();
    let (path, repository, histories) =
        many(&world, 20_000..20_000 + RESOLUTIONS, Mood::Calm).await;
    let mut compared = 0;
    for (seed, history) in &histories {
        let sides = Sides {
            base: None,
            ours: history.ours,
            theirs: history.theirs,
        };
        let merged = merge(&repository, sides, Markers::Usual).await.unwrap();
        let by_lines = |conflict: &Conflict| matches!(conflict.kind, Kind::Content | Kind::Add);
        if merged.conflicts.is_empty() || !merged.conflicts.iter().all(by_lines) {
            continue;
        }
        for (choice, option) in [(Choice::Ours, "ours"), (Choice::Theirs, "theirs")] {
            start_at(&path, history.ours);
            let source = history.theirs.to_string();
            git(
                &path,
                &["merge", "-q", "--no-ff", "-m", "m", "-X", option, &source],
            );
            let choices = Choices::Everywhere(choice, Author::Task);
            let resolved = resolve(&repository, sides, merged.clone(), &choices)
                .await
                .unwrap();
            let open = resolved.conflicts.iter().any(Conflict::is_open);
            assert!(!open, "seed {seed}: {:#?}", resolved.conflicts);
            let expected = git(&path, &["rev-parse", "HEAD^{tree}"]);
            assert_eq!(resolved.tree.to_string(), expected, "seed {seed}, {option}");
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}

fn integration(history: &History, strategy: Strategy) -> Integration {
    Integration {
        source: history.theirs,
        target: history.ours,
        strategy,
        choices: Choices::None,
        purpose: Purpose {
            source_name: "topic".to_owned(),
            target_name: "main".to_owned(),
            title: String::new(),
            task_id: "0190".to_owned(),
            workflow_id: String::new(),
            task_time: 0,
        },
        committer: Identity {
            name: "Agent".to_owned(),
            email: "agent@example.org".to_owned(),
        },
    }
}

#[tokio::test]
async fn rebases_are_those_of_git() {
    let world = World::new();
    let (path, repository, histories) = many(&world, 10_000..10_000 + REBASES, Mood::Wild).await;
    let (mut clean, mut conflicted) = (0, 0);
    for (seed, history) in &histories {
        let work = integration(history, Strategy::Rebase);
        let prepared = prepare(&repository, &work).await.unwrap();
        let expected = git_rebases(&path, history);
        let actual = match &prepared {
            Prepared::Candidate(candidate) => Answer::Tree(candidate.tree.to_string()),
            Prepared::FastForward(commit) => {
                Answer::Tree(git(&path, &["rev-parse", &format!("{commit}^{{tree}}")]))
            }
            Prepared::AlreadyContained { .. } => Answer::Tree(git(
                &path,
                &["rev-parse", &format!("{}^{{tree}}", history.ours)],
            )),
            Prepared::Conflict(disagreement) => {
                let open: Vec<_> = disagreement.conflicts.clone();
                if open.iter().any(|conflict| conflict.kind == Kind::Driver) {
                    continue;
                }
                Answer::Unmerged(paths_of(&open))
            }
            other => panic!("seed {seed}: {other:?}"),
        };
        assert_eq!(actual, expected, "seed {seed}: {prepared:#?}");
        match expected {
            Answer::Tree(_) => clean += 1,
            Answer::Unmerged(_) => conflicted += 1,
        }
    }
    eprintln!("{clean} clean, {conflicted} in conflict");
    assert!(
        clean > 15 && conflicted > 15,
        "{clean} clean, {conflicted} in conflict"
    );
}

/// The trees of a commit made by us, and those that it came from.
async fn trees_of(repository: &Repository, history: &History, candidate: &Candidate) -> Trees {
    let (ours, theirs) = (history.ours, history.theirs);
    Trees::read(repository, candidate.base, ours, theirs, candidate.commit)
        .await
        .unwrap()
}

fn look(objects: &git2::Repository, trees: &Trees) -> [Verdict; 2] {
    [
        regions::look(objects, trees, &BTreeSet::new())
            .unwrap()
            .verdict,
        form::look(objects, trees).unwrap().verdict,
    ]
}

#[tokio::test]
async fn what_git_merges_cleanly_climbs_the_ladder_and_what_is_tampered_with_does_not() {
    let world = World::new();
    let (_, repository, histories) = many(&world, 30_000..30_000 + LADDERS, Mood::Wild).await;
    let (mut clean, mut tampered) = (0, 0);
    for (seed, history) in &histories {
        let work = integration(history, Strategy::Merge);
        let Prepared::Candidate(candidate) = prepare(&repository, &work).await.unwrap() else {
            continue;
        };
        let copy = git2::Repository::open_bare(repository.folder()).unwrap();
        let mut trees = trees_of(&repository, history, &candidate).await;
        assert_eq!(
            look(&copy, &trees),
            [Verdict::Passed, Verdict::Passed],
            "seed {seed}"
        );
        clean += 1;

        // A file that both sides have is lost.
        let both = trees
            .ours
            .keys()
            .find(|path| trees.theirs.contains_key(*path))
            .cloned();
        if let Some(path) = both {
            let entry = trees.merged.remove(&path).unwrap();
            assert_eq!(look(&copy, &trees)[0], Verdict::Failed, "seed {seed}");
            trees.merged.insert(path, entry);
        }
        // A file of the merge has a line from nowhere.
        let made = trees
            .made()
            .next()
            .map(|(path, entry)| (path.to_owned(), *entry));
        if let Some((path, entry)) = made {
            for (line, verdicts) in [
                ("from nowhere\n", [Verdict::Failed, Verdict::Passed]),
                ("<<<<<<< HEAD\n", [Verdict::Failed, Verdict::Failed]),
            ] {
                let mut content = copy.find_blob(entry.id).unwrap().content().to_vec();
                content.extend_from_slice(b"\n");
                content.extend_from_slice(line.as_bytes());
                let id = copy.blob(&content).unwrap();
                trees.merged.insert(path.clone(), Entry { id, ..entry });
                assert_eq!(look(&copy, &trees), verdicts, "seed {seed}");
                tampered += 1;
            }
        }
    }
    assert!(
        clean > 20 && tampered > 10,
        "{clean} clean, {tampered} tampered with"
    );
}
