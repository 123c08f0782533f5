//! Git repositories with a made-up history, for tests. Written with the system's `git` and cut off from the configuration of
//! whoever runs the tests, so that the same history has the same commit ids everywhere.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// The time of a repository's first commit; each later one is a minute later.
const FIRST_COMMIT_SECONDS: u64 = 1_700_000_000;

/// A bare repository in a folder of its own, removed when dropped. Its default branch is `main`.
#[derive(Debug)]
pub struct Repository {
    folder: TempDir,
    commit_count: u64,
}

enum Change {
    Write {
        mode: &'static str,
        content: Vec<u8>,
    },
    Delete,
}

/// A commit to be.
pub struct Commit {
    branch: String,
    from: Option<String>,
    merged: Vec<String>,
    message: String,
    changes: Vec<(String, Change)>,
}

impl Commit {
    /// A commit on top of a branch, which is made when it is missing.
    pub fn on(branch: &str) -> Self {
        Self {
            branch: branch.to_owned(),
            from: None,
            merged: Vec::new(),
            message: "Change files".to_owned(),
            changes: Vec::new(),
        }
    }

    /// Starts the branch at another commit or branch, wherever it was before.
    #[must_use]
    pub fn from(mut self, commit: &str) -> Self {
        self.from = Some(commit.to_owned());
        self
    }

    /// Makes another commit or branch a second parent. Its files are not taken: say what the merge has.
    #[must_use]
    pub fn merging(mut self, commit: &str) -> Self {
        self.merged.push(commit.to_owned());
        self
    }

    /// The message.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }

    /// A file.
    #[must_use]
    pub fn write(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.change(path, "100644", content.as_ref())
    }

    /// A program.
    #[must_use]
    pub fn executable(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.change(path, "100755", content.as_ref())
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.change(path, "120000", target.as_bytes())
    }

    /// Many files.
    #[must_use]
    pub fn write_all<'a>(self, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        files
            .into_iter()
            .fold(self, |commit, (path, content)| commit.write(path, content))
    }

    /// Removes a file or folder.
    #[must_use]
    pub fn delete(mut self, path: &str) -> Self {
        self.changes.push((path.to_owned(), Change::Delete));
        self
    }

    fn change(mut self, path: &str, mode: &'static str, content: &[u8]) -> Self {
        self.changes.push((
            path.to_owned(),
            Change::Write {
                mode,
                content: content.to_vec(),
            },
        ));
        self
    }
}

