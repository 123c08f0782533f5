//! Keeps what tells why a revision failed, before anything of it is torn down.

use std::path::Path;

use serde::Serialize;

use crate::{
    fleet::Fleet,
    probe::Observation,
    router::Router,
    supervisor::{Instance, Phase},
    target::End,
};

/// Deployments whose evidence is kept.
const KEPT: usize = 20;
/// Lines of a log that are kept.
const LOG_LINES: usize = 1000;

#[derive(Serialize)]
struct Evidence<'a> {
    revision: u64,
    commit: &'a str,
    instance: u32,
    phase: String,
    problem: Option<String>,
    end: Option<End>,
    restart_count: u32,
    probes: Vec<Observation>,
    requests: u64,
    server_errors: u64,
    transport_errors: u64,
}

/// Writes the evidence of every instance; says which files, relative to the app's folder.
pub(super) async fn keep(
    site: &Path,
    deployment_id: &str,
    fleet: &Fleet,
    router: &Router,
) -> Vec<String> {
    let mut kept = Vec::new();
    let folder = Path::new("forensics").join(deployment_id);
    if let Err(error) = tokio::fs::create_dir_all(site.join(&folder)).await {
        tracing::warn!(%error, "cannot keep forensics");
        return kept;
    }
    for instance in fleet.instances() {
        let stem = format!("instance-{}", instance.number());
        let text =
            serde_json::to_vec_pretty(&evidence(instance, fleet, router)).unwrap_or_default();
        let log = instance.log().last_lines(LOG_LINES).into_bytes();
        for (file, bytes) in [(format!("{stem}.json"), text), (format!("{stem}.log"), log)] {
            let file = folder.join(file);
            match tokio::fs::write(site.join(&file), bytes).await {
                Ok(()) => kept.push(file.to_string_lossy().into_owned()),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "cannot keep forensics");
                }
            }
        }
    }
    prune(&site.join("forensics")).await;
    kept
}

fn evidence<'a>(instance: &Instance, fleet: &'a Fleet, router: &Router) -> Evidence<'a> {
    let status = instance.status();
    let traffic = router.group_sample(fleet.revision());
    Evidence {
        revision: fleet.revision(),
        commit: &fleet.crew().spec.commit,
        instance: instance.number(),
        phase: match status.phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Restarting => "restarting",
            Phase::Failed => "failed",
            Phase::Stopped => "stopped",
        }
        .to_owned(),
        problem: status.problem,
        end: status.end,
        restart_count: status.restart_count,
        probes: status.probes.into(),
        requests: traffic.requests,
        server_errors: traffic.server_errors,
        transport_errors: traffic.transport_errors,
    }
}

/// Deployment ids sort by time, so the first ones are the oldest.
async fn prune(folder: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else {
        return;
    };
    let mut paths = Vec::new();
    while let Ok(Some(entry)) = entries.next_entry().await {
        paths.push(entry.path());
    }
    paths.sort();
    let excess = paths.len().saturating_sub(KEPT);
    for path in paths.into_iter().take(excess) {
        if let Err(error) = tokio::fs::remove_dir_all(&path).await {
            tracing::warn!(path = %path.display(), %error, "cannot remove old forensics");
        }
    }
}
