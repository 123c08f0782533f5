//! All replicas are replaced one after the other, in order, while everybody works.

use tokio::time::Instant;

use super::bed::Bed;
use super::figures::Figures;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_charges_no_attempt_and_clients_try_again_at_most_once() {
    let mut bed = Bed::start(3).await;
    let mut held = bed.hold(0, 3).await;
    bed.load.more(10).await;

    let since = Instant::now();
    bed.take(0).stop().await;
    let (detected, recovered) = held.adopted(since).await;
    bed.replace(0).await;
    for index in 1..3 {
        bed.load.more(10).await;
        bed.take(index).stop().await;
        bed.replace(index).await;
    }
    bed.load.more(10).await;

    let journeys = bed
        .end(
            held,
            Figures {
                fault: "rolling restart of all orchestrators",
                detected,
                recovered,
            },
        )
        .await;
    for journey in &journeys {
        assert!(journey.worst_run <= 1, "{journey:?}");
        assert_eq!(journey.lost_count, 0, "{journey:?}");
    }
}
