//! One replica of three loses its database, its agents, or everybody, while the others have both.

use std::time::Duration;

use testkit::fault_proxy::{Direction, Fault};
use tokio::time::Instant;

use super::bed::Bed;
use super::figures::Figures;

// Until leases are lost or a stream is silent, and the agents have found their way elsewhere.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_database_stalls_gives_its_work_up_and_is_fenced_when_it_goes_on() {
    taken_over("database of one orchestrator stalled", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Stall };
        bed.network().database().set_both(fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_answers_are_lost_are_neither_repeated_nor_taken_for_failed() {
    taken_over("answers of the database lost", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Discard };
        bed.network().database().set(Direction::ToClient, fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_from_everybody_is_replaced_and_comes_back() {
    taken_over("one orchestrator cut from everybody", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Discard };
        bed.network().all(fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_from_its_agents_loses_them_to_others() {
    taken_over("one orchestrator cut from its agents", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Discard };
        bed.network().agents(fault, fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_hear_its_agents_loses_them_to_others() {
    taken_over("agents unheard by one orchestrator", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Discard };
        bed.network().agents(fault, Fault::None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_its_agents_do_not_hear_loses_them_to_others() {
    taken_over("one orchestrator unheard by its agents", |bed, whole| {
        let fault = if whole { Fault::None } else { Fault::Discard };
        bed.network().agents(Fault::None, fault);
    })
    .await;
}

// Does it, and undoes it once others have taken over what the first replica had.
async fn taken_over(fault: &'static str, cut: impl Fn(&Bed, bool)) {
    let mut bed = Bed::with_network(3).await;
    let mut held = bed.hold(0, 3).await;
    bed.load.more(10).await;

    let since = Instant::now();
    cut(&bed, false);
    let (detected, recovered) = held.adopted(since).await;
    assert!(recovered < TAKEN_OVER_WITHIN, "it took {recovered:?}");
    bed.load.more(10).await;
    cut(&bed, true);
    bed.readiness(0, 200).await;
    bed.load.more(20).await;

    let figures = Figures {
        fault,
        detected,
        recovered,
    };
    for journey in bed.end(held, figures).await {
        assert_eq!(journey.lost_count, 0, "an attempt was charged: {journey:?}");
    }
}
