//! Whether this agent can do work at all: it cannot where its disk takes no writes. Tries it instead
//! of reading numbers, since quotas, read-only mounts and file size limits are not in them.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::tasks::Tasks;

const EVERY: Duration = Duration::from_secs(5);
// A disk that takes longer does not answer.
const WITHIN: Duration = Duration::from_secs(10);
// What the smallest attempt that says anything may need.
const PROBE_BYTES: usize = 256 * 1024;

/// Tries the folder of the attempts until the token is cancelled, and tells the task table.
pub(crate) async fn watch<A: Agent>(
    folder: PathBuf,
    tasks: Arc<Tasks<A>>,
    stop: CancellationToken,
) {
    loop {
        let probe = folder.join(".probe");
        let tried = tokio::task::spawn_blocking(move || write(&probe));
        let reason = match tokio::time::timeout(WITHIN, tried).await {
            Ok(Ok(Ok(()))) => String::new(),
            Ok(Ok(Err(error))) => format!("its data folder takes no writes: {error}"),
            Ok(Err(_)) | Err(_) => {
                let seconds = WITHIN.as_secs();
                format!("its data folder did not take a write within {seconds} s")
            }
        };
        if reason != tasks.unfit() {
            if reason.is_empty() {
                tracing::info!("the data folder takes writes again");
            } else {
                tracing::error!(reason, "no work can be done here");
            }
            tasks.set_unfit(reason);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn write(probe: &Path) -> io::Result<()> {
    let written = File::create(probe).and_then(|mut file| file.write_all(&vec![0; PROBE_BYTES]));
    // Whatever was written takes room that work needs.
    match std::fs::remove_file(probe) {
        Err(error) if written.is_ok() => Err(error),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_writes_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join(".probe")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_takes_none_is_found_out() {
        let error = write(Path::new("/proc/.probe")).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
