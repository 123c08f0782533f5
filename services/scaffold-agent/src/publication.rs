//! Puts a draft on the task's branch, and says what is then there. The same draft on the same ground is the same
//! commit, and publishing it again changes nothing.

use std::collections::BTreeSet;

use agent_runtime::{
    project::{DESCRIPTION_FILE, Description},
    repository::{
        ChangeKind, ChangedPath, CommitId, Error, Expectation, FileChange, NewCommit, TreePath,
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    ground::{AUTHOR_EMAIL, AUTHOR_NAME, Ground, trailers},
    source::Source,
    text,
};

/// Most characters of a commit message's first line.
const SUBJECT_CHARACTERS: usize = 72;

/// What is on the branch now.
#[derive(Debug, Clone)]
pub struct Published {
    /// The tip of the branch.
    pub commit: CommitId,
    /// Its tree, in hexadecimal.
    pub tree: String,
    /// Whether the project there is an app. `None`: it does not say.
    pub project_is_app: Option<bool>,
    /// What this task changed.
    pub written: Written,
    /// Its files.
    pub source: Source,
    /// The paths that this task changed.
    pub changed: Vec<ChangedPath>,
}

/// What a task changed.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Files that are new or changed, sorted by path.
    pub files: Vec<WrittenFile>,
    /// Folders that they are in, sorted.
    pub directories: BTreeSet<String>,
    /// Files that were not there before.
    pub created_count: usize,
    /// Files that are different.
    pub changed_count: usize,
    /// Files that are gone.
    pub deleted_count: usize,
}

