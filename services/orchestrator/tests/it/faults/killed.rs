//! A replica dies in the middle of stages.

use tokio::time::Instant;

use super::bed::Bed;
use super::figures::Figures;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_orchestrator_drove_is_gone_on_with_and_not_run_again() {
    let mut bed = Bed::start(3).await;
    let mut held = bed.hold(0, 3).await;
    bed.load.more(10).await;

    let victim = bed.take(0);
    let since = Instant::now();
    victim.kill().await;
    let (detected, recovered) = held.adopted(since).await;
    bed.load.more(10).await;

    let journeys = bed
        .end(
            held,
            Figures {
                fault: "orchestrator killed",
                detected,
                recovered,
            },
        )
        .await;
    let lost: u32 = journeys.iter().map(|journey| journey.lost_count).sum();
    assert_eq!(lost, 0, "attempts were charged");
}
