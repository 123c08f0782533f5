//! Every connection of every pool waits for a lock that somebody else holds.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::bed::Bed;
use super::figures::Figures;
use super::load;

// A connection for what is read before, and the commit.
const BOUND: Duration = Duration::from_secs(15);
const OTHERS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_refuses_in_bounded_time_and_recovers_by_itself() {
    let mut bed = Bed::start(2).await;
    let mut held = bed.hold(0, 2).await;
    bed.load.more(10).await;

    let locker = bed.connection().await;
    let since = Instant::now();
    locker
        .batch_execute("BEGIN; LOCK TABLE workflows, tasks IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    bed.readiness(0, 503).await;
    let detected = since.elapsed();
    let request = load::request("while-it-is-locked");
    let mut client = bed.client(0);
    let asked = Instant::now();
    // However many ask: nobody waits for the others' time to pass, one after the other.
    let others = (0..OTHERS).map(|number| load::request(&format!("beside-{number}")));
    let refusals = others
        .chain([request.clone()])
        .map(|request| client.create_once(request));
    for refused in futures::future::join_all(refusals).await {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    let waited = asked.elapsed();
    assert!(waited < BOUND, "a refusal took {waited:?}");

    locker.batch_execute("ROLLBACK").await.unwrap();
    let free = Instant::now();
    bed.load.more(10).await;
    let recovered = free.elapsed();
    for index in 0..2 {
        bed.readiness(index, 200).await;
    }
    let journey = client.create(request).await;
    held.add(client, journey);

    let figures = Figures {
        fault: "every database connection waits for a lock",
        detected,
        recovered,
    };
    for journey in bed.end(held, figures).await {
        assert_eq!(journey.lost_count, 0, "an attempt was charged: {journey:?}");
    }
}
