//! Runs instances as processes of this machine: each a process tree of its own on a port of its own,
//! with a scrubbed environment and a memory limit over the whole tree.

mod leftovers;
mod memory;
mod table;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use agent_runtime::process::{Command, Finished, ProcessError, Running};
use futures::future::BoxFuture;

use super::{End, Launch, LaunchError, Mark, Run, Target};
use crate::{
    ports::{InstancePorts, Port},
    probe::Observation,
};

/// Tells every descendant of an instance which agent's data folder it belongs to.
pub const OWNER_VARIABLE: &str = "AGENTIC_DEPLOYMENT_OWNER";

/// Runs instances as processes.
#[derive(Debug)]
pub struct ProcessTarget {
    ports: InstancePorts,
    owner: String,
}

impl ProcessTarget {
    /// `owner` identifies the agent's data folder.
    pub fn new(ports: InstancePorts, owner: impl Into<String>) -> Self {
        Self {
            ports,
            owner: owner.into(),
        }
    }
}

impl Target for ProcessTarget {
    fn launch<'a>(
        &'a self,
        launch: &'a Launch,
    ) -> BoxFuture<'a, Result<Box<dyn Run>, LaunchError>> {
        Box::pin(async move {
            let port = self.ports.take().map_err(LaunchError::NoPort)?;
            let spec = &launch.spec;
            let running = Command::new(&spec.command)
                .directory(&launch.folder)
                .environments(&spec.environment)
                .environments(launch.secrets.iter().map(|(name, value)| (name, value)))
                .environment(&spec.port_variable, port.number().to_string())
                .environment(OWNER_VARIABLE, &self.owner)
                .sink(launch.log.clone())
                .start()?;
            let group = running.id().cast_signed();
            let start_ticks = table::start_ticks(group).unwrap_or_default();
            Ok(Box::new(ProcessRun {
                running,
                port,
                mark: Mark::Process { group, start_ticks },
                memory_limit: spec.memory_limit,
            }) as Box<dyn Run>)
        })
    }

    fn end_leftovers<'a>(&'a self, marks: &'a [Mark]) -> BoxFuture<'a, usize> {
        Box::pin(leftovers::end(&self.owner, marks))
    }
}

#[derive(Debug)]
struct ProcessRun {
    running: Running,
    port: Port,
    mark: Mark,
    memory_limit: Option<u64>,
}

impl Run for ProcessRun {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    fn ended(&self) -> BoxFuture<'_, End> {
        Box::pin(async move {
            let over_limit = memory::exceeded(self.running.id().cast_signed(), self.memory_limit);
            tokio::select! {
                biased;
                finished = self.running.wait() => end(finished),
                used = over_limit => {
                    let ended = end(self.running.stop(Duration::ZERO).await);
                    End { text: used.to_string(), ..ended }
                }
            }
        })
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, End> {
        Box::pin(async move { end(self.running.stop(grace).await) })
    }

    fn platform_health(&self) -> BoxFuture<'_, Option<Observation>> {
        Box::pin(std::future::ready(None))
    }
}

fn end(finished: Result<Finished, ProcessError>) -> End {
    match finished {
        Ok(finished) => End {
            text: match finished.left_behind_count {
                0 => finished.ending.to_string(),
                count => format!(
                    "{} while {count} of its children ran on: an app must stay in the foreground",
                    finished.ending
                ),
            },
            exit_code: finished.ending.exit_code(),
        },
        Err(error) => End {
            text: error.to_string(),
            exit_code: None,
        },
    }
}
