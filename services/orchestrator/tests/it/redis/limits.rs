//! Rate limits through Redis: one budget for all replicas, and nobody waits for a Redis that hangs or is gone.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use contracts::client::{self, ClientChannel};
use contracts::error::Error;
use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{CreateTokenRequest, Role};
use nix::sys::signal::Signal;
use orchestrator::Config;
use orchestrator::access::limit::Rates;
use tonic::{Code, Status};

use super::{PASSWORD, settings, signal, start};
use crate::access::bed::Bed;
use crate::mesh::{Replica, app, eventually};

// Beyond what a busy machine takes by itself for a call that waits for nothing.
const SOON: Duration = Duration::from_secs(5);
// New workflows a second, and at once.
const BUDGET: u32 = 4;

struct Two {
    bed: Bed,
    other: Replica,
    secret: String,
}

impl Two {
    async fn start(folder: &Path) -> Self {
        let redis = settings(folder, PASSWORD);
        let change = |config: &mut Config| {
            config.redis = Some(redis.clone());
            config.access.rates = Rates {
                create: NonZeroU32::new(BUDGET).unwrap(),
                ..Rates::default()
            };
        };
        let bed = Bed::start_with(change).await;
        let other = bed.another_with(change).await;
        let request = CreateTokenRequest {
            name: "ada".to_owned(),
            roles: vec![Role::Operator.into()],
            ..CreateTokenRequest::default()
        };
        let secret = bed.create(request).await.unwrap().secret;
        Self { bed, other, secret }
    }

    fn channels(&self) -> [ClientChannel; 2] {
        [&self.bed.replica.url, &self.other.url]
            .map(|url| client::channel(url, Some(&self.secret)).unwrap())
    }

    // What both let in of this many calls each, at once, and the slowest answer.
    async fn burst(&self, count: usize) -> (usize, Duration) {
        let mut calls = tokio::task::JoinSet::new();
        for channel in self.channels() {
            for _ in 0..count {
                let channel = channel.clone();
                calls.spawn(async move {
                    let begun = Instant::now();
                    (create(channel).await, begun.elapsed())
                });
            }
        }
        let (mut admitted, mut slowest) = (0, Duration::ZERO);
        while let Some(call) = calls.join_next().await {
            let (answer, took) = call.unwrap();
            slowest = slowest.max(took);
            match answer {
                Ok(()) => admitted += 1,
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    let wait = Error::from_status(&status).unwrap().retry_after.unwrap();
                    assert!(wait <= Duration::from_secs(1), "{wait:?}");
                }
            }
        }
        (admitted, slowest)
    }
}

async fn create(channel: ClientChannel) -> Result<(), Status> {
    let mut workflows = WorkflowServiceClient::new(channel);
    workflows.create_workflow(app("shop")).await.map(drop)
}

// Whether a budget that one replica emptied is empty on the other.
async fn is_shared(two: &Two) -> bool {
    // Full again, wherever it is kept.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let [here, there] = two.channels();
    let begun = Instant::now();
    loop {
        if create(here.clone()).await.is_err() {
            break;
        }
    }
    let answer = create(there).await;
    // One that is refilled meanwhile shows nothing.
    answer.is_err() && begun.elapsed() < Duration::from_secs(1)
}

#[tokio::test]
async fn two_replicas_share_one_budget_and_a_redis_that_hangs_or_dies_delays_nobody() {
    testkit::require!(Redis);
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path()).await;
    let two = Two::start(folder.path()).await;
    assert!(eventually(|| is_shared(&two), |shared| *shared).await);

    tokio::time::sleep(Duration::from_millis(1100)).await;
    let begun = Instant::now();
    let (together, with) = two.burst(30).await;
    // What one bucket holds, and what it gained meanwhile.
    let gained = begun.elapsed().as_secs_f64() * f64::from(BUDGET);
    let most = usize::try_from(BUDGET).unwrap() + gained.ceil() as usize;
    assert!(together <= most, "{together} of at most {most}");
    assert!(together >= usize::try_from(BUDGET).unwrap(), "{together}");

    signal(&server, Signal::SIGSTOP);
    let (alone, first) = two.burst(30).await;
    assert!(alone >= 2, "each has a budget of its own: {alone}");
    assert!(first < SOON, "the first calls took {first:?}");
    let (_, frozen) = two.burst(30).await;
    assert!(frozen < SOON, "{frozen:?}");
    assert!(
        !is_shared(&two).await,
        "nothing is shared through what hangs"
    );
    signal(&server, Signal::SIGCONT);
    assert!(
        eventually(|| is_shared(&two), |shared| *shared).await,
        "it is used again when it is back"
    );

    server.kill().await.unwrap();
    let (_, killed) = two.burst(30).await;
    assert!(killed < SOON, "{killed:?}");
    assert!(!is_shared(&two).await);
    let _server = start(folder.path()).await;
    assert!(
        eventually(|| is_shared(&two), |shared| *shared).await,
        "and after a restart"
    );
    println!(
        "slowest of 60 calls at once: with Redis {with:?}, as it hangs {first:?}, while it hangs {frozen:?}, \
         killed {killed:?}"
    );
    two.other.stop().await;
}
