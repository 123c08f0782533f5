//! Keeps the eras: makes them ahead, and drops those whose workflows all ended longer ago than the retention, with
//! their artifacts. Every replica does, and each step takes its turn in the database. Knows nothing of workflows.

use std::collections::HashSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::artifacts::{ArtifactError, ArtifactStore, Digest, WrongDigest};
use crate::config::Retention;
use crate::metrics;
use crate::store::eras::{self, Era, Passed};
use crate::store::{Store, StoreError, unkept};

// The longer an era is, the longer its first workflows stay beyond their time; the shorter, the more of them
// every look has to open.
const ERAS: u32 = 6;
// Whoever keeps everything may think better of it some day, and should not wait for years then.
const LENGTH_MOST: Duration = Duration::from_hours(24 * 90);
const LOOK_EVERY: Duration = Duration::from_mins(10);
const LOOK_LEAST: Duration = Duration::from_millis(250);
// Others hold a table for a statement, not for long.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
const DIGESTS: i64 = 100;
// No upload takes so long.
const REMOVED_KEPT: Duration = Duration::from_hours(24);

/// Why not everything was done in this round.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The database.
    #[error("store")]
    Store(#[from] StoreError),
    /// The artifact store.
    #[error("artifact store")]
    Artifacts(#[from] ArtifactError),
    /// A row cannot be read.
    #[error("digest {digest:?} of bytes that are not kept")]
    Digest {
        /// What it says.
        digest: String,
        /// What is wrong.
        #[source]
        source: WrongDigest,
    },
}

/// Keeps the eras.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Database.
    pub store: Store,
    /// Bytes of artifacts.
    pub artifacts: ArtifactStore,
    /// How long finished workflows are kept.
    pub retention: Retention,
}

impl Keeper {
    /// Looks from time to time, until the token is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let every = (self.length() / 4).clamp(LOOK_LEAST, LOOK_EVERY);
        let mut known = HashSet::new();
        loop {
            let looked = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                looked = self.look(&mut known) => looked,
            };
            if let Err(error) = looked {
                tracing::warn!(error = ?error, "retention was not looked after; it will be");
            }
            // Replicas that started together should not go on together.
            let pause = every.mul_f64(1.0 - rand::random::<f64>() / 4.0);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// How long the eras are that are made now.
    pub fn length(&self) -> Duration {
        self.retention
            .0
            .map_or(LENGTH_MOST, |retention| LENGTH_MOST.min(retention / ERAS))
    }

    /// Does everything that there is to be done; `waiting` are eras of which it was said that they wait.
    pub async fn look(&self, waiting: &mut HashSet<i32>) -> Result<(), RetentionError> {
        let mut client = self.store.client().await?;
        eras::open_next(&mut client, self.length()).await?;
        let mut found = HashSet::new();
        for era in eras::all(&client).await? {
            let mut detached = era.detached;
            if let (false, Some(retention)) = (detached, self.retention.0) {
                match self.detach(&era, retention).await? {
                    Passed::Detached => detached = true,
                    Passed::Lives(count) => {
                        found.insert(era.era);
                        if !waiting.contains(&era.era) {
                            tracing::info!(
                                era = era.era,
                                count,
                                "an era past retention waits for workflows that have not ended"
                            );
                        }
                    }
                    Passed::Busy => {
                        found.insert(era.era);
                        if !waiting.contains(&era.era) {
                            tracing::info!(
                                era = era.era,
                                "an era past retention waits for others that hold its tables"
                            );
                        }
                    }
                    Passed::NotYet => {}
                }
            }
            if detached {
                self.drop_era(&era).await?;
            }
        }
        metrics::eras_wait(found.len());
        *waiting = found;
        self.remove_bytes().await
    }

    async fn detach(&self, era: &Era, retention: Duration) -> Result<Passed, StoreError> {
        let mut client = self.store.client().await?;
        for attempt in 1..ATTEMPTS {
            match eras::detach(&mut client, era.era, retention).await? {
                Passed::Busy => {
                    let pause = PAUSE * attempt;
                    tokio::time::sleep(pause.mul_f64(rand::random::<f64>())).await;
                }
                passed @ (Passed::Detached | Passed::NotYet | Passed::Lives(_)) => {
                    return Ok(passed);
                }
            }
        }
        Ok(Passed::Busy)
    }

    // What was begun by whoever detached it is gone on with, however often: the tables go last.
    async fn drop_era(&self, era: &Era) -> Result<(), StoreError> {
        let mut client = self.store.client().await?;
        if let Some(end_id) = era.end_id {
            while unkept::forget_artifacts(&client, era.first_id, end_id).await? {}
        }
        if eras::drop_detached(&mut client, era.era).await? {
            tracing::info!(era = era.era, "an era passed retention, and was dropped");
            metrics::era_dropped();
        }
        Ok(())
    }

    async fn remove_bytes(&self) -> Result<(), RetentionError> {
        let mut client = self.store.client().await?;
        loop {
            let digests = unkept::some(&client, DIGESTS).await?;
            if digests.is_empty() {
                break;
            }
            for text in digests {
                if unkept::claim(&mut client, &text).await? {
                    let digest: Digest = text.parse().map_err(|source| RetentionError::Digest {
                        digest: text.clone(),
                        source,
                    })?;
                    self.artifacts.remove(&digest).await?;
                    unkept::removed(&client, &text).await?;
                }
            }
        }
        unkept::forget(&client, REMOVED_KEPT).await?;
        Ok(())
    }
}
