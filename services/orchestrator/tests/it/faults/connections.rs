//! The server ends every connection to the database, again and again.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::bed::Bed;
use super::figures::Figures;

const STORM: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn killed_database_connections_lose_and_double_nothing() {
    let mut bed = Bed::start(2).await;
    let held = bed.hold(0, 2).await;
    bed.load.more(10).await;

    let since = Instant::now();
    let mut ticks = interval(EVERY);
    while since.elapsed() < STORM {
        ticks.tick().await;
        bed.disconnect_everybody().await;
    }
    let over = Instant::now();
    bed.load.more(10).await;
    let recovered = over.elapsed();
    assert_eq!(bed.replica(0).readiness().await, 200);

    bed.end(
        held,
        Figures {
            fault: "database connections killed for 5 s",
            detected: Duration::ZERO,
            recovered,
        },
    )
    .await;
}
