//! The running server: a `postgres` under a small supervisor that ends it when this process ends.
//! It knows how the server is started, told to stop and watched, and nothing of how its cluster came to be.

use std::{
    fs,
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    Durability, Options,
    account::Account,
    binaries::Binaries,
    error::Error,
    layout::{Layout, Socket},
    leftover::signal,
    log,
};

/// The server tells of its readiness in a file only.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// After a fast stop failed, an immediate one gets this long.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(10);

/// Settings that hold whatever stands in the cluster's own files. One application's store on a small machine.
const SETTINGS: [(&str, &str); 19] = [
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("cluster_name", "agentic"),
    ("shared_buffers", "64MB"),
    ("maintenance_work_mem", "32MB"),
    ("effective_cache_size", "512MB"),
    ("max_wal_size", "512MB"),
    ("checkpoint_timeout", "15min"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("random_page_cost", "1.1"),
    // Short statements only: neither pays for itself, and workers need shared memory that containers do not give.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("huge_pages", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
];

/// A ready server.
#[derive(Debug)]
pub(super) struct Server {
    process_id: u32,
    // Its closing is what stops the server.
    lifeline: OwnedFd,
    supervisor: Child,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(super) async fn start(
        layout: &Layout,
        socket: &Socket,
        binaries: &Binaries,
        account: Option<&Account>,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut supervisor = command(layout, socket, binaries, account, options)?
            .spawn()
            .map_err(|source| Error::Run {
                program: "/bin/sh".into(),
                source,
            })?;
        let lifeline = supervisor
            .stdin
            .take()
            .ok_or_else(|| std::io::Error::other("the supervisor has no standard input"))
            .and_then(tokio::process::ChildStdin::into_owned_fd)
            .map_err(|source| Error::Run {
                program: "/bin/sh".into(),
                source,
            })?;

        let deadline = Instant::now() + options.start_within;
        loop {
            if let Some(process_id) = ready_process(layout.cluster()) {
                return Ok(Self {
                    process_id,
                    lifeline,
                    supervisor,
                });
            }
            if let Some(status) = supervisor.try_wait().map_err(Error::Wait)? {
                return Err(ended(status, layout));
            }
            if Instant::now() >= deadline {
                drop(lifeline);
                let log = layout.log_file();
                let tail = log::tail(&log);
                return Err(Error::NotReady {
                    within: options.start_within,
                    log,
                    tail,
                });
            }
            sleep(ASK_EVERY).await;
        }
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Waits for an end that nobody asked for.
    pub(super) async fn ended(&mut self, layout: &Layout) -> Error {
        match self.supervisor.wait().await {
            Ok(status) => ended(status, layout),
            Err(source) => Error::Wait(source),
        }
    }

    /// Stops the server fast, or immediately when that takes too long.
    pub(super) async fn stop(self, layout: &Layout, within: Duration) -> Result<(), Error> {
        let Self {
            process_id,
            lifeline,
            mut supervisor,
        } = self;
        drop(lifeline);
        if let Ok(ended) = timeout(within, supervisor.wait()).await {
            return ended.map(|_| ()).map_err(Error::Wait);
        }
        signal(process_id, Signal::SIGQUIT, layout.cluster())?;
        timeout(IMMEDIATE_WITHIN, supervisor.wait())
            .await
            .map_err(|_| Error::NotStopped {
                process_id,
                within: within + IMMEDIATE_WITHIN,
            })?
            .map(|_| ())
            .map_err(Error::Wait)
    }
}

fn command(
    layout: &Layout,
    socket: &Socket,
    binaries: &Binaries,
    account: Option<&Account>,
    options: &Options,
) -> Result<Command, Error> {
    let path = layout.log_file();
    let log = log::open(&path).map_err(Error::folder("open", &path))?;
    let errors = log.try_clone().map_err(Error::folder("open", &path))?;

    let mut command = Command::new("/bin/sh");
    command.args(["-c", include_str!("supervise.sh"), "agentic-postgres"]);
    command.arg(socket.to_remove().unwrap_or(Path::new("")));
    match options.durability {
        Durability::Durable => command.arg(""),
        Durability::Disposable => {
            if let Some(account) = account {
                account.own(layout.folder())?;
            }
            command.arg(layout.folder())
        }
    };
    command
        .arg(binaries.program("postgres"))
        .arg("-D")
        .arg(layout.cluster());
    for (name, value) in SETTINGS {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let flushed = match options.durability {
        Durability::Durable => "on",
        Durability::Disposable => "off",
    };
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        command.arg("-c").arg(format!("{name}={flushed}"));
    }
    command
        .arg("-c")
        .arg(format!("max_connections={}", options.connections_limit));
    command.arg("-k").arg(socket.path());
    if let Some(account) = account {
        account.lend_to(&mut command);
    }
    command
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(errors)
        // Out of the terminal's foreground group: Ctrl-C is for us, who still need the server while we drain.
        .process_group(0);
    Ok(command)
}

/// The server's process id once its file says `ready` in its eighth line, which is how `pg_ctl` knows.
fn ready_process(cluster: &Path) -> Option<u32> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let process_id = lines.next()?.trim().parse().ok()?;
    (lines.nth(6)?.trim() == "ready").then_some(process_id)
}

fn ended(status: ExitStatus, layout: &Layout) -> Error {
    let log = layout.log_file();
    let tail = log::tail(&log);
    Error::Ended {
        status: status.to_string(),
        log,
        tail,
    }
}
