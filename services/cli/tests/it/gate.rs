//! Where programs of a test wait, so that a test can be in the middle of something without guessing
//! how long it takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const PATIENCE: Duration = Duration::from_mins(1);

// Says who it is, and goes on when the other side hangs up or when there is no gate any more.
const WAIT: &str = r#"
import socket

try:
    gate = socket.socket(socket.AF_UNIX)
    gate.connect("PATH")
    gate.sendall((WHO).encode() + b"\n")
    gate.recv(1)
except OSError:
    pass
"#;

/// Closed from the beginning; open when dropped.
pub struct Gate {
    listener: UnixListener,
    folder: TempDir,
}

impl Gate {
    /// A closed one.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gate-").tempdir()?;
        Ok(Self {
            listener: UnixListener::bind(folder.path().join("gate"))?,
            folder,
        })
    }

    /// Python statements that wait here as `who`, which is a Python expression.
    pub fn python(&self, who: &str) -> String {
        let path = self.folder.path().join("gate");
        let path = path.to_string_lossy();
        WAIT.replace("PATH", &path).replace("WHO", who)
    }

    /// A folder with a `git` that waits here after each push, as `push COMMIT:REFERENCE`.
    pub fn git(&self) -> Result<PathBuf> {
        let real = agent_runtime::process::find_program("git").context("no git")?;
        let wait = self.folder.path().join("wait.py");
        fs::write(
            &wait,
            format!("import sys\n{}", self.python("\"push \" + sys.argv[1]")),
        )?;
        let folder = self.folder.path().join("programs");
        fs::create_dir(&folder)?;
        let program = folder.join("git");
        let (real, wait) = (real.display(), wait.display());
        fs::write(
            &program,
            format!(
                "\
#!/bin/sh
case \" $* \" in
*' push '*) ;;
*) exec {real} \"$@\" ;;
esac
{real} \"$@\"
code=$?
for last; do :; done
python3 {wait} \"$last\"
exit $code
"
            ),
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// Lets programs pass until one comes that is wanted, and keeps that one.
    pub async fn keep(&self, mut is_wanted: impl FnMut(&str) -> bool) -> Result<Kept> {
        let kept = async {
            loop {
                let (mut stream, _) = self.listener.accept().await?;
                let mut who = String::new();
                BufReader::new(&mut stream).read_line(&mut who).await?;
                if is_wanted(who.trim_end()) {
                    return anyhow::Ok(Kept(stream));
                }
            }
        };
        tokio::time::timeout(PATIENCE, kept)
            .await
            .context("nobody came to the gate")?
    }
}

/// A program that waits. It goes on when this is dropped.
pub struct Kept(UnixStream);

impl Kept {
    /// Waits until the program is dead, though nobody let it go.
    pub async fn died(mut self) -> Result<()> {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut byte));
        let count = read.await.context("it still waits")??;
        anyhow::ensure!(count == 0, "it speaks");
        Ok(())
    }
}
