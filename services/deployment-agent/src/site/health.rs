//! Looks at what is live: through the router, as users come, and at each instance.

use std::{net::SocketAddr, time::Duration};

use super::{Error, Site};
use crate::{
    probe::{self, Observation, Outcome},
    spec::{HttpCheck, ProbeRule, Ready, Spec},
    verdict::Verdict,
};

/// Health of what is live.
#[derive(Debug, Clone)]
pub struct HealthAccount {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// Every look and how often it was tried.
    pub probes: Vec<(Observation, u32)>,
}

impl Site {
    /// Looks at what is live; with a path, that path must answer 200.
    pub async fn check_health(&self, path: Option<&str>) -> Result<HealthAccount, Error> {
        let ledger = self.ledger().await?;
        let (Some(live), Some(port)) = (ledger.live(), ledger.port) else {
            return Ok(HealthAccount {
                verdict: Verdict::NotProven,
                summary: format!("nothing of {} is live in {}", self.app, self.environment),
                probes: Vec::new(),
            });
        };
        let spec = &live.spec;
        let check = check_of(spec, path);
        let mut addresses = vec![SocketAddr::new(self.reachable(), port)];
        // While an operation holds the state, the way through the router is all there is to see.
        if let Ok(state) = self.state.try_lock()
            && let Some(fleet) = &state.live
        {
            addresses.extend(fleet.instances().iter().filter_map(|i| i.status().address));
        }
        let looks = addresses
            .iter()
            .map(|address| look(*address, check.as_ref(), &spec.probe));
        let probes = futures::future::join_all(looks).await;
        let failed = probes
            .iter()
            .find(|(seen, _)| seen.outcome == Outcome::Fail);
        let unseen = probes
            .iter()
            .find(|(seen, _)| seen.outcome == Outcome::NoData);
        let (verdict, summary) = match (failed, unseen) {
            (Some((seen, _)), _) => (Verdict::Failed, seen.sentence()),
            (None, Some((seen, _))) => (Verdict::NotProven, seen.sentence()),
            (None, None) => (
                Verdict::Passed,
                format!("revision {} of {} is healthy", live.number, self.app),
            ),
        };
        Ok(HealthAccount {
            verdict,
            summary,
            probes,
        })
    }

    fn reachable(&self) -> std::net::IpAddr {
        let listen = self.settings.listen;
        match (listen.is_unspecified(), listen) {
            (true, std::net::IpAddr::V4(_)) => std::net::Ipv4Addr::LOCALHOST.into(),
            (true, std::net::IpAddr::V6(_)) => std::net::Ipv6Addr::LOCALHOST.into(),
            (false, listen) => listen,
        }
    }
}

fn check_of(spec: &Spec, path: Option<&str>) -> Option<HttpCheck> {
    let declared = match &spec.ready {
        Ready::Http(check) => Some(check.clone()),
        Ready::Tcp | Ready::Log { .. } | Ready::DockerHealth => None,
    };
    match path {
        Some(path) => Some(HttpCheck {
            path: path.to_owned(),
            status: 200,
            contains: None,
        }),
        None => declared,
    }
}

/// Looks until it passes, at most as often as it takes to count as sick.
async fn look(
    address: SocketAddr,
    check: Option<&HttpCheck>,
    rule: &ProbeRule,
) -> (Observation, u32) {
    let mut tries = 0;
    loop {
        tries += 1;
        let seen = match check {
            Some(check) => probe::http(address, check, rule.timeout, rule.latency_below).await,
            None => probe::tcp(address, rule.timeout, Duration::ZERO).await,
        };
        if seen.outcome == Outcome::Pass || tries >= rule.failures.max(1) {
            return (seen, tries);
        }
        tokio::time::sleep(rule.interval.min(Duration::from_secs(1))).await;
    }
}
