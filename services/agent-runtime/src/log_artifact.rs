//! Keeps the whole log of an attempt as one artifact, so that it can be read after the fact.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufWriter};

use contracts::task::{LogStream, task_event};
use contracts::{LOG_ARTIFACT, LOG_ARTIFACT_OWN};

use crate::reporter::Reporter;

// The verdict must not wait for a slow store; the lines were streamed already.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stores the log of the attempt, if it said anything. Failure is logged: the verdict does not
/// hang on it.
pub(crate) async fn keep(reporter: &Reporter, folder: &Path) {
    let path = folder.join(LOG_ARTIFACT);
    let stored = tokio::time::timeout(PATIENCE, async {
        if write(reporter, &path)
            .await
            .map_err(|error| error.to_string())?
        {
            reporter
                .artifact_file(LOG_ARTIFACT, "text/plain; charset=utf-8", &path)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    })
    .await
    .unwrap_or_else(|_| Err("the artifact store did not answer in time".to_owned()));
    if let Err(error) = stored {
        tracing::warn!(error, "the log of the task was not kept");
    }
}

// False: there was nothing to write.
async fn write(reporter: &Reporter, path: &Path) -> anyhow::Result<bool> {
    let mut file = None;
    let mut after = 0;
    loop {
        let events = reporter.read(after)?;
        let Some(last) = events.last() else { break };
        after = last.sequence;
        for event in events {
            let Some(task_event::Payload::Log(log)) = event.payload else {
                continue;
            };
            let file = match &mut file {
                Some(file) => file,
                none => none.insert(BufWriter::new(tokio::fs::File::create(path).await?)),
            };
            let mark = if log.stream == i32::from(LogStream::Agent) {
                LOG_ARTIFACT_OWN
            } else {
                ""
            };
            file.write_all(format!("{mark}{}\n", log.text).as_bytes())
                .await?;
        }
    }
    match file {
        Some(mut file) => {
            file.flush().await?;
            Ok(true)
        }
        None => Ok(false),
    }
}
