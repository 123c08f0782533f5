//! Waits until a run is ready, and then watches its health: both by looking from outside.

use std::{net::SocketAddr, time::Duration};

use regex::Regex;
use tokio::{sync::watch, time::Instant};

use super::status::Status;
use crate::{
    instance_log::InstanceLog,
    probe::{self, Health, Observation, Outcome, Streak},
    spec::{Ready, Spec, TargetKind},
    target::Run,
};

/// Looks at a starting instance come this close together at first; a small app is ready in tens of
/// milliseconds and should not wait for a slow rhythm.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(25);

/// A connection to a container that nobody takes is closed by the engine within this.
const CONTAINER_KEEPS_OPEN: Duration = Duration::from_millis(100);

/// The pattern that the run's log must show, if that is how it says that it is ready.
pub(super) fn pattern(spec: &Spec) -> Result<Option<Regex>, regex::Error> {
    match &spec.ready {
        Ready::Log { pattern } => Regex::new(pattern).map(Some),
        Ready::Http(_) | Ready::Tcp | Ready::DockerHealth => Ok(None),
    }
}

/// Waits until the run is ready and says where it listens. An error says what was seen last.
pub(super) async fn until_ready(
    spec: &Spec,
    run: &dyn Run,
    log: &InstanceLog,
    status: &watch::Sender<Status>,
) -> Result<SocketAddr, String> {
    let deadline = Instant::now() + spec.ready_within;
    let mut address = run.address();
    if matches!(spec.ready, Ready::Log { .. }) {
        let line = tokio::time::timeout_at(deadline, log.ready_line()).await;
        let line = line.map_err(|_| {
            format!(
                "its log did not say that it is ready within {:?}",
                spec.ready_within
            )
        })?;
        if let Some(port) = line.port
            && spec.target == TargetKind::Process
        {
            address.set_port(port);
        }
    }
    let mut streak = Streak::default();
    let mut wait = FIRST_LOOK_EVERY;
    let mut last: Option<Observation> = None;
    loop {
        let look = look(spec, run, address);
        match tokio::time::timeout_at(deadline, look).await {
            Ok(observation) => {
                streak.note(observation.outcome);
                last = Some(observation.clone());
                status.send_modify(|status| status.note(observation));
            }
            Err(_) => return Err(never_ready(spec, last.as_ref())),
        }
        // While it starts, failures are expected: only successes and the deadline decide.
        if streak.health(&spec.probe) == Health::Healthy {
            return smoke(spec, address, deadline, status)
                .await
                .map(|()| address);
        }
        if Instant::now() + wait >= deadline {
            return Err(never_ready(spec, last.as_ref()));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(spec.probe.interval);
    }
}

/// Asks what the project says that it answers. A few failures are forgiven, as anywhere else.
async fn smoke(
    spec: &Spec,
    address: SocketAddr,
    deadline: Instant,
    status: &watch::Sender<Status>,
) -> Result<(), String> {
    for check in &spec.smoke {
        let mut failures = 0;
        loop {
            let look = probe::http(address, check, spec.probe.timeout, None);
            let Ok(seen) = tokio::time::timeout_at(deadline, look).await else {
                return Err(never_ready(spec, None));
            };
            let (outcome, sentence) = (seen.outcome, seen.sentence());
            status.send_modify(|status| status.note(seen));
            match outcome {
                Outcome::Pass => break,
                Outcome::Fail => failures += 1,
                Outcome::NoData => {}
            }
            if failures >= spec.probe.failures.max(1) {
                return Err(format!(
                    "it is ready, but does not answer as declared: {sentence}"
                ));
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + spec.probe.interval)).await;
        }
    }
    Ok(())
}

fn never_ready(spec: &Spec, last: Option<&Observation>) -> String {
    match last {
        Some(last) => {
            format!(
                "it was not ready within {:?}: {}",
                spec.ready_within,
                last.sentence()
            )
        }
        None => format!("it was not ready within {:?}", spec.ready_within),
    }
}

/// What was seen of a sick instance.
pub(super) struct Sickness {
    pub(super) text: String,
    /// It does not even answer, so it may be dying.
    pub(super) silent: bool,
}

/// Returns when enough looks in a row failed, and says what was seen.
pub(super) async fn until_sick(
    spec: &Spec,
    run: &dyn Run,
    address: SocketAddr,
    status: &watch::Sender<Status>,
) -> Sickness {
    let mut streak = Streak::default();
    loop {
        tokio::time::sleep(spec.probe.interval).await;
        let observation = look(spec, run, address).await;
        streak.note(observation.outcome);
        let (sentence, silent) = (observation.sentence(), observation.status.is_none());
        status.send_modify(|status| status.note(observation));
        if streak.health(&spec.probe) == Health::Sick {
            let text = format!("{} probes in a row failed: {sentence}", spec.probe.failures);
            return Sickness { text, silent };
        }
    }
}

/// One look, as the revision wants to be looked at.
pub(super) async fn look(spec: &Spec, run: &dyn Run, address: SocketAddr) -> Observation {
    match &spec.ready {
        Ready::Http(check) => {
            probe::http(address, check, spec.probe.timeout, spec.probe.latency_below).await
        }
        Ready::Tcp | Ready::Log { .. } => {
            let keeps = match spec.target {
                TargetKind::Process => Duration::ZERO,
                TargetKind::Docker => CONTAINER_KEEPS_OPEN,
            };
            probe::tcp(address, spec.probe.timeout, keeps).await
        }
        Ready::DockerHealth => run.platform_health().await.unwrap_or_else(|| Observation {
            url: format!("health check of the container at {address}"),
            outcome: Outcome::NoData,
            status: None,
            latency: Duration::ZERO,
            error: Some("has no health check of its own".to_owned()),
            body: String::new(),
        }),
    }
}
