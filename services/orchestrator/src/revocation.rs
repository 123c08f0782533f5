//! Which certificates are refused: the database says so, and every replica looks often.

use std::time::Duration;

use service_runtime::tls::Revoked;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError, certificates};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks once.
pub async fn look(store: &Store, revoked: &Revoked) -> Result<(), StoreError> {
    let client = store.client().await?;
    revoked.set(certificates::revoked(&client).await?);
    Ok(())
}

/// Looks until the token is cancelled.
pub async fn follow(store: Store, revoked: Revoked, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // While the database does not answer, what was refused stays so.
        if let Err(error) = look(&store, &revoked).await {
            tracing::debug!(%error, "revoked certificates could not be read");
        }
    }
}
