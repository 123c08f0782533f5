//! `agentic up --detach`: the same program again, in a session of its own, and a parent that waits
//! until it is ready.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::file::Lock;
use crate::output::{Output, clean_text};

// A log this large begins anew; the one before is kept.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
// What is shown of a log when the start failed.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;
// The mesh bounds its start itself; this much later it is taken for stuck.
const MARGIN: Duration = Duration::from_secs(30);

/// Starts the mesh in the background and waits until it is ready.
pub async fn detach(data: &Path, ready_within: Duration, output: &Output) -> Result<Exit, Error> {
    // Only to say who is there; the mesh itself takes the lock.
    drop(Lock::take(data)?);
    let (path, log) = open_log(data)?;
    let begin = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = start(log)?;
    let ready = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            end(&mut child).await;
            return Err(Error::Interrupted("interrupted; the mesh was stopped again".to_owned()));
        }
        ready = tokio::time::timeout(ready_within + MARGIN, first_line(&mut child)) => ready,
    };
    match ready {
        Ok(Some(line)) => tell(&line, &path, output),
        Ok(None) => {
            let status = child.wait().await.ok();
            Err(failed(status, &path, begin))
        }
        Err(_) => {
            end(&mut child).await;
            Err(failed(None, &path, begin))
        }
    }
}

/// Leaves the terminal that started the parent, so that its end does not end the mesh.
pub fn leave_terminal() -> Result<(), Error> {
    nix::unistd::setsid()
        .map(drop)
        .map_err(|error| Error::System {
            doing: "cannot leave the terminal",
            source: error.into(),
        })
}

fn open_log(data: &Path) -> Result<(PathBuf, File), Error> {
    let path = data.join("logs").join("up.log");
    let failed = |source| Error::File {
        doing: "cannot write",
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(data.join("logs")).map_err(failed)?;
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        std::fs::rename(&path, path.with_extension("log.1")).map_err(failed)?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(failed)?;
    Ok((path, log))
}

// The same arguments again; its one line of output is how it says that it is ready.
fn start(log: File) -> Result<Child, Error> {
    let failed = |source| Error::System {
        doing: "cannot start the mesh",
        source,
    };
    let program = std::env::current_exe().map_err(failed)?;
    Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)
}

async fn first_line(child: &mut Child) -> Option<String> {
    let out = child.stdout.take()?;
    BufReader::new(out).lines().next_line().await.ok().flatten()
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let _ = tokio::time::timeout(MARGIN, child.wait()).await;
}

fn tell(line: &str, log: &Path, output: &Output) -> Result<Exit, Error> {
    if output.is_json() {
        output.line(line)?;
        return Ok(Exit::Succeeded);
    }
    let ready: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| Error::Failed(format!("the mesh said {line:?}: {error}")))?;
    super::ready::show(&ready, output)?;
    output.note(format!("log:  {}", log.display()));
    output.note(super::TRY);
    output.note("stop: agentic down");
    Ok(Exit::Succeeded)
}

fn failed(status: Option<ExitStatus>, log: &Path, begin: u64) -> Error {
    let tail = tail(log, begin).unwrap_or_default();
    let message = format!(
        "the mesh did not start; its log {} says:\n{}",
        log.display(),
        clean_text(&tail)
    );
    let configuration = i32::from(Exit::Configuration.code());
    if status.and_then(|status| status.code()) == Some(configuration) {
        Error::Configuration(message)
    } else {
        Error::Failed(message)
    }
}

fn tail(log: &Path, begin: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        begin.max(length.saturating_sub(TAIL_BYTES)),
    ))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
