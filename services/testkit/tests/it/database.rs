//! Databases of tests: apart from each other, migrated once, dropped, and gone with the process.

use std::sync::atomic::{AtomicU32, Ordering};

use testkit::database::{Connection, Database};

static MIGRATIONS: AtomicU32 = AtomicU32::new(0);

async fn migrated() -> Database {
    Database::migrated("numbers", |connection_string| async move {
        MIGRATIONS.fetch_add(1, Ordering::SeqCst);
        let connection = Connection::open(&connection_string).await?;
        connection
            .batch_execute("CREATE TABLE numbers (number int NOT NULL)")
            .await?;
        Ok(())
    })
    .await
    .unwrap()
}

async fn count(database: &Database) -> i64 {
    let connection = database.connect().await.unwrap();
    connection
        .query_one("SELECT count(*) FROM numbers", &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn copies_of_a_template_are_apart_and_the_migrations_run_once() {
    let (first, second) = tokio::join!(migrated(), migrated());
    let connection = first.connect().await.unwrap();
    connection
        .batch_execute("INSERT INTO numbers VALUES (1)")
        .await
        .unwrap();
    assert_eq!(count(&first).await, 1);
    assert_eq!(count(&second).await, 0);
    assert_eq!(MIGRATIONS.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failed_migration_is_reported_and_can_be_tried_again() {
    let failed = Database::migrated("broken", |_| async { anyhow::bail!("no such thing") }).await;
    assert!(format!("{:?}", failed.unwrap_err()).contains("no such thing"));
    Database::migrated("broken", |_| async { Ok(()) })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_with_open_connections() {
    let database = Database::empty().await.unwrap();
    let open = database.connect().await.unwrap();
    let name: String = open
        .query_one("SELECT current_database()", &[])
        .await
        .unwrap()
        .get(0);
    drop(database);
    let other = Database::empty().await.unwrap();
    let connection = other.connect().await.unwrap();
    let found = connection
        .query("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await
        .unwrap();
    assert!(found.is_empty());
    assert!(open.query_one("SELECT 1", &[]).await.is_err());
}

#[tokio::test]
async fn everybody_is_disconnected_on_demand() {
    let database = Database::empty().await.unwrap();
    let connection = database.connect().await.unwrap();
    database.disconnect_everybody().await.unwrap();
    assert!(connection.query_one("SELECT 1", &[]).await.is_err());
}
