//! Runs the system's `git` for what crosses a repository's border (list, fetch, push), so that people's
//! credential helpers, ssh agents and proxies work as at home. Knows commands and their failures, not caches.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use super::{Error, RepositoryUrl, url::Transport};
use crate::process::leftovers;

/// Most of a command's output that is kept: a listing of some 500 000 references fits.
const STDOUT_LIMIT: u64 = 64 * 1024 * 1024;
/// Most of a command's complaints that is kept; a rejecting hook may be wordy.
const STDERR_LIMIT: u64 = 64 * 1024;
/// Longest part of git's own words in one of our messages.
const DETAIL_LIMIT: usize = 600;

/// Variables that would point git at another repository than the one we name, or widen what it may do
/// (`git rev-parse --local-env-vars`, and those that switch checks off).
const FOREIGN_VARIABLES: [&str; 22] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_EXEC_PATH",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_TRACE",
    "GIT_WORK_TREE",
];

/// How to run git: the program, and how long any one command may take.
#[derive(Clone, Debug)]
pub(super) struct Git {
    pub(super) program: String,
    pub(super) deadline: Duration,
}

/// A finished command.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Finished {
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
}

impl Git {
    /// Runs `git <arguments>` on the bare repository `folder`, talking to `url`. Dropping the future kills
    /// the whole process group.
    pub(super) async fn run<I, A>(
        &self,
        action: &'static str,
        folder: Option<&Path>,
        url: &RepositoryUrl,
        arguments: I,
    ) -> Result<Finished, Error>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(folder);
        command.env("GIT_ALLOW_PROTOCOL", allowed_protocols(url));
        if *url.transport() == Transport::Ssh && !self.has_own_ssh_command().await {
            // A background process that asks on the terminal is stopped for ever.
            command.args(["-c", "core.sshCommand=ssh -o BatchMode=yes"]);
        }
        command.args(arguments);
        self.finish(action, command, None).await
    }

    /// Runs `git <arguments>` on our own bare repository `folder`: no transport, no configuration of the
    /// user or the system, attributes only from `work_tree`, `input` on its standard input.
    pub(super) async fn run_local<I, A>(
        &self,
        action: &'static str,
        folder: &Path,
        work_tree: Option<&Path>,
        arguments: I,
        input: Option<Vec<u8>>,
    ) -> Result<Finished, Error>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let mut command = self.command(Some(folder));
        command
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .args(["-c", "core.attributesFile=/dev/null"]);
        if let Some(work_tree) = work_tree {
            command
                .arg("--work-tree")
                .arg(work_tree)
                .current_dir(work_tree);
        }
        command.args(arguments);
        self.finish(action, command, input).await
    }

    fn command(&self, folder: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        for variable in FOREIGN_VARIABLES {
            command.env_remove(variable);
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GCM_INTERACTIVE", "never")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // Failures are told apart by git's English words.
            .env("LC_ALL", "C")
            .args(["-c", "core.hooksPath=/dev/null"])
            .args(["-c", "core.fsmonitor=false"])
            .args(["-c", "core.askPass=true"])
            .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(["-c", "fetch.recurseSubmodules=false"])
            .args(["-c", "push.recurseSubmodules=no"])
            .args(["-c", "push.gpgSign=false", "-c", "push.followTags=false"])
            .args(["-c", "advice.pushUpdateRejected=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        match folder {
            Some(folder) => {
                command.arg("--git-dir").arg(folder).current_dir(folder);
                command.env(leftovers::FOLDER_VARIABLE, leftovers::place(folder));
            }
            None => {
                command.current_dir("/");
                command.env_remove(leftovers::FOLDER_VARIABLE);
            }
        }
        command
    }

    /// Whether the user configured one: it is then theirs to keep prompts off. (The variable
    /// `GIT_SSH_COMMAND` wins over the configuration by itself.)
    async fn has_own_ssh_command(&self) -> bool {
        let mut configured = self.command(None);
        configured.args(["config", "--get", "core.sshCommand"]);
        match self.finish("config", configured, None).await {
            Ok(finished) => finished.status.success(),
            Err(_) => false,
        }
    }

    async fn finish(
        &self,
        action: &'static str,
        mut command: Command,
        input: Option<Vec<u8>>,
    ) -> Result<Finished, Error> {
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let child = command.spawn().map_err(Error::io(
            "start git (is it installed?), program",
            Path::new(&self.program),
        ))?;
        let mut group = Group(child);
        let stdin = group.0.stdin.take();
        let stdout = group.0.stdout.take();
        let stderr = group.0.stderr.take();
        let work = async {
            let ((), (stdout, cut), (stderr, _), status) = tokio::join!(
                write_all(stdin, input.unwrap_or_default()),
                read_bounded(stdout, STDOUT_LIMIT),
                read_bounded(stderr, STDERR_LIMIT),
                group.0.wait()
            );
            let status = status.map_err(Error::io("wait for", Path::new(&self.program)))?;
            if cut {
                return Err(Error::TooLarge {
                    what: format!("what git {action} printed"),
                    limit: format!("{STDOUT_LIMIT} bytes"),
                });
            }
            Ok(Finished {
                status,
                stdout,
                stderr: String::from_utf8_lossy(&stderr).into_owned(),
            })
        };
        match tokio::time::timeout(self.deadline, work).await {
            Ok(finished) => {
                let finished = finished?;
                tracing::debug!(action, status = %finished.status, "git finished");
                Ok(finished)
            }
            Err(_) => Err(Error::TimedOut {
                action,
                after: self.deadline,
            }),
        }
    }
}

/// A child that is the leader of its process group: transports are children of git, and would outlive it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is none once the child was waited for: then its number may belong to somebody else.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

async fn write_all(stdin: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // A program that does not read says why by its exit.
        let _ = stdin.write_all(&input).await;
    }
}

