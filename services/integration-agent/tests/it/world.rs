//! A folder with repositories in it, and git to look at them from outside.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use agent_runtime::repository::{CommitId, Repository, RepositoryCache};

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

    pub async fn open(&self, path: &Path) -> Repository {
        self.cache.open(path.to_str().unwrap()).await.unwrap()
    }

    /// An empty repository with a work tree, on `main`.
    pub fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        path
    }
}

pub fn try_git(at: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2024-01-02T03:04:05Z")
        .env("GIT_EDITOR", "true")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
        .args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0"])
        .args(arguments)
        .output()
        .unwrap()
}

pub fn git(at: &Path, arguments: &[&str]) -> String {
    let output = try_git(at, arguments);
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub fn commit_all(at: &Path, message: &str) -> CommitId {
    git(at, &["add", "-A"]);
    git(at, &["commit", "-q", "--allow-empty", "-m", message]);
    git(at, &["rev-parse", "HEAD"]).parse().unwrap()
}
