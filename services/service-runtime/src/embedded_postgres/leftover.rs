//! Ends a server that an earlier process of ours left running in the cluster's folder, and removes the process-id file of one that
//! is gone. A process counts as the cluster's only if it is a `postgres` that works in that very folder: the number in a stale file
//! may belong to anybody by now.

use std::{fs, io, path::Path, time::Duration};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::error::Error;

/// The end of a process that is not our child cannot be awaited, only asked for.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// After this an immediate stop has failed too.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(10);

/// Stops what runs in the cluster's folder: fast first, immediate after `within`.
pub(super) async fn stop(cluster: &Path, within: Duration) -> Result<(), Error> {
    if !cluster.exists() {
        return Ok(());
    }
    let processes = processes_in(cluster);
    if !processes.is_empty() {
        warn!(folder = %cluster.display(), ?processes, "stopping the server that an earlier process left behind");
        match server_in(cluster).filter(|server| processes.contains(server)) {
            Some(server) => signal(server, Signal::SIGINT, cluster)?,
            // Without their server the others have nothing to finish.
            None => signal_all(&processes, Signal::SIGQUIT, cluster)?,
        }
        if !gone(cluster, within).await {
            signal_all(&processes_in(cluster), Signal::SIGQUIT, cluster)?;
            if !gone(cluster, IMMEDIATE_WITHIN).await {
                let process_id = processes_in(cluster).first().copied().unwrap_or_default();
                return Err(Error::NotStopped {
                    process_id,
                    within: within + IMMEDIATE_WITHIN,
                });
            }
        }
    }
    let file = cluster.join("postmaster.pid");
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::folder("remove", file)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The server's process id, as its file says.
fn server_in(cluster: &Path) -> Option<u32> {
    fs::read_to_string(cluster.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

async fn gone(cluster: &Path, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while !processes_in(cluster).is_empty() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(ASK_EVERY).await;
    }
    true
}

fn signal_all(processes: &[u32], signal_number: Signal, cluster: &Path) -> Result<(), Error> {
    processes
        .iter()
        .try_for_each(|process| signal(*process, signal_number, cluster))
}

/// Sends a signal; a process that is gone has had its due.
pub(super) fn signal(process_id: u32, signal_number: Signal, cluster: &Path) -> Result<(), Error> {
    match kill(Pid::from_raw(process_id.cast_signed()), signal_number) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(source) => Err(Error::Leftover {
            process_id,
            folder: cluster.to_path_buf(),
            source,
        }),
    }
}

/// Processes of PostgreSQL whose working folder is the cluster.
#[cfg(target_os = "linux")]
fn processes_in(cluster: &Path) -> Vec<u32> {
    let Ok(cluster) = cluster.canonicalize() else {
        return Vec::new();
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process_id = entry.file_name().to_str()?.parse().ok()?;
            // Processes that ended meanwhile, and those of others, have no readable links.
            let folder = fs::read_link(entry.path().join("cwd")).ok()?;
            let program = fs::read_link(entry.path().join("exe")).ok()?;
            (folder == cluster && is_postgres(&program)).then_some(process_id)
        })
        .collect()
}

/// Processes of PostgreSQL whose working folder is the cluster: where the system does not tell, the server alone, by its command
/// line; its own children end with it.
#[cfg(not(target_os = "linux"))]
fn processes_in(cluster: &Path) -> Vec<u32> {
    let Some(server) = server_in(cluster) else {
        return Vec::new();
    };
    let Ok(output) = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &server.to_string()])
        .output()
    else {
        return Vec::new();
    };
    let command = String::from_utf8_lossy(&output.stdout);
    let program = Path::new(command.split_whitespace().next().unwrap_or_default());
    if is_postgres(program) && command.contains(&*cluster.to_string_lossy()) {
        vec![server]
    } else {
        Vec::new()
    }
}

fn is_postgres(program: &Path) -> bool {
    // A package that was updated while the server ran leaves `postgres (deleted)`.
    program
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name == "postgres" || name == "postgres (deleted)")
}

#[cfg(test)]
mod tests {
    use std::{fs, process, time::Duration};

    use super::{processes_in, stop};

    #[tokio::test]
    async fn a_process_that_is_no_postgres_is_left_alone_and_the_stale_file_removed() {
        let cluster = tempfile::tempdir().unwrap();
        let mut bystander = process::Command::new("sleep")
            .arg("60")
            .current_dir(cluster.path())
            .spawn()
            .unwrap();
        let file = cluster.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n", bystander.id())).unwrap();

        stop(cluster.path(), Duration::from_secs(1)).await.unwrap();

        assert!(
            bystander.try_wait().unwrap().is_none(),
            "the bystander was ended"
        );
        assert!(!file.exists());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    #[test]
    fn nothing_runs_in_an_empty_folder() {
        assert!(processes_in(tempfile::tempdir().unwrap().path()).is_empty());
    }
}
