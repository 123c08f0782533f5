//! Which workflows are given up because their time ran out.

use std::time::SystemTime;

use contracts::orchestrator::WorkflowState;
use orchestrator::store::connection::GenericClient;
use orchestrator::store::workflows;

use crate::database::database;

#[tokio::test]
async fn a_workflow_that_is_being_undone_is_not_given_up_again() {
    let (_database, store) = database().await;
    let client = store.client().await.unwrap();
    for (name, state) in [
        ("runs", WorkflowState::Running),
        ("is-undone", WorkflowState::Compensating),
    ] {
        client
            .execute(
                "INSERT INTO workflows (workflow_id, namespace, version, state, type, name, priority, labels,
                                        environment, create_time, deadline, last_sequence, live)
                 VALUES (gen_random_uuid(), $1, 1, $2, 1, $1, 2, '{}', 'development', now(),
                         now() - interval '1 minute', 1, '')",
                &[&name, &(state as i16)],
            )
            .await
            .unwrap();
    }
    let undone = WorkflowState::Compensating as i16;
    let overdue = workflows::overdue(&client, SystemTime::now(), undone, 10).await;
    let namespaces: Vec<_> = overdue.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(namespaces, ["runs"]);
}
