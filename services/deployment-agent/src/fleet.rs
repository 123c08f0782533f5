//! The instances of one revision, started and stopped together.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, future, stream::FuturesUnordered};
use tokio_util::task::TaskTracker;

use crate::supervisor::{Crew, Instance, Phase, Stopped};

/// Instances of one revision.
#[derive(Debug)]
pub struct Fleet {
    crew: Arc<Crew>,
    instances: Vec<Instance>,
    next_number: u32,
}

impl Fleet {
    /// No instances yet.
    pub fn new(crew: Crew) -> Self {
        Self {
            crew: Arc::new(crew),
            instances: Vec::new(),
            next_number: 1,
        }
    }

    /// What its instances have in common.
    pub fn crew(&self) -> &Crew {
        &self.crew
    }

    /// The revision.
    pub fn revision(&self) -> u64 {
        self.crew.revision
    }

    /// Its instances, oldest first.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.instances.len()).unwrap_or(u32::MAX)
    }

    /// How many take traffic.
    pub fn ready_count(&self) -> u32 {
        let ready = self
            .instances
            .iter()
            .filter(|i| i.status().phase == Phase::Ready)
            .count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// How many were given up.
    pub fn failed_count(&self) -> u32 {
        let failed = self
            .instances
            .iter()
            .filter(|i| i.status().phase == Phase::Failed)
            .count();
        u32::try_from(failed).unwrap_or(u32::MAX)
    }

    /// Whether every instance that is wanted takes traffic.
    pub fn is_whole(&self) -> bool {
        self.ready_count() >= self.crew.spec.desired_count
    }

    /// Starts more instances at once and waits until all of them are ready. One that fails ends the
    /// wait; all of them stay, so that they can be asked why.
    pub async fn grow(&mut self, count: u32, tracker: &TaskTracker) -> Result<(), String> {
        let first_new = self.instances.len();
        for _ in 0..count {
            let number = self.next_number;
            let instance = Instance::start(Arc::clone(&self.crew), number, tracker)
                .map_err(|error| format!("cannot open the log of instance {number}: {error}"))?;
            self.next_number += 1;
            self.instances.push(instance);
        }
        let mut waiting: FuturesUnordered<_> = self
            .instances
            .iter()
            .skip(first_new)
            .map(|instance| instance.ready().map(|ready| (instance.number(), ready)))
            .collect();
        while let Some((number, ready)) = waiting.next().await {
            ready.map_err(|problem| format!("instance {number}: {problem}"))?;
        }
        Ok(())
    }

    /// Stops the oldest instances, all at once.
    pub async fn shrink(&mut self, count: u32) -> Vec<Stopped> {
        let count = (count as usize).min(self.instances.len());
        let stopped = future::join_all(self.instances.iter().take(count).map(Instance::stop)).await;
        self.instances.drain(..count);
        stopped
    }

    /// Starts what is missing, in place of instances that were given up.
    pub async fn complete(&mut self, tracker: &TaskTracker) -> Result<(), String> {
        self.instances
            .retain(|instance| !instance.status().phase.is_over());
        let missing = self.crew.spec.desired_count.saturating_sub(self.count());
        self.grow(missing, tracker).await
    }

    /// Stops every instance.
    pub async fn stop(&mut self) -> Vec<Stopped> {
        self.shrink(self.count()).await
    }

    /// Waits until the status of any instance changes.
    pub async fn changed(&self) {
        let mut views: Vec<_> = self.instances.iter().map(Instance::watch).collect();
        let mut changes: FuturesUnordered<_> = views
            .iter_mut()
            .map(|view| {
                view.mark_unchanged();
                view.changed()
            })
            .collect();
        if changes.next().await.is_none() {
            future::pending::<()>().await;
        }
    }
}
