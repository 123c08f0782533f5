//! Growing shares of the traffic: at each step enough new instances for the share, the share, and a
//! watch that also compares with what the old revision answers meanwhile.

use super::{CanaryStep, Change, Failure};
use crate::fleet::Fleet;

pub(super) async fn carry_out(
    change: &mut Change<'_>,
    steps: &[CanaryStep],
) -> Result<(), Failure> {
    let new = change.new.revision();
    let desired = change.new.crew().spec.desired_count;
    let old = change.old.as_ref().map(Fleet::revision);
    if old.is_none() {
        change
            .journal
            .event("nothing is live: the canary has all the traffic from its first step")
            .await;
    }
    let ends_whole = steps.last().is_some_and(|step| step.weight_percent >= 100);
    let last = CanaryStep {
        weight_percent: 100,
        bake: change.new.crew().spec.bake,
    };
    let steps: Vec<CanaryStep> = steps
        .iter()
        .copied()
        .chain((!ends_whole).then_some(last))
        .collect();
    for (index, step) in steps.iter().enumerate() {
        let percent = 90.0 * (index + 1) as f64 / steps.len() as f64;
        let weight = step.weight_percent.clamp(1, 100);
        let needed = (desired * weight).div_ceil(100).max(1);
        let missing = needed.saturating_sub(change.new.count());
        if missing > 0 {
            let name = format!("start {missing} for {weight} %");
            change.start(&name, missing, percent - 5.0).await?;
        }
        let shares: Vec<_> = match old {
            // At 100 % the old one stands by.
            Some(old) => vec![(new, weight), (old, 100 - weight)],
            None => vec![(new, 100)],
        };
        change
            .shift(&format!("shift {weight} %"), &shares, percent - 3.0)
            .await;
        change
            .bake(&format!("watch at {weight} %"), step.bake, percent)
            .await?;
    }
    Ok(())
}
