//! Many workflows, several in flight at any time, until the test has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use contracts::orchestrator::CreateWorkflowRequest;
use contracts::task::Repository;

use super::client::{Client, Journey};
use crate::mesh::change;

const END_WITHIN: Duration = Duration::from_secs(150);

/// Load on all replicas.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    finished: watch::Receiver<usize>,
    workers: JoinSet<Vec<Journey>>,
}

impl Load {
    /// Keeps so many workflows in flight.
    pub fn start(urls: &watch::Receiver<Vec<String>>, in_flight: usize) -> Self {
        let stop = CancellationToken::new();
        let (finish, finished) = watch::channel(0);
        let finish = Arc::new(finish);
        let number = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for turn in 0..in_flight {
            let mut client = Client::new(urls.clone(), turn);
            let (stop, finish, number) = (stop.clone(), finish.clone(), number.clone());
            workers.spawn(async move {
                let mut journeys = Vec::new();
                while !stop.is_cancelled() {
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    let mut journey = client.create(request(&format!("load-{number}"))).await;
                    client.finish(&mut journey).await;
                    journeys.push(journey);
                    finish.send_modify(|count| *count += 1);
                }
                journeys
            });
        }
        Self {
            stop,
            finished,
            workers,
        }
    }

    /// How many have ended so far.
    pub fn finished_count(&self) -> usize {
        *self.finished.borrow()
    }

    /// Waits until so many more have ended.
    pub async fn more(&mut self, count: usize) {
        let wanted = self.finished_count() + count;
        self.finished(wanted).await;
    }

    /// Waits until so many have ended in all.
    pub async fn finished(&mut self, count: usize) {
        let mut finished = self.finished.clone();
        tokio::select! {
            biased;
            failed = failure(&mut self.workers) => panic!("a client gave up: {failed}"),
            waited = timeout(END_WITHIN, finished.wait_for(|finished| *finished >= count)) => {
                let seen = waited.map(|count| count.is_ok());
                assert!(matches!(seen, Ok(true)), "{} of {count} workflows ended", self.finished_count());
            }
        }
    }

    /// Begins no more, and waits until all have ended.
    pub async fn end(mut self) -> Vec<Journey> {
        self.stop.cancel();
        let ending = async {
            let mut journeys = Vec::new();
            while let Some(worker) = self.workers.join_next().await {
                journeys.extend(worker.unwrap());
            }
            journeys
        };
        timeout(END_WITHIN, ending)
            .await
            .expect("all workflows end")
    }
}

// Workers end only when they are told to, or fail.
async fn failure(workers: &mut JoinSet<Vec<Journey>>) -> String {
    match workers.join_next().await {
        Some(Err(error)) => error.to_string(),
        Some(Ok(_)) | None => "it ended".to_owned(),
    }
}

/// A change, known by its request id. Of a repository and an environment of its own, so that none
/// waits for another.
pub fn request(name: &str) -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        request_id: name.to_owned(),
        name: name.to_owned(),
        environment: name.to_owned(),
        repository: Some(Repository {
            url: format!("/repositories/{name}.git"),
            branch: "topic".to_owned(),
            ..Repository::default()
        }),
        ..change()
    }
}
