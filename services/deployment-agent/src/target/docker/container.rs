//! One container from its start to its removal.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_runtime::process::{LogStream, MAX_LINE_BYTES, OutputSink as _};
use bollard::{
    Docker,
    container::LogOutput,
    errors::Error as DockerError,
    models::{ContainerState, HealthStatusEnum},
    query_parameters::{
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
        WaitContainerOptionsBuilder,
    },
};
use futures::{StreamExt as _, future::BoxFuture};
use service_runtime::redaction;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    instance_log::InstanceLog,
    probe::{Observation, Outcome},
    target::{End, Mark, Run},
};

/// How long the rest of a log may take to arrive after the container is over.
const LOG_WITHIN: Duration = Duration::from_secs(5);
/// How long an engine may take to remove a container.
const REMOVE_WITHIN: Duration = Duration::from_secs(20);
/// Pause before asking an engine again that broke off while it was waited for.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A container that was made; dropping it removes it, whatever it does.
#[derive(Debug)]
pub(super) struct Made {
    docker: Docker,
    id: String,
    tracker: TaskTracker,
}

impl Made {
    pub(super) fn new(docker: Docker, id: String, tracker: TaskTracker) -> Self {
        Self {
            docker,
            id,
            tracker,
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let (docker, id) = (self.docker.clone(), self.id.clone());
        self.tracker
            .spawn(async move { remove(&docker, &id).await });
    }
}

/// A container that was started.
#[derive(Debug)]
pub(super) struct Container {
    made: Made,
    address: SocketAddr,
    /// Told by the task that watches it, so that any number may wait for it.
    end: watch::Receiver<Option<End>>,
}

impl Container {
    /// Watches a started container: copies its log, and tells how it ended.
    pub(super) fn watched(
        made: Made,
        address: (IpAddr, u16),
        memory_limit: Option<u64>,
        log: Arc<InstanceLog>,
    ) -> Self {
        let (publish, end) = watch::channel(None);
        let (docker, id) = (made.docker.clone(), made.id.clone());
        made.tracker.spawn(async move {
            let mut following = pin!(follow(docker.clone(), id.clone(), log));
            let mut over = pin!(over(&docker, &id, memory_limit));
            let end = tokio::select! {
                end = &mut over => {
                    // The follower ends by itself when the container is over.
                    if tokio::time::timeout(LOG_WITHIN, following).await.is_err() {
                        tracing::warn!(%id, "the end of a container's log did not arrive");
                    }
                    end
                }
                () = &mut following => over.await,
            };
            publish.send_replace(Some(end));
        });
        Self {
            made,
            address: address.into(),
            end,
        }
    }

    async fn end(&self) -> End {
        let mut end = self.end.clone();
        let told = end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone());
        remove(&self.made.docker, &self.made.id).await;
        told.unwrap_or_else(|| End {
            text: "it was abandoned because the agent is shutting down".to_owned(),
            exit_code: None,
        })
    }
}

