//! A replica stands still for longer than its leases last, and then goes on as if nothing had been.

use tokio::time::Instant;

use super::bed::Bed;
use super::figures::Figures;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_orchestrator_is_fenced_when_it_goes_on() {
    let mut bed = Bed::start(3).await;
    let mut held = bed.hold(0, 3).await;
    bed.load.more(10).await;

    let since = Instant::now();
    bed.replica(0).freeze();
    let (detected, recovered) = held.adopted(since).await;
    bed.load.more(10).await;
    bed.replica(0).thaw();
    // It drives what it drove, and has results to deliver; it is of use again.
    assert_eq!(bed.replica(0).readiness().await, 200);
    bed.load.more(30).await;

    bed.end(
        held,
        Figures {
            fault: "orchestrator frozen, then continued",
            detected,
            recovered,
        },
    )
    .await;
}
