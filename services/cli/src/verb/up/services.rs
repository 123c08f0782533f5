//! The services of the mesh as tasks of this process: started, watched, and stopped in order,
//! agents before the orchestrator that they report to.

use std::fmt::Display;
use std::future::Future;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

type Ended = (&'static str, Result<(), String>);

/// What runs.
#[derive(Debug, Default)]
pub struct Services {
    agents: JoinSet<Ended>,
    orchestrator: JoinSet<Ended>,
    stop_agents: CancellationToken,
    stop_orchestrator: CancellationToken,
}

impl Services {
    /// Cancelled when the agents are to stop.
    pub fn stop_agents(&self) -> CancellationToken {
        self.stop_agents.clone()
    }

    /// Cancelled when the orchestrator is to stop.
    pub fn stop_orchestrator(&self) -> CancellationToken {
        self.stop_orchestrator.clone()
    }

    /// Runs an agent.
    pub fn agent<E: std::error::Error + 'static>(
        &mut self,
        name: &'static str,
        serving: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.agents.spawn(named(name, serving));
    }

    /// Runs the orchestrator.
    pub fn orchestrator<E: std::error::Error + 'static>(
        &mut self,
        serving: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.orchestrator.spawn(named("orchestrator", serving));
    }

    /// Waits until one ends though nobody stopped it, and says why. Cancel safe.
    pub async fn ended(&mut self) -> Error {
        let ended = tokio::select! {
            biased;
            Some(ended) = self.orchestrator.join_next() => ended,
            Some(ended) = self.agents.join_next() => ended,
            else => return std::future::pending().await,
        };
        match told(ended) {
            Ok(name) => Error::Failed(format!("the {name} service ended by itself")),
            Err(error) => error,
        }
    }

    /// Stops the agents, then the orchestrator; each bounds its own time.
    pub async fn stop(mut self) -> Result<(), Error> {
        let mut first = Ok(());
        self.stop_agents.cancel();
        while let Some(ended) = self.agents.join_next().await {
            first = first.and(told(ended).map(drop));
        }
        self.stop_orchestrator.cancel();
        while let Some(ended) = self.orchestrator.join_next().await {
            first = first.and(told(ended).map(drop));
        }
        first
    }
}

async fn named<E: std::error::Error + 'static>(
    name: &'static str,
    serving: impl Future<Output = Result<(), E>>,
) -> Ended {
    let ended = Box::pin(serving).await;
    (name, ended.map_err(|error| crate::chain(&error)))
}

fn told(ended: Result<Ended, JoinError>) -> Result<&'static str, Error> {
    let failed = |name: &str, problem: &dyn Display| Error::Failed(format!("{name}: {problem}"));
    match ended {
        Ok((name, Ok(()))) => Ok(name),
        Ok((name, Err(problem))) => Err(failed(name, &problem)),
        Err(error) => Err(failed("a service", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_by_itself_is_named_with_its_reason() {
        let mut services = Services::default();
        services.agent("idle", std::future::pending::<Result<(), std::io::Error>>());
        services.orchestrator(async { Err(std::io::Error::other("no disk")) });
        assert_eq!(services.ended().await.to_string(), "orchestrator: no disk");
        services.agent("hasty", async { Ok::<_, std::io::Error>(()) });
        let ended = services.ended().await.to_string();
        assert_eq!(ended, "the hasty service ended by itself");
    }

    #[tokio::test]
    async fn agents_stop_before_the_orchestrator() {
        let mut services = Services::default();
        let orchestrator_stop = services.stop_orchestrator();
        let stop = services.stop_agents();
        services.agent("agent", async move {
            stop.cancelled().await;
            if orchestrator_stop.is_cancelled() {
                return Err(std::io::Error::other("the orchestrator went first"));
            }
            Ok(())
        });
        let stop = services.stop_orchestrator();
        services.orchestrator(async move {
            stop.cancelled().await;
            Ok::<_, std::io::Error>(())
        });
        services.stop().await.unwrap();
    }
}