/// Waits until a container is over, and looks at how.
async fn over(docker: &Docker, id: &str, memory_limit: Option<u64>) -> End {
    loop {
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let waited = docker.wait_container(id, Some(options)).next().await;
        match docker.inspect_container(id, None).await {
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                if !state.running.unwrap_or_default() {
                    return end_of(&state, memory_limit);
                }
            }
            Err(DockerError::DockerResponseServerError {
                status_code: 404, ..
            }) => {
                let text = "somebody removed the container".to_owned();
                return End {
                    text,
                    exit_code: None,
                };
            }
            Err(error) => tracing::debug!(%id, %error, ?waited, "asking the engine again"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn end_of(state: &ContainerState, memory_limit: Option<u64>) -> End {
    let exit_code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    let is_over_memory = state.oom_killed.unwrap_or_default();
    let text = match (is_over_memory, memory_limit, exit_code) {
        (true, Some(limit), _) => {
            format!("memory limit of {} MiB exceeded", limit / (1024 * 1024))
        }
        (true, None, _) => "the machine ran out of memory".to_owned(),
        (false, _, Some(code)) => format!("exit code {code}"),
        (false, _, None) => state
            .error
            .clone()
            .unwrap_or_else(|| "it is gone".to_owned()),
    };
    End { text, exit_code }
}

impl Run for Container {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn mark(&self) -> Mark {
        Mark::Container {
            id: self.made.id.clone(),
        }
    }

    fn ended(&self) -> BoxFuture<'_, End> {
        Box::pin(self.end())
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, End> {
        Box::pin(async move {
            let seconds = i32::try_from(grace.as_secs_f64().ceil() as i64).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::default().t(seconds).build();
            if let Err(error) = self
                .made
                .docker
                .stop_container(&self.made.id, Some(options))
                .await
            {
                // Over already, or the engine is away: how it ended is asked next.
                tracing::debug!(id = %self.made.id, %error, "cannot stop a container");
            }
            self.end().await
        })
    }

    fn platform_health(&self) -> BoxFuture<'_, Option<Observation>> {
        Box::pin(async move {
            let started = Instant::now();
            let found = self
                .made
                .docker
                .inspect_container(&self.made.id, None)
                .await;
            let health = found.ok().and_then(|found| found.state?.health);
            let (outcome, error) = match health.as_ref().and_then(|health| health.status) {
                Some(HealthStatusEnum::HEALTHY) => (Outcome::Pass, None),
                Some(HealthStatusEnum::UNHEALTHY) => (
                    Outcome::Fail,
                    Some("is unhealthy by its own health check".to_owned()),
                ),
                Some(HealthStatusEnum::STARTING) => {
                    (Outcome::NoData, Some("has not been checked yet".to_owned()))
                }
                Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) | None => (
                    Outcome::NoData,
                    Some("has no health check of its own".to_owned()),
                ),
            };
            let last = health.and_then(|health| health.log?.pop()?.output);
            Some(Observation {
                url: format!(
                    "health check of container {}",
                    self.made.id.get(..12).unwrap_or(&self.made.id)
                ),
                outcome,
                status: None,
                latency: started.elapsed(),
                error,
                body: last.unwrap_or_default(),
            })
        })
    }
}

/// Removes a container. A busy engine may refuse at first, so it is asked again for a while.
async fn remove(docker: &Docker, id: &str) {
    let until = Instant::now() + REMOVE_WITHIN;
    loop {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        match docker.remove_container(id, Some(options)).await {
            Ok(())
            | Err(DockerError::DockerResponseServerError {
                status_code: 404, ..
            }) => return,
            Err(error) if Instant::now() >= until => {
                tracing::warn!(%id, %error, "cannot remove a container");
                return;
            }
            Err(error) => tracing::debug!(%id, %error, "asking again to remove a container"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Copies what a container prints into the instance's log, line by line.
async fn follow(docker: Docker, id: String, log: Arc<InstanceLog>) {
    let options = LogsOptionsBuilder::default()
        .follow(true)
        .stdout(true)
        .stderr(true)
        .build();
    let mut output = docker.logs(&id, Some(options));
    let mut partial = [Vec::new(), Vec::new()];
    // Before a line that is too long is cut, lest a secret be.
    let mut cleaning = [redaction::process().stream(), redaction::process().stream()];
    while let Some(piece) = output.next().await {
        let (stream, bytes) = match piece {
            Ok(LogOutput::StdErr { message }) => (LogStream::Stderr, message),
            Ok(
                LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message },
            ) => (LogStream::Stdout, message),
            Err(error) => {
                tracing::debug!(%id, %error, "a container's log broke off");
                break;
            }
        };
        let place = usize::from(stream == LogStream::Stderr);
        let line = &mut partial[place];
        line.append(&mut cleaning[place].lines(&bytes));
        while let Some(end) = memchr::memchr(b'\n', line) {
            let rest = line.split_off(end + 1);
            let whole = std::mem::replace(line, rest);
            log.line(
                stream,
                String::from_utf8_lossy(&whole).trim_end_matches(['\r', '\n']),
            )
            .await;
        }
        if line.len() > MAX_LINE_BYTES {
            let piece = std::mem::take(line);
            log.line(stream, &String::from_utf8_lossy(&piece)).await;
        }
    }
    for (place, stream) in [LogStream::Stdout, LogStream::Stderr]
        .into_iter()
        .enumerate()
    {
        let rest = &mut partial[place];
        rest.append(&mut cleaning[place].finish());
        if !rest.is_empty() {
            log.line(stream, &String::from_utf8_lossy(rest)).await;
        }
    }
}