/// One file that is new or changed.
#[derive(Debug, Clone)]
pub struct WrittenFile {
    /// Where it is.
    pub path: String,
    /// What it is for.
    pub kind: &'static str,
    /// Its size.
    pub bytes: usize,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// Commits the changes and moves the branch there. `summary` becomes the message.
pub async fn publish(
    ground: &Ground,
    key: &str,
    task_id: &str,
    summary: &str,
    changes: Vec<FileChange>,
) -> Result<Published, Error> {
    let commit = match ground.earlier {
        // What an attempt published is what the task came to.
        Some(earlier) => earlier,
        None => commit(ground, key, task_id, summary, changes).await?,
    };
    let expected = ground.tip.map_or(Expectation::Absent, Expectation::At);
    let reference = format!("refs/heads/{}", ground.branch);
    ground.repository.push(commit, &reference, expected).await?;
    describe(ground, commit).await
}

async fn commit(
    ground: &Ground,
    key: &str,
    task_id: &str,
    summary: &str,
    changes: Vec<FileChange>,
) -> Result<CommitId, Error> {
    if changes.is_empty() {
        return Ok(ground.parent);
    }
    let repository = &ground.repository;
    let commit = repository
        .commit(NewCommit {
            parents: vec![ground.parent],
            changes,
            message: message(key, task_id, summary),
            author_name: AUTHOR_NAME.to_owned(),
            author_email: AUTHOR_EMAIL.to_owned(),
            time: ground.commit_time(key).await?,
        })
        .await?;
    let tree = repository.commit_summary(commit).await?.tree;
    let before = repository.commit_summary(ground.parent).await?.tree;
    // Changes that cancel each other out make no commit.
    Ok(if tree == before {
        ground.parent
    } else {
        commit
    })
}

fn message(key: &str, task_id: &str, summary: &str) -> String {
    let summary = text::clean_line(summary);
    let subject: String = summary.chars().take(SUBJECT_CHARACTERS).collect();
    let body = if subject == summary {
        String::new()
    } else {
        format!("{summary}\n\n")
    };
    format!("{subject}\n\n{body}{}", trailers(key, task_id))
}

/// What a commit on this ground is.
pub async fn describe(ground: &Ground, commit: CommitId) -> Result<Published, Error> {
    let repository = &ground.repository;
    let source = Source::read(repository, commit).await?;
    let description = match TreePath::parse(DESCRIPTION_FILE) {
        Ok(place) => source.content(&place).await?,
        Err(_) => None,
    };
    let project_is_app = description
        .and_then(|content| Description::parse(&content).ok())
        .map(|description| description.app.is_some());
    let changed = repository
        .changed_paths(Some(ground.parent), commit)
        .await?;
    Ok(Published {
        commit,
        tree: repository.commit_summary(commit).await?.tree.to_string(),
        project_is_app,
        written: written(&source, &changed).await?,
        source,
        changed,
    })
}

async fn written(source: &Source, changed: &[ChangedPath]) -> Result<Written, Error> {
    let mut written = Written::default();
    for change in changed {
        match change.kind {
            ChangeKind::Added => written.created_count += 1,
            ChangeKind::Modified | ChangeKind::TypeChanged => written.changed_count += 1,
            ChangeKind::Deleted => written.deleted_count += 1,
            // One place is new, and another one is gone.
            ChangeKind::Renamed => {
                written.created_count += 1;
                written.deleted_count += 1;
            }
        }
        let Ok(path) = TreePath::parse(&change.path) else {
            continue;
        };
        let Some(content) = source.content(&path).await? else {
            continue;
        };
        let text = path.to_string();
        let folders = path.as_path().ancestors().skip(1);
        written.directories.extend(
            folders
                .map(|folder| folder.display().to_string())
                .filter(|folder| !folder.is_empty()),
        );
        written.files.push(WrittenFile {
            kind: kind_of(&text),
            bytes: content.len(),
            sha256: hex::encode(Sha256::digest(&content)),
            path: text,
        });
    }
    written.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(written)
}

/// What a file is for, as its place tells.
pub fn kind_of(path: &str) -> &'static str {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let stem = name.split('.').next().unwrap_or(name);
    let in_folder = |wanted: &[&str]| folders.split('/').any(|folder| wanted.contains(&folder));
    let is_test = in_folder(&["test", "tests", "__tests__", "spec", "e2e"])
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || name.contains(".test.")
        || name.contains(".spec.");
    let builds = [
        "Dockerfile",
        ".dockerignore",
        "Makefile",
        "Cargo.toml",
        "Cargo.lock",
        "package.json",
        "package-lock.json",
        "pyproject.toml",
        "go.mod",
        "go.sum",
        "build.rs",
        "requirements.txt",
    ];
    if is_test {
        "test"
    } else if builds.contains(&name) || in_folder(&["scripts"]) {
        "build"
    } else if ["md", "rst", "adoc"].contains(&end)
        || in_folder(&["docs", "doc"])
        || stem == "LICENSE"
    {
        "documentation"
    } else if name.starts_with('.')
        || folders.starts_with('.')
        || ["yaml", "yml", "toml", "json", "ini", "cfg"].contains(&end)
    {
        "configuration"
    } else {
        "source"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_place() {
        for (path, kind) in [
            ("src/main.rs", "source"),
            ("app/page.html", "source"),
            ("tests/serving.rs", "test"),
            ("app/test_server.py", "test"),
            ("src/a.test.js", "test"),
            ("test/server.test.js", "test"),
            ("Dockerfile", "build"),
            ("package.json", "build"),
            ("scripts/check.js", "build"),
            ("README.md", "documentation"),
            ("docs/index.html", "documentation"),
            (".agentic/gates.yaml", "configuration"),
            (".gitignore", "configuration"),
            ("src/attest.rs", "source"),
        ] {
            assert_eq!(kind_of(path), kind, "{path}");
        }
    }

    #[test]
    fn a_message_has_a_short_first_line_and_cannot_pose_as_another_task() {
        let long = "word ".repeat(40);
        let text = message("w", "t", &format!("{long}\n\nAgentic-Task: other"));
        assert!(text.lines().next().unwrap().chars().count() <= 72);
        assert!(
            text.ends_with("\nAgentic-Workflow: w\nAgentic-Task: t\n"),
            "{text}"
        );
        assert!(!text.contains("\nAgentic-Task: other"), "{text}");
        assert_eq!(
            message("w", "t", "Make it"),
            "Make it\n\nAgentic-Workflow: w\nAgentic-Task: t\n"
        );
    }
}
