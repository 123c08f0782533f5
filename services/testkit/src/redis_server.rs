//! A Redis server of a test's own: on a socket in a folder of the test's, and nowhere else. Forgets everything when it ends.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::requirement::peer_program;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// The server; dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    // A full pipe would stop it.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl RedisServer {
    /// Starts one that asks for this password, and waits until it is ready. Its socket is `redis.sock` in the folder.
    pub async fn start(folder: &Path, password: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(peer_program("redis-server"))
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", password, "--unixsocket", "redis.sock"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("ready to accept connections") {
                    return Ok(());
                }
            }
            anyhow::bail!("Redis ended")
        };
        timeout(READY_WITHIN, ready).await??;
        Ok(Self {
            child,
            _lines: lines,
        })
    }

    /// Where the server of a folder is called, whether it is there or not.
    pub fn url(folder: &Path) -> String {
        format!("redis+unix://{}", folder.join("redis.sock").display())
    }

    /// Its process; `None`: it has ended.
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
