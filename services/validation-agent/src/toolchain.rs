//! What a tool is: its version and a digest that changes when it does. Knows how to ask, and nothing of what
//! the tools do.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use agent_runtime::process::{Command, find_program};
use sha2::{Digest, Sha256};

/// A tool that does not say its version within this time says nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger programs are told apart by size and time only.
const MAXIMUM_HASHED_BYTES: u64 = 64 * 1024 * 1024;
/// Python modules that are tools of their own.
const PYTHON_TOOLS: &[&str] = &[
    "pytest", "mypy", "flake8", "ruff", "black", "coverage", "pylint", "nose2",
];

/// A tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What it says its version is; empty: it does not say.
    pub version: String,
    /// Digest of where it is, what it is, and what it says.
    pub digest: String,
}

/// What a program is asked, and which program: the tool itself, or another one that decides what it does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    program: Option<&'static str>,
    arguments: Vec<String>,
}

impl Question {
    fn to_itself(arguments: &[&str]) -> Self {
        Self {
            program: None,
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
        }
    }

    fn to(program: &'static str) -> Self {
        Self {
            program: Some(program),
            ..Self::to_itself(&["--version"])
        }
    }
}

/// What was asked already.
#[derive(Debug, Default)]
pub struct Toolchain {
    known: Mutex<HashMap<(PathBuf, SystemTime, Question), String>>,
    digests: Mutex<HashMap<(PathBuf, SystemTime), String>>,
}

impl Toolchain {
    /// The tool that a command runs; none when it is not installed, or a file of the repository itself.
    pub async fn tool(&self, argv: &[String], home: &Path) -> Option<Tool> {
        let program = argv.first()?;
        let path = match Path::new(program) {
            absolute if absolute.is_absolute() => absolute.to_owned(),
            _ if program.contains('/') => return None,
            _ => find_program(program)?,
        };
        let name = program.rsplit('/').next().unwrap_or(program);
        let mut hash = Sha256::new();
        hash.update(path.to_string_lossy().as_bytes());
        hash.update(self.content_digest(&path).await.as_bytes());
        let mut version = String::new();
        for question in questions(name, argv) {
            let said = self.ask(&path, question, home).await;
            hash.update(said.as_bytes());
            if !said.is_empty() {
                version = said;
            }
        }
        Some(Tool {
            version,
            digest: hex::encode(hash.finalize()),
        })
    }

    /// The version of Node, for what it can report.
    pub async fn node(&self, home: &Path) -> Option<(u32, u32)> {
        let tool = self.tool(&["node".to_owned()], home).await?;
        let mut numbers = tool.version.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Whether a Python has a module that says its version.
    pub async fn has_python_module(&self, python: &str, module: &str, home: &Path) -> bool {
        let path = if python.contains('/') {
            Some(PathBuf::from(python))
        } else {
            find_program(python)
        };
        match path {
            Some(path) => !self
                .ask(
                    &path,
                    Question::to_itself(&["-m", module, "--version"]),
                    home,
                )
                .await
                .is_empty(),
            None => false,
        }
    }

    async fn content_digest(&self, path: &Path) -> String {
        let key = (path.to_owned(), modified(path));
        if let Some(digest) = self
            .digests
            .lock()
            .ok()
            .and_then(|digests| digests.get(&key).cloned())
        {
            return digest;
        }
        let path = path.to_owned();
        let digest = match tokio::task::spawn_blocking(move || content_digest(&path)).await {
            Ok(Ok(digest)) => digest,
            // Unreadable, yet runnable: told apart by what it says.
            Ok(Err(_)) | Err(_) => String::new(),
        };
        if let Ok(mut digests) = self.digests.lock() {
            digests.insert(key, digest.clone());
        }
        digest
    }

    async fn ask(&self, path: &Path, question: Question, home: &Path) -> String {
        let modified = modified(path);
        let key = (path.to_owned(), modified, question);
        let known = |known: &Mutex<HashMap<_, String>>| known.lock().ok()?.get(&key).cloned();
        if let Some(version) = known(&self.known) {
            return version;
        }
        let question = &key.2;
        let command = match question.program {
            Some(program) => Command::new([program]),
            None => Command::new([path]),
        };
        let command = question.arguments.iter().fold(command, Command::argument);
        let version = match command.home(home).timeout(PATIENCE).run().await {
            Ok(finished) if finished.is_success() => {
                let said = [finished.stdout.text(), finished.stderr.text()].concat();
                said.lines()
                    .find(|line| line.contains(|c: char| c.is_ascii_digit()))
                    .map_or_else(String::new, |line| line.trim().chars().take(100).collect())
            }
            Ok(_) | Err(_) => String::new(),
        };
        if let Ok(mut known) = self.known.lock() {
            known.insert(key, version.clone());
        }
        version
    }
}

/// In order; the last answer is the version that is shown.
fn questions(name: &str, argv: &[String]) -> Vec<Question> {
    let mut questions = match name {
        "go" => vec![Question::to_itself(&["version"])],
        "cargo" => vec![Question::to("rustc"), Question::to_itself(&["--version"])],
        "npm" | "npx" | "yarn" | "pnpm" => {
            vec![Question::to("node"), Question::to_itself(&["--version"])]
        }
        // Their first argument may be a file to run: what they are is in their digest.
        "sh" | "bash" | "make" | "true" | "false" => Vec::new(),
        _ => vec![Question::to_itself(&["--version"])],
    };
    if name.starts_with("python")
        && let [_, flag, module, ..] = argv
        && flag == "-m"
        && PYTHON_TOOLS.contains(&module.as_str())
    {
        questions.push(Question::to_itself(&["-m", module, "--version"]));
    }
    questions
}

fn content_digest(path: &Path) -> std::io::Result<String> {
    let found = std::fs::metadata(path)?;
    if found.len() > MAXIMUM_HASHED_BYTES {
        let modified = found
            .modified()?
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        return Ok(format!("{} {}", found.len(), modified.as_nanos()));
    }
    Ok(hex::encode(Sha256::digest(std::fs::read(path)?)))
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path)
        .and_then(|found| found.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::Toolchain;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_tool_says_its_version_and_has_a_digest() {
        let home = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::default();
        let git = toolchain
            .tool(&argv(&["git", "status"]), home.path())
            .await
            .unwrap();
        assert!(git.version.starts_with("git version"), "{git:?}");
        let again = toolchain
            .tool(&argv(&["git", "log"]), home.path())
            .await
            .unwrap();
        assert_eq!(git, again);
    }

    #[tokio::test]
    async fn files_of_the_repository_and_missing_programs_are_no_tools() {
        let home = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::default();
        assert_eq!(toolchain.tool(&argv(&["./check"]), home.path()).await, None);
        assert_eq!(
            toolchain
                .tool(&argv(&["no-such-program-1"]), home.path())
                .await,
            None
        );
    }
}
