//! Budgets that all replicas share through Redis. Without it, each replica goes on with budgets of its own: at
//! once, and nobody waits for a Redis that is known to be away.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use contracts::client::Retry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use super::{Class, Limiter, LocalLimiter, Rates};
use crate::metrics;
use crate::redis::{Budgets, Redis, RedisResult};

/// Longest that a call waits for Redis; one that is slower is away.
pub const PATIENCE: Duration = Duration::from_millis(250);
const RECONNECT: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(50),
    longest: Duration::from_secs(2),
};

/// Budgets of all replicas together.
#[derive(Debug)]
pub struct SharedLimiter {
    rates: Rates,
    own: LocalLimiter,
    // The connection, and which one it is. `None`: Redis is away.
    shared: RwLock<Option<(u64, Budgets)>>,
    broken: Notify,
}

impl SharedLimiter {
    /// With these rates; those of this process until [`SharedLimiter::keep`] has found Redis.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            own: LocalLimiter::new(rates),
            shared: RwLock::new(None),
            broken: Notify::new(),
        }
    }

    /// Looks for Redis whenever it is away, until the shutdown. Calls do not wait for this.
    pub async fn keep(self: Arc<Self>, redis: Redis, shutdown: CancellationToken) {
        let mut failures = 0;
        let mut connection = 0;
        metrics::rate_limits_are_shared(false);
        loop {
            let opened = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                opened = open(&redis) => opened,
            };
            match opened {
                Ok(budgets) => {
                    failures = 0;
                    connection += 1;
                    self.set(Some((connection, budgets)));
                    metrics::rate_limits_are_shared(true);
                    tracing::info!("rate limits are shared by all replicas");
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return,
                        () = self.broken.notified() => {}
                    }
                    metrics::rate_limits_are_shared(false);
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(%error, "rate limits are each replica's own until Redis is back");
                    }
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RECONNECT.delay(failures.max(1))) => {}
            }
        }
    }

    async fn ask(&self, name: &str, class: Class) -> Option<Option<Duration>> {
        let (per_second, at_once) = self.rates.of(class)?;
        let (connection, mut budgets) = self.get()?;
        let interval = Duration::from_secs(1) / per_second.get();
        let asked = budgets.take(name, interval, at_once.get());
        let error = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(wait)) => return Some(wait),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        if self.lose(connection) {
            tracing::warn!(
                error,
                "Redis is away: each replica has rate limits of its own until it is back"
            );
        }
        None
    }

    fn get(&self) -> Option<(u64, Budgets)> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        shared.clone()
    }

    fn set(&self, connection: Option<(u64, Budgets)>) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    // True: it is the first to notice.
    fn lose(&self, connection: u64) -> bool {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let is_first = shared.as_ref().is_some_and(|(now, _)| *now == connection);
        if is_first {
            *shared = None;
            self.broken.notify_one();
        }
        is_first
    }
}

// A frozen server takes connections all the same: only an answer shows that it lives.
async fn open(redis: &Redis) -> RedisResult<Budgets> {
    let mut budgets = Budgets::open(redis).await?;
    budgets
        .take("anybody there", Duration::from_millis(1), 1000)
        .await?;
    Ok(budgets)
}

#[async_trait]
impl Limiter for SharedLimiter {
    async fn take(&self, who: &str, class: Class) -> Option<Duration> {
        match self.ask(&format!("{class:?}:{who}"), class).await {
            Some(wait) => wait.map(|wait| wait.max(Duration::from_millis(1))),
            None => self.own.take(who, class).await,
        }
    }
}
