//! A folder with repositories in it, and git to look at them from outside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use agent_runtime::repository::{
    CommitId, FileChange, FileWrite, NewCommit, Repository, RepositoryCache, TreePath,
};

pub struct World {
    pub folder: tempfile::TempDir,
    pub cache: RepositoryCache,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepositoryCache::new(folder.path().join("cache"));
        Self { folder, cache }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A repository with a work tree and one commit on `main`.
    pub fn user_repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        fs::write(path.join("README"), "one\ntwo\nthree\n").unwrap();
        commit_all(&path, "first");
        path
    }

    pub async fn open(&self, path: &Path) -> Repository {
        self.cache.open(path.to_str().unwrap()).await.unwrap()
    }
}

pub fn git(at: &Path, arguments: &[&str]) -> String {
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

pub fn commit_all(at: &Path, message: &str) -> CommitId {
    git(at, &["add", "-A"]);
    git(at, &["commit", "-q", "-m", message]);
    git(at, &["rev-parse", "HEAD"]).parse().unwrap()
}

pub fn write(path: &str, content: &str) -> FileChange {
    FileChange {
        path: TreePath::parse(path).unwrap(),
        write: FileWrite::File {
            content: content.as_bytes().to_vec(),
            executable: false,
        },
    }
}

pub fn commit_on(parents: Vec<CommitId>, changes: Vec<FileChange>) -> NewCommit {
    NewCommit {
        parents,
        changes,
        message: "change\n".to_owned(),
        author_name: "Agent".to_owned(),
        author_email: "agent@example.org".to_owned(),
        time: 1_700_000_000,
    }
}
