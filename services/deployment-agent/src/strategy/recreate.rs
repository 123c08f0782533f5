//! Old one down, then new one up: for apps that hold something which exists once, such as a fixed
//! port, a lock or a data file. Between the two nothing answers, and the router says so.

use super::{Change, Failure};

pub(super) async fn carry_out(change: &mut Change<'_>) -> Result<(), Failure> {
    let new = change.new.revision();
    if change.old.is_some() {
        change.router.set_vacant_reason(format!(
            "revision {new} is being started in place of the one before"
        ));
        change
            .stop_old("stop the old revision", u32::MAX, 20.0)
            .await;
    }
    change
        .start(
            "start the new revision",
            change.new.crew().spec.desired_count,
            50.0,
        )
        .await?;
    change.shift("open the traffic", &[(new, 1)], 70.0).await;
    change
        .bake("watch the new revision", change.new.crew().spec.bake, 90.0)
        .await
}
