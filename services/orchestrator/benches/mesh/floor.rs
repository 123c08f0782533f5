//! The floor: what the database can do at best. One durable single-row commit per hand-over, six
//! per workflow, over bare connections, and nothing else.

use std::time::{Duration, Instant};

use testkit::database::Connection;
use tokio::task::JoinSet;

use crate::load::median;

/// Commits of one workflow of five stages: one at its creation, one per result.
const COMMITS: usize = 6;

/// What was measured at one concurrency.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Workflows a second.
    pub rate: f64,
    /// Median of one workflow's six commits.
    pub workflow: Duration,
    /// Median of one commit.
    pub commit: Duration,
}

/// Measures for a while with so many connections.
pub async fn measure(url: &str, concurrency: usize, time: Duration) -> Floor {
    let setup = Connection::open(url).await.unwrap();
    setup
        .batch_execute(
            "DROP TABLE IF EXISTS floor;
             CREATE TABLE floor (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
             INSERT INTO floor SELECT id, 0 FROM generate_series(1, 1000) AS id",
        )
        .await
        .unwrap();
    let mut workers = JoinSet::new();
    let begin = Instant::now();
    for worker in 0..concurrency {
        let url = url.to_owned();
        workers.spawn(async move {
            let connection = Connection::open(&url).await.unwrap();
            let statement = connection
                .prepare("UPDATE floor SET n = n + 1 WHERE id = $1")
                .await
                .unwrap();
            let id = i32::try_from(worker).unwrap() + 1;
            let mut workflows = Vec::new();
            let mut commits = Vec::new();
            while begin.elapsed() < time {
                let start = Instant::now();
                for _ in 0..COMMITS {
                    let one = Instant::now();
                    connection.execute(&statement, &[&id]).await.unwrap();
                    commits.push(one.elapsed());
                }
                workflows.push(start.elapsed());
            }
            (workflows, commits)
        });
    }
    let (mut workflows, mut commits) = (Vec::new(), Vec::new());
    while let Some(done) = workers.join_next().await {
        let (some, more) = done.unwrap();
        workflows.extend(some);
        commits.extend(more);
    }
    Floor {
        rate: workflows.len() as f64 / begin.elapsed().as_secs_f64(),
        workflow: median(&mut workflows),
        commit: median(&mut commits),
    }
}
