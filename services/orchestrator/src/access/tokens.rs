//! Looks bearer tokens up, at most every few seconds each.

use std::sync::Arc;
use std::time::Duration;

use contracts::error::Error;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::identity::Identity;
use super::secret::{Secret, SecretHash};
use crate::engine;
use crate::store::tokens::{self, TokenRow};
use crate::store::{Store, StoreError};

/// A token that was ended elsewhere is refused here after this long at the latest.
const FRESH: Duration = Duration::from_secs(5);
const KEPT: u64 = 10_000;
// Whoever guesses tokens must not take the database's connections from those who have one.
const LOOKUPS: usize = 4;

/// The tokens of the store.
#[derive(Debug, Clone)]
pub struct Tokens {
    store: Store,
    known: Cache<SecretHash, Option<Arc<Identity>>>,
    lookups: Arc<Semaphore>,
}

impl Tokens {
    /// Those of a store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            known: Cache::builder()
                .max_capacity(KEPT)
                .time_to_live(FRESH)
                .build(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    /// Whose token it is. `None`: nobody's, or it was ended.
    pub(super) async fn find(&self, hash: SecretHash) -> Result<Option<Arc<Identity>>, Error> {
        self.known
            .try_get_with(hash, self.look_up(hash))
            .await
            .map_err(|error: Arc<StoreError>| engine::store(&error))
    }

    async fn look_up(&self, hash: SecretHash) -> Result<Option<Arc<Identity>>, StoreError> {
        let _permit = self
            .lookups
            .acquire()
            .await
            .map_err(|_| StoreError::Stopping)?;
        let client = self.store.client().await?;
        let found = tokens::find(&client, &hash).await?;
        Ok(found
            .filter(|token| token.revoke_time.is_none())
            .map(|token| Arc::new(token.into_identity())))
    }

    /// Forgets what was known: a token was ended here.
    pub fn forget(&self) {
        self.known.invalidate_all();
    }

    /// Makes sure that a token that the process was started with is there. True: it was ended, and
    /// stays so.
    pub async fn keep(&self, secret: &Secret, token: TokenRow) -> Result<bool, StoreError> {
        let client = self.store.client().await?;
        tokens::keep(&client, &secret.hash(), &token).await?;
        let kept = tokens::find(&client, &secret.hash()).await?;
        Ok(kept.is_some_and(|token| token.revoke_time.is_some()))
    }
}
