//! A database of the version before eras keeps everything that is in it.

use std::collections::HashSet;

use refinery::Target;
use testkit::database::{Connection, Database};
use tokio_postgres::NoTls;

use super::{SOON, TABLES, assert_whole, eventually, keeper};

mod embedded {
    refinery::embed_migrations!("migrations");
}

// Workflows of the last days, of which every third has not ended.
const DATA: &str = "
    CREATE TEMP TABLE made AS
    SELECT n, (lpad(to_hex((extract(epoch FROM now() - n * interval '1 h') * 1000)::bigint), 12, '0')
               || '7000800000000000' || lpad(to_hex(n), 4, '0'))::uuid AS id
    FROM generate_series(1, 300) AS n;
    INSERT INTO workflows
    SELECT id, 'default', 3, 2, 1, 'shop-' || n, 2, jsonb_build_object('n', n::text), 'development',
           now() - n * interval '1 h', CASE WHEN n % 3 > 0 THEN now() - n * interval '1 min' END,
           now() + interval '1 day', 4, decode(repeat('ab', 3000), 'hex') FROM made;
    INSERT INTO submissions SELECT id, 'request', 'pipeline', '' FROM made;
    INSERT INTO results SELECT id, stage, 'result' FROM made, unnest('{scaffold,e2e}'::text[]) AS stage;
    INSERT INTO events SELECT id, s, now(), 'scaffold', 'event' FROM made, generate_series(1, 4) AS s;
    INSERT INTO attempts SELECT id, 'scaffold', 1, id, 1, NULL, 'completed', '', NULL, now() FROM made;
    INSERT INTO decisions
    SELECT gen_random_uuid(), 'default', id, 'deployment', 'asked', now(), now() FROM made WHERE n % 10 = 0;
    INSERT INTO clarifications
    SELECT gen_random_uuid(), 'default', id, '', 'What?', 1, '{}', 1, now(), now() FROM made WHERE n % 7 = 0;
    INSERT INTO artifacts (artifact_id, digest, size_bytes, media_type, name, workflow_id)
    SELECT gen_random_uuid(), 'sha256:' || lpad(to_hex(n), 64, '0'), 1, '', 'report', id FROM made;
    INSERT INTO tasks (task_id, namespace, workflow_id, stage, agent_type, leased, lease_epoch, owner, address,
                       ready_time, order_time, start_deadline)
    SELECT id, 'default', id, 'validation', 2, false, 1, '', '', now(), now(), now() + interval '1 day'
    FROM made WHERE n % 3 = 0;";

/// Digest of every row of every table.
async fn digests(connection: &Connection) -> Vec<(&'static str, i64, String)> {
    let mut found = Vec::new();
    for table in TABLES.into_iter().chain(["tasks"]) {
        let digest = format!(
            "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM {table} t"
        );
        let row = connection.query_one(&digest, &[]).await.unwrap();
        found.push((
            table,
            row.get(0),
            row.get::<_, Option<_>>(1).unwrap_or_default(),
        ));
    }
    found
}

#[tokio::test]
async fn a_database_from_before_eras_keeps_every_row_and_how_it_is_stored() {
    let database = Database::empty().await.unwrap();
    let (mut client, connection) = tokio_postgres::connect(database.connection_string(), NoTls)
        .await
        .unwrap();
    let moving = tokio_util::task::TaskTracker::new().spawn(connection);
    embedded::migrations::runner()
        .set_target(Target::Version(8))
        .run_async(&mut client)
        .await
        .unwrap();
    client.batch_execute(DATA).await.unwrap();
    drop(client);
    moving.await.unwrap().unwrap();
    let connection = database.connect().await.unwrap();
    let before = digests(&connection).await;
    assert!(before.iter().all(|(_, count, _)| *count > 0), "{before:?}");

    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(&database, folder.path(), Some(SOON));
    keeper.store.migrate().await.unwrap();
    assert_eq!(digests(&connection).await, before);
    // Some of it has not ended: the era stays, however old it is. New ones are made beside it.
    for _ in 0..2 {
        keeper.look(&mut HashSet::new()).await.unwrap();
    }
    assert_eq!(digests(&connection).await, before);
    assert_whole(&connection).await;
    let stored = connection
        .query(
            "SELECT DISTINCT coalesce(reloptions, '{}') FROM pg_class
             WHERE relkind = 'r' AND relname ~ '^workflows_era_'",
            &[],
        )
        .await
        .unwrap();
    let stored: Vec<Vec<String>> = stored.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, [["fillfactor=70", "toast_tuple_target=8160"]]);
    // With the last one that lives, the whole era goes.
    connection
        .batch_execute(
            "UPDATE workflows SET end_time = now() - interval '1 h' WHERE end_time IS NULL;
             UPDATE workflows SET end_time = now() - interval '1 h'
             WHERE end_time > now() - interval '1 h'",
        )
        .await
        .unwrap();
    let after = eventually(
        || async {
            keeper.look(&mut HashSet::new()).await.unwrap();
            digests(&connection).await
        },
        |after| after[0].1 == 0,
    )
    .await;
    for (table, count, _) in &after[..8] {
        assert_eq!(*count, 0, "{table}");
    }
    assert_eq!(after[8], before[8]);
}
