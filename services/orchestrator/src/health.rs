//! What `grpc.health.v1.Health` says of each service: none serves while the database is away. The process as a
//! whole stays healthy, for a restart would not bring the database back.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::store::Store;

const LOOK_EVERY: Duration = Duration::from_secs(1);
// One slow answer is no outage; balancers take a replica out at once.
const MISSES: u32 = 2;

/// Keeps the health of these services true until the token is cancelled.
pub async fn follow(
    store: Store,
    health: HealthReporter,
    services: Vec<&'static str>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut misses, mut serving) = (0, true);
    loop {
        let answered = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            answered = async {
                ticks.tick().await;
                store.ping().await
            } => answered,
        };
        misses = if answered.is_ok() { 0 } else { misses + 1 };
        let now = misses < MISSES;
        if now == serving {
            continue;
        }
        serving = now;
        match answered {
            Ok(()) => tracing::info!("the database answers again: all services serve"),
            Err(error) => {
                tracing::warn!(%error, "the database is away: no service serves until it is back");
            }
        }
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in &services {
            health.set_service_status(service, status).await;
        }
    }
}
