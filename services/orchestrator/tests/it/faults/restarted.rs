//! The database goes away and comes back: in order, and in a crash, for longer than leases last.

use std::time::Duration;

use tokio::time::{Instant, interval};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::bed::{Bed, Held};
use super::figures::Figures;
use super::load;

// A call that cannot be served says so in this time.
const AT_ONCE: Duration = Duration::from_secs(3);
// The database is asked every second; two misses count, and each is two seconds at most.
const SOON: Duration = Duration::from_secs(15);
// Leases last 15 s, and a lease that ran out is held for an agent that may come back for 15 s more.
const LONGER_THAN_LEASES: Duration = Duration::from_secs(32);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_costs_a_moment_and_no_transition() {
    let mut bed = Bed::with_server(2).await;
    let mut held = bed.hold(0, 2).await;
    bed.load.more(10).await;

    let since = Instant::now();
    bed.server().stop().await;
    let figures = away(
        &mut bed,
        &mut held,
        since,
        "database restarted",
        Duration::ZERO,
    )
    .await;
    end(bed, held, figures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashed_for_longer_than_leases_last_finds_every_task_where_it_was() {
    let mut bed = Bed::with_server(2).await;
    let mut held = bed.hold(0, 2).await;
    bed.load.more(10).await;

    let since = Instant::now();
    bed.server().crash().await;
    let fault = "database crashed, back after 32 s";
    let figures = away(&mut bed, &mut held, since, fault, LONGER_THAN_LEASES).await;
    end(bed, held, figures).await;
}

async fn away(
    bed: &mut Bed,
    held: &mut Held,
    since: Instant,
    fault: &'static str,
    stay: Duration,
) -> Figures {
    for index in 0..2 {
        let took = bed.refused(index).await;
        assert!(took < AT_ONCE, "a refusal took {took:?}");
        bed.readiness(index, 503).await;
        let took = bed.health(index, ServingStatus::NotServing).await;
        assert!(took < SOON, "it said for {took:?} that it serves");
    }
    let detected = since.elapsed();
    let mut client = bed.client(1);
    let request = load::request("while-it-is-away");
    let asked = Instant::now();
    let refused = client.create_once(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    let mut ticks = interval(Duration::from_secs(1));
    while since.elapsed() < stay {
        ticks.tick().await;
        assert_eq!(bed.replica(0).readiness().await, 503);
    }

    bed.server().start_again().await;
    let back = Instant::now();
    bed.load.more(10).await;
    let recovered = back.elapsed();
    for index in 0..2 {
        bed.readiness(index, 200).await;
        let took = bed.health(index, ServingStatus::Serving).await;
        assert!(took < SOON, "it said for {took:?} that it does not serve");
    }
    let journey = client.create(request).await;
    held.add(client, journey);
    Figures {
        fault,
        detected,
        recovered,
    }
}

async fn end(bed: Bed, held: Held, figures: Figures) {
    for journey in bed.end(held, figures).await {
        assert_eq!(journey.lost_count, 0, "an attempt was charged: {journey:?}");
    }
}
