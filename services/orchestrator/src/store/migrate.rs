//! Numbered migrations, forward only, under an advisory lock.

use tokio_postgres::Client;

use super::StoreError;

mod embedded {
    refinery::embed_migrations!("migrations");
}

// Any number that nobody else uses: "agentic".
const LOCK: i64 = 0x0061_6765_6e74_6963;

pub(super) async fn run(client: &mut Client) -> Result<(), StoreError> {
    // A migration may take long, and so may waiting for another process's.
    client.batch_execute("SET statement_timeout = 0").await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    let migrated = embedded::migrations::runner().run_async(client).await;
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    client.batch_execute("RESET statement_timeout").await?;
    migrated?;
    Ok(())
}
