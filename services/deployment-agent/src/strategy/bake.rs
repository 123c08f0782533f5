//! Watches a new revision under traffic: every instance must stay up, be seen healthy at least once,
//! and answer no worse than the revision before. Without data it waits; it never takes silence for
//! health.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Change, Failure, FailureKind, change::stopped};
use crate::{
    router::{Group, Sample},
    supervisor::Phase,
};

/// Requests that must have been seen before their errors count: with fewer, one error is a quarter
/// or more of the traffic and says little.
const MIN_REQUESTS: u64 = 10;
/// Share of failing requests that is never held against a revision (1 in 20).
const TOLERATED_ERROR_SHARE: f64 = 0.05;
/// A revision may fail this many times as often as the one before.
const TOLERATED_ERROR_RATIO: f64 = 2.0;
/// Traffic is looked at this often; instances tell of their changes by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A watch that began.
pub(super) struct Bake {
    begun: Instant,
    duration: Duration,
    /// What was known of the instances when it began, by number: restarts and passed probes.
    before: BTreeMap<u32, (u32, u64)>,
    traffic_before: Sample,
    old: Option<(Group, Sample)>,
}

impl Bake {
    pub(super) fn begin(change: &Change<'_>, duration: Duration) -> Self {
        let known = |status: crate::supervisor::Status| (status.restart_count, status.pass_count);
        Self {
            begun: Instant::now(),
            duration,
            before: change
                .new
                .instances()
                .iter()
                .map(|instance| (instance.number(), known(instance.status())))
                .collect(),
            traffic_before: change.router.group_sample(change.new.revision()),
            old: change
                .old
                .as_ref()
                .map(|old| (old.revision(), change.router.group_sample(old.revision()))),
        }
    }

    /// Returns what was seen when the revision has proved itself.
    pub(super) async fn watch(self, change: &mut Change<'_>) -> Result<String, Failure> {
        let mut held = false;
        loop {
            self.judge_instances(change)?;
            let traffic = change
                .router
                .group_sample(change.new.revision())
                .since(&self.traffic_before);
            self.judge_traffic(change, &traffic)?;
            if self.begun.elapsed() >= self.duration {
                if self.unseen(change).is_empty() {
                    return Ok(told(&traffic));
                }
                if !held {
                    held = true;
                    change
                        .journal
                        .event("no probe has said anything yet: held until one does")
                        .await;
                }
            }
            let left = self.duration.saturating_sub(self.begun.elapsed());
            let pause = if left.is_zero() {
                LOOK_EVERY
            } else {
                left.min(LOOK_EVERY)
            };
            tokio::select! {
                biased;
                failure = stopped(&change.cancel, change.deadline) => {
                    let unseen = self.unseen(change);
                    return Err(if failure.kind == FailureKind::Deadline && !unseen.is_empty() {
                        Failure {
                            kind: FailureKind::Inconclusive,
                            reason: format!(
                                "no probe of instance {unseen:?} gave any data until the deadline"
                            ),
                        }
                    } else {
                        failure
                    });
                }
                () = change.new.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Any crash or sickness while it is watched is one too many: the old revision is at hand.
    fn judge_instances(&self, change: &Change<'_>) -> Result<(), Failure> {
        for instance in change.new.instances() {
            let status = instance.status();
            let (restarts, _) = self
                .before
                .get(&instance.number())
                .copied()
                .unwrap_or_default();
            if status.phase != Phase::Ready || status.restart_count > restarts {
                let problem = status
                    .problem
                    .unwrap_or_else(|| "it is not running".to_owned());
                return Err(Failure::sick(format!(
                    "instance {}: {problem}",
                    instance.number()
                )));
            }
        }
        Ok(())
    }

    fn judge_traffic(&self, change: &Change<'_>, traffic: &Sample) -> Result<(), Failure> {
        if traffic.requests < MIN_REQUESTS {
            return Ok(());
        }
        let share = traffic.error_share().unwrap_or_default();
        let tolerated = self.tolerated_share(change);
        if share > tolerated {
            return Err(Failure::sick(format!(
                "{} of {} requests failed ({:.0} %, at most {:.0} % are tolerated)",
                traffic.server_errors + traffic.transport_errors,
                traffic.requests,
                share * 100.0,
                tolerated * 100.0,
            )));
        }
        // The quantile is known within a factor of two: only what is certainly too slow counts.
        if let Some(bound) = change.new.crew().spec.probe.latency_below
            && let Some(p95) = traffic.latency_quantile(0.95)
            && p95 / 2 >= bound
        {
            return Err(Failure::sick(format!(
                "95 % of requests took up to {p95:?}, more than the {bound:?} that are allowed"
            )));
        }
        Ok(())
    }

    /// Where the old revision still has traffic, it is measured at the same time; else what it did
    /// over its life is the measure.
    fn tolerated_share(&self, change: &Change<'_>) -> f64 {
        let Some((old, before)) = &self.old else {
            return TOLERATED_ERROR_SHARE;
        };
        let life = change.router.group_sample(*old);
        let meanwhile = life.since(before);
        let measure = if meanwhile.requests >= MIN_REQUESTS {
            meanwhile
        } else {
            life
        };
        let baseline = measure.error_share().unwrap_or_default();
        (baseline * TOLERATED_ERROR_RATIO).max(TOLERATED_ERROR_SHARE)
    }

    /// Instances that no probe has seen healthy since the watch began.
    fn unseen(&self, change: &Change<'_>) -> Vec<u32> {
        change
            .new
            .instances()
            .iter()
            .filter(|instance| {
                let (_, passes) = self
                    .before
                    .get(&instance.number())
                    .copied()
                    .unwrap_or_default();
                instance.status().pass_count <= passes
            })
            .map(crate::supervisor::Instance::number)
            .collect()
    }
}

fn told(traffic: &Sample) -> String {
    match (traffic.requests, traffic.error_share()) {
        (0, _) | (_, None) => "healthy; no traffic came meanwhile, probes alone judged".to_owned(),
        (requests, Some(share)) => {
            format!(
                "healthy; {requests} requests, {:.1} % failed",
                share * 100.0
            )
        }
    }
}
