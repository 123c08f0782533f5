//! Runs the real binary in an environment of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

// Nothing here takes a tenth of it; a command that hangs is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Standard output as JSON, line by line.
    pub fn json(&self) -> Result<Vec<serde_json::Value>> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}

/// The command, not started yet.
pub fn agentic(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentic"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("USER", "tester")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn end(mut command: Command) -> Result<Ended> {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("the command hangs")??;
    Ok(Ended {
        code: output.status.code().context("killed by a signal")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Runs the command with these arguments against a mesh.
pub async fn run<A: AsRef<OsStr>>(url: &str, arguments: &[A]) -> Result<Ended> {
    let home = tempfile::tempdir()?;
    let mut command = agentic(home.path());
    command.args(["--orchestrator", url]).args(arguments);
    end(command).await
}

/// A command that runs while the test goes on.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _home: tempfile::TempDir,
}

impl Running {
    /// Starts it.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut child = agentic(home.path()).args(arguments).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            lines: BufReader::new(out).lines(),
            _home: home,
        })
    }

    /// The next line of standard output.
    pub async fn line(&mut self) -> Result<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .context("no line came")??
            .context("the output ended")
    }

    /// Process id.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id().context("it has ended")?)?)
    }

    /// Waits for its end; `out` has what was not read as lines.
    pub async fn end(mut self) -> Result<Ended> {
        let ended = async {
            let mut out = String::new();
            while let Some(line) = self.lines.next_line().await? {
                out.push_str(&line);
                out.push('\n');
            }
            let mut err = String::new();
            if let Some(mut stream) = self.child.stderr.take() {
                stream.read_to_string(&mut err).await?;
            }
            let code = self.child.wait().await?.code();
            Ok(Ended {
                code: code.context("killed by a signal")?,
                out,
                err,
            })
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .context("the command hangs")?
    }
}
