//! What hints ride on: Redis where it is configured, else the database's own notifications.

use std::time::Duration;

use crate::redis::{self, Redis};
use crate::store::hints as notifications;
use crate::store::{Store, StoreError};

/// What carries hints.
#[derive(Debug, Clone)]
pub enum Bus {
    /// `LISTEN` and `NOTIFY`.
    Database(Store),
    /// Publish and subscribe.
    Redis(Redis),
}

/// Why hints are cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("the database's notifications broke")]
    Database(#[from] StoreError),
    #[error("Redis broke")]
    Redis(#[from] ::redis::RedisError),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

pub(super) enum Line {
    Database(notifications::Line),
    Redis(redis::Line),
}

impl Line {
    pub(super) async fn open(bus: &Bus) -> Result<Self, LineError> {
        Ok(match bus {
            Bus::Database(store) => Self::Database(notifications::Line::open(store).await?),
            Bus::Redis(redis) => Self::Redis(redis::Line::open(redis).await?),
        })
    }

    pub(super) async fn tell(
        &mut self,
        payloads: &[String],
        heard: impl FnMut(&str),
    ) -> Result<(), LineError> {
        match self {
            Self::Database(line) => line.tell(payloads, heard).await?,
            Self::Redis(line) => line.tell(payloads, heard).await?,
        }
        Ok(())
    }

    pub(super) async fn until<T>(
        &mut self,
        done: impl Future<Output = T>,
        heard: impl FnMut(&str),
    ) -> Result<T, LineError> {
        Ok(match self {
            Self::Database(line) => line.until(done, heard).await?,
            Self::Redis(line) => line.until(done, heard).await?,
        })
    }
}
