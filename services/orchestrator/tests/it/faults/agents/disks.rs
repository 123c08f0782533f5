//! No room on the disk of an agent, and artifact stores that are full or away.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use contracts::client;
use contracts::orchestrator::artifact_service_client::ArtifactServiceClient;
use contracts::orchestrator::{AgentState, DownloadArtifactRequest};
use testkit::fault_proxy::FaultProxy;

use super::bed::{Bed, eventually};
use crate::artifacts::s3::{BUCKET, Moto};
use crate::disk::SmallDisk;
use crate::faults::figures::Figures;
use crate::faults::invariants::Begun;
use crate::faults::worker::{Manner, Worker};

const AGENT_DISK_MEBIBYTES: u32 = 16;
const STORE_MEBIBYTES: u32 = 512;
// More than what a store writes in one go, so that writes break in the middle.
const ARTIFACT_BYTES: usize = 400 << 10;
// The probe of an agent's disk runs every 5 s.
const UNFIT_WITHIN: Duration = Duration::from_secs(12);
const FAILURES: i64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_room_on_its_disk_fails_its_task_with_the_reason_and_gets_none() {
    let Some(disk) = SmallDisk::new(AGENT_DISK_MEBIBYTES) else {
        return;
    };
    let bed = Bed::start(|_, _| {}).await;
    let mut orders = bed.orders("full");
    orders.data = disk.path().join("data");
    let worker = Worker::start(&orders, "full").await;
    let [mut victim] = bed.victims([worker], 2, Manner::Talks).await;
    let url = victim.worker.url().to_owned();
    let mut load = bed.load();

    // Before its events need the disk: what a failed attempt leaves makes no room for the next.
    let since = Instant::now();
    disk.fill();
    let unfit = bed
        .until(&url, |agent| agent.state() == AgentState::Unfit)
        .await;
    let detected = since.elapsed();
    assert!(detected < UNFIT_WITHIN, "{detected:?}");
    assert!(unfit.reason.contains("takes no writes"), "{unfit:?}");
    assert!(unfit.reason.contains("No space left"), "{unfit:?}");
    for again in victim.retried().await {
        assert_eq!(again.class, "retryable", "{again:?}");
        assert!(again.reason.contains("No space left"), "{again:?}");
    }
    let recovered = victim.restarted().await - since;
    let begun = bed.begun_by(&victim.instance_id);
    load.more(30).await;
    assert_eq!(bed.begun_by(&victim.instance_id), begun, "it got work");

    disk.clear();
    bed.until(&url, |agent| agent.state() == AgentState::Ready)
        .await;
    eventually(|| bed.begun_by(&victim.instance_id) > begun).await;
    let figures = Figures {
        fault: "agent's disk full",
        detected,
        recovered,
    };
    bed.end(load, victim.held, vec![figures], Begun::PerAttempt)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_artifact_store_fails_tasks_with_the_reason_and_serves_nothing_half_written() {
    let Some(disk) = SmallDisk::new(STORE_MEBIBYTES) else {
        return;
    };
    let place = format!("file:{}", disk.path().join("artifacts").display());
    let bed = Bed::start(|setting, orders| {
        setting.artifacts = Some(place);
        orders.artifact_bytes = ARTIFACT_BYTES;
    })
    .await;
    breaks(&bed, "artifact store full", || disk.fill(), || disk.clear()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_is_away_fails_tasks_with_the_reason_and_recovers_by_itself() {
    testkit::require!(Moto);
    let moto = Moto::start().await;
    let address = moto.url.trim_start_matches("http://").trim_end_matches('/');
    let proxy = FaultProxy::start(address.parse().unwrap()).await.unwrap();
    let place = format!(
        "s3://{BUCKET}/mesh?region=us-east-1&endpoint={}",
        proxy.url()
    );
    let bed = Bed::start(|setting, orders| {
        setting.artifacts = Some(place);
        setting.environment = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .map(|name| (name.to_owned(), "test".to_owned()))
            .to_vec();
        orders.artifact_bytes = ARTIFACT_BYTES;
    })
    .await;
    breaks(
        &bed,
        "object store away",
        || proxy.refuse(true),
        || proxy.refuse(false),
    )
    .await;
}

async fn breaks(bed: &Bed, fault: &'static str, begin: impl Fn(), end: impl Fn()) {
    let mut load = bed.load();
    load.more(10).await;
    let connection = bed.database.connect().await.unwrap();
    let failures = async || -> i64 {
        let count = "SELECT count(*) FROM attempts WHERE ending = 'failed'";
        connection.query_one(count, &[]).await.unwrap().get(0)
    };
    let since = Instant::now();
    begin();
    until_more(&failures, 0).await;
    let detected = since.elapsed();
    until_more(&failures, FAILURES - 1).await;
    end();
    let ended = Instant::now();
    load.more(10).await;
    let recovered = ended.elapsed();

    let figures = Figures {
        fault,
        detected,
        recovered,
    };
    bed.end(load, Vec::new(), vec![figures], Begun::PerAttempt)
        .await;
    let wrong = "SELECT reason FROM attempts WHERE ending = 'failed'
                 AND reason <> 'the artifact store is away, full or refuses; nothing was kept'";
    let wrong = connection.query(wrong, &[]).await.unwrap();
    let wrong: Vec<String> = wrong.iter().map(|row| row.get(0)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_whole(bed).await;
}

async fn until_more(count: &impl AsyncFn() -> i64, than: i64) {
    let begun = Instant::now();
    let mut again = tokio::time::interval(Duration::from_millis(50));
    while count().await <= than {
        assert!(begun.elapsed() < Duration::from_mins(1), "no attempt fails");
        again.tick().await;
    }
}

// Every stage that was completed has its artifact, and everything that is listed is served whole.
async fn assert_whole(bed: &Bed) {
    let connection = bed.database.connect().await.unwrap();
    let missing = "SELECT count(*) FROM attempts t WHERE ending = 'completed' AND NOT EXISTS (
                       SELECT 1 FROM artifacts a WHERE a.workflow_id = t.workflow_id
                       AND a.stage = t.stage AND a.attempt = t.attempt AND a.name = 'report')";
    let missing: i64 = connection.query_one(missing, &[]).await.unwrap().get(0);
    assert_eq!(missing, 0, "artifacts are missing");
    let rows = connection
        .query("SELECT digest, size_bytes FROM artifacts", &[])
        .await
        .unwrap();
    let channel = client::channel(bed.replica.url(), None).unwrap();
    for row in rows {
        let (digest, size): (String, i64) = (row.get(0), row.get(1));
        let request = DownloadArtifactRequest {
            digest: digest.clone(),
            ..DownloadArtifactRequest::default()
        };
        let mut stream = ArtifactServiceClient::new(channel.clone())
            .download_artifact(request)
            .await
            .unwrap()
            .into_inner();
        let (mut hash, mut count) = (Sha256::new(), 0);
        while let Some(message) = stream.message().await.unwrap() {
            count += message.chunk.len();
            hash.update(&message.chunk);
        }
        assert_eq!(count, usize::try_from(size).unwrap());
        assert_eq!(format!("sha256:{}", hex::encode(hash.finalize())), digest);
    }
}
