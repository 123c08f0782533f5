//! Accounts as results on the wire. Decides nothing.

use std::time::Duration;

use agent_runtime::process::Finished;
use contracts::{
    deployment as wire,
    task::{
        ApprovalEffect, DecisionCategory, DecisionRequest, Outcome, Repository, ToolRun,
        Verdict as WireVerdict,
    },
    wire_time,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::{
    account::{Account, Happening, Prerequisite, RollbackAccount, Step},
    engine::{Built, Pushed},
    ledger::{Ledger, Revision, RevisionState},
    probe::Observation,
    site::HealthAccount,
    spec::TargetKind,
    strategy::Strategy,
    verdict::Verdict,
};

/// Revisions of a status (bound of the contract).
const MAX_REVISIONS: usize = 50;

/// Choices of the decision about a sick revision that cannot be taken back by itself.
pub const CHOICE_ROLL_BACK: &str = "roll back";
/// The other choice.
pub const CHOICE_KEEP: &str = "keep";

pub(crate) fn verdict(verdict: Verdict) -> WireVerdict {
    match verdict {
        Verdict::Passed => WireVerdict::Passed,
        Verdict::Failed => WireVerdict::Failed,
        Verdict::NotProven => WireVerdict::NotProven,
    }
}

/// A result with nothing but its outcome.
pub(crate) fn plain(
    of: Verdict,
    summary: impl Into<String>,
    repository: Option<Repository>,
) -> wire::DeploymentResult {
    wire::DeploymentResult {
        outcome: Some(Outcome {
            verdict: verdict(of).into(),
            summary: summary.into(),
            repository,
            ..Outcome::default()
        }),
        ..wire::DeploymentResult::default()
    }
}

/// The result of a deployment.
pub(crate) fn deployed(
    account: &Account,
    repository: Option<Repository>,
    runs: &[Finished],
) -> wire::DeploymentResult {
    let mut result = plain(account.verdict, &account.summary, repository);
    if let Some(outcome) = &mut result.outcome {
        outcome.endpoint = account.endpoint.clone().unwrap_or_default();
        outcome.revision = account.live.map(|n| n.to_string()).unwrap_or_default();
        outcome.project_is_app = Some(true);
        outcome.tool_runs = runs.iter().map(tool_run).collect();
        outcome.decision = account.needs_person.then(|| sick_after_migration(account));
    }
    result.prerequisites = account.prerequisites.iter().map(prerequisite).collect();
    result.deployment = Some(report(account));
    result.rollback = account.rollback.as_ref().map(rollback);
    result
}

/// The result of a rollback that somebody asked for.
pub(crate) fn rolled_back(
    account: &Account,
    repository: Option<Repository>,
) -> wire::DeploymentResult {
    let mut result = deployed(account, repository, &[]);
    if let Some(outcome) = &mut result.outcome {
        outcome.project_is_app = None;
    }
    result
}

fn report(account: &Account) -> wire::DeploymentReport {
    wire::DeploymentReport {
        deployment_id: account.deployment_id.clone(),
        revision: number(account.revision),
        endpoint: account.endpoint.clone().unwrap_or_default(),
        desired_count: count(account.desired_count),
        running_count: count(account.running_count),
        failed_count: count(account.failed_count),
        strategy: strategy(&account.strategy).into(),
        target: match account.target {
            TargetKind::Process => wire::TargetKind::Process,
            TargetKind::Docker => wire::TargetKind::Docker,
        }
        .into(),
        steps: account.steps.iter().map(step).collect(),
        events: account.events.iter().map(event).collect(),
        already_live: account.already_live,
        commit: account.commit.clone(),
        failed_request_count: i64::try_from(account.failed_request_count).unwrap_or(i64::MAX),
    }
}

fn strategy(strategy: &Strategy) -> wire::Strategy {
    match strategy {
        Strategy::Rolling => wire::Strategy::Rolling,
        Strategy::BlueGreen => wire::Strategy::BlueGreen,
        Strategy::Canary { .. } => wire::Strategy::Canary,
        Strategy::Recreate => wire::Strategy::Recreate,
    }
}

fn step(step: &Step) -> wire::DeploymentStep {
    wire::DeploymentStep {
        name: step.name.clone(),
        verdict: verdict(step.verdict).into(),
        reason: step.reason.clone(),
        duration: Some(duration(step.duration)),
    }
}

fn event(event: &Happening) -> wire::DeploymentEvent {
    wire::DeploymentEvent {
        time: Some(timestamp(event.time)),
        message: event.message.clone(),
    }
}

fn rollback(rollback: &RollbackAccount) -> wire::RollbackReport {
    wire::RollbackReport {
        from_revision: number(rollback.from),
        to_revision: number(rollback.to),
        duration: Some(duration(rollback.duration)),
        reason: rollback.reason.clone(),
    }
}

pub(crate) fn prerequisite(found: &Prerequisite) -> wire::Prerequisite {
    wire::Prerequisite {
        name: found.name.clone(),
        verdict: verdict(found.verdict).into(),
        reason: found.reason.clone(),
    }
}

/// The result of a build.
pub(crate) fn built(built: &Built, repository: Option<Repository>) -> wire::DeploymentResult {
    let summary = format!("built {} of {} bytes", built.image_id, built.size_bytes);
    let mut result = plain(Verdict::Passed, summary, repository);
    result.build = Some(wire::BuildReport {
        image_id: built.image_id.clone(),
        digest: String::new(),
        size_bytes: number(Some(built.size_bytes)),
        duration: Some(duration(built.duration)),
        layer_count: i32::try_from(built.layer_count).unwrap_or(i32::MAX),
        warnings: built.warnings.clone(),
    });
    result
}

/// The result of a push.
pub(crate) fn pushed(pushed: &Pushed, repository: Option<Repository>) -> wire::DeploymentResult {
    let uri = format!("{}@{}", pushed.repository, pushed.digest);
    let mut result = plain(Verdict::Passed, format!("pushed {uri}"), repository);
    result.push = Some(wire::PushReport {
        repository: pushed.repository.clone(),
        digest: pushed.digest.clone(),
        uri,
        push_time: Some(timestamp(pushed.time)),
    });
    result
}

/// The result of a look at what is live.
pub(crate) fn health(
    account: &HealthAccount,
    repository: Option<Repository>,
) -> wire::DeploymentResult {
    let mut result = plain(account.verdict, &account.summary, repository);
    result.health = Some(wire::HealthReport {
        verdict: verdict(account.verdict).into(),
        probes: account
            .probes
            .iter()
            .map(|(seen, tries)| probe(seen, *tries))
            .collect(),
    });
    result
}

fn probe(seen: &Observation, tries: u32) -> wire::Probe {
    wire::Probe {
        url: seen.url.clone(),
        status: i32::from(seen.status.unwrap_or_default()),
        latency: Some(duration(seen.latency)),
        attempt_count: count(tries),
        error: seen.error.clone().unwrap_or_default(),
        body: seen.body.clone(),
    }
}

/// The result of a question what is live.
pub(crate) fn status(
    ledger: &Ledger,
    endpoint: Option<String>,
    repository: Option<Repository>,
) -> wire::DeploymentResult {
    let live = ledger.live().map(|revision| revision.number);
    let summary = match live {
        Some(live) => format!(
            "revision {live} of {} is live in {}",
            ledger.app(),
            ledger.environment()
        ),
        None => format!(
            "nothing of {} is live in {}",
            ledger.app(),
            ledger.environment()
        ),
    };
    let mut result = plain(Verdict::Passed, summary, repository);
    if let Some(outcome) = &mut result.outcome {
        outcome.revision = live.map(|live| live.to_string()).unwrap_or_default();
        outcome.endpoint = endpoint.clone().unwrap_or_default();
    }
    result.status = Some(wire::StatusReport {
        endpoint: endpoint.unwrap_or_default(),
        revisions: ledger
            .revisions()
            .iter()
            .rev()
            .take(MAX_REVISIONS)
            .map(|revision| revision_of(revision, live))
            .collect(),
    });
    result
}

fn revision_of(revision: &Revision, live: Option<u64>) -> wire::Revision {
    let is_live = live == Some(revision.number);
    let state = match revision.state {
        RevisionState::Deploying => "deploying",
        RevisionState::Verified if is_live => "live",
        RevisionState::Verified => "verified",
        RevisionState::Failed | RevisionState::RolledBack => "failed",
        RevisionState::Interrupted => "interrupted",
    };
    wire::Revision {
        revision: number(Some(revision.number)),
        commit: revision.commit.clone(),
        state: state.to_owned(),
        create_time: Some(timestamp(revision.create_time)),
        live: is_live,
    }
}

fn sick_after_migration(account: &Account) -> DecisionRequest {
    let shown = format!(
        "{}\n\nDeployment {}, commit {}.\n\nIts migration cannot be undone: the revision before may \
         not be able to live with the data.",
        account.summary, account.deployment_id, account.commit
    );
    DecisionRequest {
        category: DecisionCategory::DataMigration.into(),
        question:
            "The new revision is sick after an irreversible migration: roll back all the same?"
                .to_owned(),
        subject_digest: format!("sha256:{}", hex::encode(Sha256::digest(&shown))),
        detail: shown,
        choices: vec![CHOICE_ROLL_BACK.to_owned(), CHOICE_KEEP.to_owned()],
        on_approval: ApprovalEffect::Rerun.into(),
        confidence: 0.0,
    }
}

fn tool_run(finished: &Finished) -> ToolRun {
    let exit_code = finished.ending.exit_code();
    ToolRun {
        tool: finished.argv.first().cloned().unwrap_or_default(),
        version: String::new(),
        argv: finished.argv.clone(),
        exit_code,
        ending: if exit_code.is_some() {
            String::new()
        } else {
            finished.ending.to_string()
        },
        duration: Some(duration(finished.duration)),
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    wire_time::wire_duration(duration)
}

fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    wire_time::timestamp(time.into())
}

fn number(number: Option<u64>) -> i64 {
    i64::try_from(number.unwrap_or_default()).unwrap_or(i64::MAX)
}

fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
