//! Ends what an agent that was killed left running. Nobody could end it then; the next agent on the same
//! folders does, by the folder that every descendant of a run carries in its environment, however it
//! detached itself. Knows nothing of what ran there.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::tree;

/// Where a run was started. Its descendants keep it when they change their directory.
pub(crate) const FOLDER_VARIABLE: &str = "AGENTIC_PROCESS_FOLDER";

/// How long they may take to end by themselves: git, for one, removes its locks.
const GRACE: Duration = Duration::from_secs(2);
/// How long killed processes may take to disappear.
const DISAPPEAR_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A folder as it is compared: the same however it was reached.
pub(crate) fn place(folder: &Path) -> PathBuf {
    folder
        .canonicalize()
        .or_else(|_| std::path::absolute(folder))
        .unwrap_or_else(|_| folder.to_owned())
}

/// Ends every process that was started in one of the folders or below, and says how many there were.
/// Must not be called while somebody runs anything there that is to stay.
pub(crate) async fn end(folders: &[&Path]) -> usize {
    let folders: Vec<_> = folders.iter().map(|folder| place(folder)).collect();
    let begun = Instant::now();
    let mut ended = HashSet::new();
    loop {
        let found = find(&folders);
        if found.is_empty() || begun.elapsed() > GRACE + DISAPPEAR_WITHIN {
            if !found.is_empty() {
                tracing::error!(?found, "leftover processes survive SIGKILL");
            }
            return ended.len();
        }
        let is_over = begun.elapsed() > GRACE;
        for process in found {
            let is_new = ended.insert(process);
            let pid = Pid::from_raw(process.0);
            // Gone meanwhile is as good as ended.
            if is_over {
                let _ = kill(pid, Signal::SIGKILL);
            } else if is_new {
                let _ = kill(pid, Signal::SIGTERM);
                // A stopped process would never see the request.
                let _ = kill(pid, Signal::SIGCONT);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn find(folders: &[PathBuf]) -> Vec<tree::Identity> {
    let own = std::process::id().cast_signed();
    tree::processes()
        .into_iter()
        .filter(|(pid, _)| *pid != own)
        .filter(|(pid, _)| {
            tree::variables(*pid, FOLDER_VARIABLE)
                .unwrap_or_default()
                .iter()
                .any(|value| {
                    let at = Path::new(OsStr::from_bytes(value));
                    folders.iter().any(|folder| at.starts_with(folder))
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::{super::Command, end, find, place};

    // As a killed agent leaves it: nobody watches it any more, and it does not want to go.
    async fn stray(folder: &TempDir) {
        let script = "trap '' TERM; (cd / && setsid sh -c 'trap \"\" TERM; touch \"$0\"; sleep 300' \"$0\") & sleep 300";
        let sign = folder.path().join("sign");
        let running = Command::new(["sh", "-c", script])
            .argument(&sign)
            .directory(folder.path())
            .start()
            .unwrap();
        std::mem::forget(running);
        while !sign.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_was_left_in_a_folder_is_ended_and_nothing_else() {
        let ours = TempDir::new().unwrap();
        let other = TempDir::new().unwrap();
        stray(&ours).await;
        stray(&other).await;
        assert!(end(&[ours.path()]).await >= 4);
        assert_eq!(find(&[place(ours.path())]), []);
        let others = find(&[place(other.path())]);
        assert!(others.len() >= 4, "{others:?}");
        assert!(end(&[other.path()]).await >= 4);
    }

    #[tokio::test]
    async fn a_folder_with_nothing_left_and_a_missing_one_are_fine() {
        let folder = TempDir::new().unwrap();
        assert_eq!(
            end(&[folder.path(), &folder.path().join("missing")]).await,
            0
        );
    }
}
