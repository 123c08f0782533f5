//! A database with the orchestrator's schema for every test.

use orchestrator::store::Store;
use testkit::database::Database;

/// A database of the test's own.
pub async fn migrated() -> Database {
    Database::migrated("orchestrator", |connection_string| async move {
        Ok(Store::new(&connection_string, 1)?.migrate().await?)
    })
    .await
    .unwrap()
}

/// A database of the test's own, and a store on it.
pub async fn database() -> (Database, Store) {
    let database = migrated().await;
    let store = Store::new(database.connection_string(), 8).unwrap();
    (database, store)
}
