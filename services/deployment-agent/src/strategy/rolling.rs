//! Instance by instance: one new is started, proves itself with its share of the traffic, and one
//! old is stopped. There are never fewer instances than before and never more than one too many;
//! the last old one stays until the last new one has proved itself.

use super::{Change, Failure};
use crate::fleet::Fleet;

pub(super) async fn carry_out(change: &mut Change<'_>) -> Result<(), Failure> {
    let new = change.new.revision();
    let desired = change.new.crew().spec.desired_count;
    let bake = change.new.crew().spec.bake / desired.max(1);
    let before = change.old.as_ref().map_or(0, Fleet::count);
    for round in 1..=desired {
        let percent = 90.0 * f64::from(round) / f64::from(desired);
        let name = format!("instance {round} of {desired}");
        change
            .start(&format!("start {name}"), 1, percent - 5.0)
            .await?;
        let stays = before - before * round / desired;
        let shares = match &change.old {
            Some(old) => vec![(new, round), (old.revision(), stays)],
            None => vec![(new, round)],
        };
        change
            .shift(&format!("give traffic to {name}"), &shares, percent - 3.0)
            .await;
        change.bake(&format!("watch {name}"), bake, percent).await?;
        if round < desired {
            let now = change.old.as_ref().map_or(0, Fleet::count);
            change
                .stop_old("stop an old instance", now.saturating_sub(stays), percent)
                .await;
        }
    }
    Ok(())
}