impl Repository {
    /// A repository without commits.
    pub fn empty() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("repository-").tempdir()?;
        let repository = Self {
            folder,
            commit_count: 0,
        };
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main"])?;
        Ok(repository)
    }

    /// A repository with one commit on `main`.
    pub fn with_files<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<Self> {
        let mut repository = Self::empty()?;
        repository.commit(Commit::on("main").message("Begin").write_all(files))?;
        Ok(repository)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where it is, as tasks want it.
    pub fn url(&self) -> String {
        self.path().display().to_string()
    }

    /// Adds a commit and gives its id.
    pub fn commit(&mut self, commit: Commit) -> anyhow::Result<String> {
        let seconds = FIRST_COMMIT_SECONDS + 60 * self.commit_count;
        self.commit_count += 1;
        let reference = format!("refs/heads/{}", commit.branch);
        let start = match &commit.from {
            Some(from) => Some(self.resolve(from)?),
            None => self.head(&commit.branch)?,
        };
        let mut text = format!(
            "commit {reference}\ncommitter Test Author <author@example.com> {seconds} +0000\n"
        );
        write!(text, "data {}\n{}\n", commit.message.len(), commit.message)?;
        if let Some(start) = start {
            writeln!(text, "from {start}")?;
        }
        for merged in &commit.merged {
            writeln!(text, "merge {}", self.resolve(merged)?)?;
        }
        let mut stream = text.into_bytes();
        for (path, change) in commit.changes {
            match change {
                Change::Write { mode, content } => {
                    writeln!(stream, "M {mode} inline {}", quoted(&path))?;
                    writeln!(stream, "data {}", content.len())?;
                    stream.extend_from_slice(&content);
                    stream.push(b'\n');
                }
                Change::Delete => writeln!(stream, "D {}", quoted(&path))?,
            }
        }
        stream.extend_from_slice(b"\ndone\n");
        run(
            self.command(&["fast-import", "--quiet", "--force", "--done"]),
            &stream,
        )?;
        self.head(&commit.branch)?
            .context("the branch is not there after the commit")
    }

    /// The commit at the tip of a branch; `None` when there is no such branch.
    pub fn head(&self, branch: &str) -> anyhow::Result<Option<String>> {
        let reference = format!("refs/heads/{branch}");
        let listed = self.git(&["for-each-ref", "--format=%(objectname)", &reference])?;
        Ok(Some(listed.trim().to_owned()).filter(|id| !id.is_empty()))
    }

    /// The commit that a name stands for.
    pub fn resolve(&self, name: &str) -> anyhow::Result<String> {
        let id = self.git(&[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{name}^{{commit}}"),
        ])?;
        Ok(id.trim().to_owned())
    }

    /// A file as a commit has it; `None` when it has none of that name.
    pub fn read(&self, commit: &str, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        if !self.files(commit)?.iter().any(|file| file == path) {
            return Ok(None);
        }
        let command = self.command(&["cat-file", "blob", &format!("{commit}:{path}")]);
        Ok(Some(run(command, &[])?.stdout))
    }

    /// Paths of all files of a commit.
    pub fn files(&self, commit: &str) -> anyhow::Result<Vec<String>> {
        let listed = self.git(&["ls-tree", "-r", "-z", "--name-only", commit])?;
        Ok(listed.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Ids of the commits from a name back to the beginning, newest first.
    pub fn history(&self, name: &str) -> anyhow::Result<Vec<String>> {
        Ok(self
            .git(&["rev-list", name])?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Runs any other git command in the repository and gives what it printed.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8(
            run(self.command(arguments), &[])?.stdout,
        )?)
    }

    /// A copy with a work tree, for a test that acts as a developer.
    pub fn clone_to(&self, folder: &Path) -> anyhow::Result<()> {
        let mut command = isolated_git();
        command
            .args(["clone", "--quiet"])
            .arg(self.path())
            .arg(folder);
        run(command, &[]).map(|_| ())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = isolated_git();
        command.arg("--git-dir").arg(self.path()).args(arguments);
        command
    }
}

/// A `git` that reads nobody's configuration and asks nothing.
pub fn isolated_git() -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Test Author")
        .env("GIT_AUTHOR_EMAIL", "author@example.com")
        .env("GIT_COMMITTER_NAME", "Test Author")
        .env("GIT_COMMITTER_EMAIL", "author@example.com");
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
    ] {
        command.env_remove(variable);
    }
    command
}

fn run(mut command: Command, input: &[u8]) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("git does not run")?;
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    written.context("git did not read its input")?;
    Ok(output)
}

/// A path as `fast-import` reads it.
fn quoted(path: &str) -> String {
    let mut text = String::from("\"");
    for character in path.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::{Commit, Repository};

    #[test]
    fn a_history_reads_back_as_it_was_written() {
        let mut repository =
            Repository::with_files([("a.txt", "one\n"), ("b/c.txt", "two\n")]).unwrap();
        let second = repository
            .commit(
                Commit::on("main")
                    .message("Second")
                    .write("a.txt", "changed\n")
                    .executable("run me \"now\".sh", "#!/bin/sh\n")
                    .link("link", "a.txt")
                    .delete("b/c.txt"),
            )
            .unwrap();
        assert_eq!(
            repository.head("main").unwrap().as_deref(),
            Some(second.as_str())
        );
        assert_eq!(
            repository.files("main").unwrap(),
            ["a.txt", "link", "run me \"now\".sh"]
        );
        assert_eq!(
            repository.read(&second, "a.txt").unwrap().as_deref(),
            Some(&b"changed\n"[..])
        );
        assert_eq!(repository.read(&second, "b/c.txt").unwrap(), None);
        let modes = repository
            .git(&["ls-tree", "--format=%(objectmode)", "main"])
            .unwrap();
        assert_eq!(modes, "100644\n120000\n100755\n");
        assert_eq!(repository.history("main").unwrap().len(), 2);
    }

    #[test]
    fn the_same_history_has_the_same_commits() {
        let make = || {
            let repository = Repository::with_files([("a", "1")]).unwrap();
            repository.resolve("main").unwrap()
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn branches_start_where_they_are_told_and_merges_have_two_parents() {
        let mut repository = Repository::with_files([("a", "1")]).unwrap();
        let side = repository
            .commit(Commit::on("side").from("main").write("b", "2"))
            .unwrap();
        let main = repository
            .commit(Commit::on("main").write("c", "3"))
            .unwrap();
        repository
            .commit(Commit::on("main").merging("side").write("b", "2"))
            .unwrap();
        let parents = repository
            .git(&["log", "-1", "--format=%P", "main"])
            .unwrap();
        assert_eq!(parents.trim(), format!("{main} {side}"));
        assert_eq!(repository.files("main").unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(Repository::empty().unwrap().resolve("nowhere").is_err());
    }
}
