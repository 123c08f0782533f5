//! All new beside all old, one switch, and the old ones kept warm until the new ones proved
//! themselves: going back is one switch too.

use super::{Change, Failure};

pub(super) async fn carry_out(change: &mut Change<'_>) -> Result<(), Failure> {
    let new = change.new.revision();
    change
        .start("start green", change.new.crew().spec.desired_count, 40.0)
        .await?;
    // Blue stands by: what a dying green cannot take is not lost.
    let shares: Vec<_> = change
        .old
        .iter()
        .map(|old| (old.revision(), 0))
        .chain([(new, 1)])
        .collect();
    change.shift("switch to green", &shares, 60.0).await;
    change
        .bake("watch green", change.new.crew().spec.bake, 90.0)
        .await
}