/// The first `limit` bytes of a stream, and whether there were more.
async fn read_bounded<R: AsyncRead + Unpin>(stream: Option<R>, limit: u64) -> (Vec<u8>, bool) {
    let Some(mut stream) = stream else {
        return (Vec::new(), false);
    };
    let mut kept = Vec::new();
    let _ = (&mut stream).take(limit).read_to_end(&mut kept).await;
    // The rest is read and dropped, so that the command is not stuck on a full pipe.
    let dropped = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    (kept, dropped.is_ok_and(|count| count > 0))
}

fn allowed_protocols(url: &RepositoryUrl) -> &'static str {
    match url.transport() {
        Transport::Local(_) => "file",
        Transport::Http { clear: false } => "https",
        Transport::Http { clear: true } => "http",
        // `url.<base>.insteadOf` of the user may turn one remote scheme into the other.
        Transport::Ssh => "ssh:https",
    }
}

/// Gives a failed border crossing its name, from git's words.
pub(super) fn failure(action: &'static str, url: &RepositoryUrl, finished: &Finished) -> Error {
    let said = finished.stderr.as_str();
    let says = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
    let url_text = url.to_string();
    let detail = detail(said);
    if says(&["detected dubious ownership", "unsafe repository"]) {
        return Error::NotTrusted {
            url: url_text,
            detail,
        };
    }
    if says(&[
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "terminal prompts disabled",
        "Permission denied (",
        "Host key verification failed",
        "Invalid username or",
        "returned error: 401",
        "returned error: 403",
    ]) {
        return Error::AuthenticationFailed {
            url: url_text,
            detail,
        };
    }
    if says(&[
        "Could not resolve host",
        "Temporary failure in name resolution",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "Connection closed",
        "Network is unreachable",
        "No route to host",
        "Operation timed out",
        "Failed to connect",
        "early EOF",
        "unexpected disconnect",
        "the remote end hung up unexpectedly",
        "returned error: 429",
        "returned error: 5",
        "SSL",
        "TLS",
    ]) && !says(&["does not appear to be a git repository"])
    {
        return Error::Unreachable {
            url: url_text,
            detail,
        };
    }
    if says(&[
        "does not appear to be a git repository",
        "not a git repository",
        "repository not found",
        "Repository not found",
        "does not exist",
        "not found",
        "No such file or directory",
    ]) {
        return Error::RepositoryNotFound {
            url: url_text,
            detail,
        };
    }
    Error::Git { action, detail }
}

/// The end of git's words, on one line.
pub(super) fn detail(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    let joined = lines.join("; ");
    let skip = joined.chars().count().saturating_sub(DETAIL_LIMIT);
    let shown: String = joined
        .chars()
        .skip(skip)
        .filter(|c| !c.is_control())
        .collect();
    if shown.is_empty() {
        "no message".to_owned()
    } else {
        shown
    }
}
