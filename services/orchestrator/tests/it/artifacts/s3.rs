//! The same over S3, against a stand-in that others wrote.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use contracts::error_reason::ErrorReason;
use object_store::aws::AmazonS3Builder;
use orchestrator::artifacts::{ArtifactStore, Digest, Location};
use testkit::{
    fault_proxy::{Fault, FaultProxy},
    requirement::peer_program,
};
use tokio_util::task::TaskTracker;

use super::bed::{Bed, description, noise, read_error};

/// Its bucket.
pub const BUCKET: &str = "artifacts";

/// A running `moto_server`, ended when dropped.
pub struct Moto {
    process: Child,
    pub url: String,
}

impl Moto {
    pub async fn start() -> Self {
        let mut process = Command::new(peer_program("moto_server"))
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split("Running on ")
                    .nth(1)
                    .map(|url| url.trim().to_owned())
            })
            .expect("moto_server says where it listens");
        // It stops when nobody reads what it says.
        thread::spawn(move || lines.for_each(drop));
        let moto = Self { process, url };
        service_runtime::tls::install_crypto();
        let created = reqwest::Client::new()
            .put(format!("{}/{BUCKET}", moto.url))
            .header("host", "s3.us-east-1.amazonaws.com")
            .send()
            .await
            .unwrap();
        assert!(created.status().is_success(), "{created:?}");
        moto
    }

    fn store(endpoint: &str) -> ArtifactStore {
        let location: Location = format!("s3://{BUCKET}/mesh?region=us-east-1&endpoint={endpoint}")
            .parse()
            .unwrap();
        let s3 = AmazonS3Builder::new()
            .with_access_key_id("test")
            .with_secret_access_key("test");
        ArtifactStore::open_with(&location, s3, TaskTracker::new()).unwrap()
    }

    async fn objects(&self) -> String {
        let list = format!("{}/{BUCKET}?list-type=2", self.url);
        reqwest::get(list).await.unwrap().text().await.unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn s3_keeps_what_is_right_and_nothing_else() {
    testkit::require!(Moto);
    let moto = Moto::start().await;
    let mut bed = Bed::serving(Moto::store(&moto.url), tempfile::tempdir().unwrap()).await;
    // In one step, and in parts.
    for length in [0, 1000, 12 << 20] {
        let bytes = noise(length);
        let digest = bed.upload("bytes", &bytes).await.artifact.unwrap().digest;
        assert_eq!(
            bed.download(&digest).await.unwrap(),
            bytes,
            "{length} bytes"
        );
    }
    let bytes = noise(12 << 20);
    let digest = Digest::of(&bytes).to_string();
    let part = bed
        .download_range(&digest, 6_000_000, 2_000_000)
        .await
        .unwrap();
    assert_eq!(part, bytes[6_000_000..8_000_000]);

    let lies = noise(11 << 20);
    let mut lie = description("lie", &lies);
    lie.artifact.as_mut().unwrap().digest = Digest::of(b"else").to_string();
    assert_eq!(
        read_error(bed.send(lie, &lies).await).reason,
        ErrorReason::DigestMismatch
    );
    let objects = moto.objects().await;
    assert_eq!(objects.matches("<Key>").count(), 3, "{objects}");
    assert!(objects.contains("<Key>mesh/sha256/"), "{objects}");
}

#[tokio::test]
async fn s3_that_is_away_is_said_to_be_away_and_works_again_when_it_is_back() {
    testkit::require!(Moto);
    let moto = Moto::start().await;
    let address = moto
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let proxy = FaultProxy::start(address).await.unwrap();
    let mut bed = Bed::serving(Moto::store(&proxy.url()), tempfile::tempdir().unwrap()).await;
    let bytes = noise(1000);
    proxy.set_both(Fault::None);
    proxy.refuse(true);
    let error = read_error(bed.send(description("x", &bytes), &bytes).await);
    assert_eq!(error.reason, ErrorReason::ArtifactStoreUnavailable);
    proxy.refuse(false);
    let digest = bed.upload("x", &bytes).await.artifact.unwrap().digest;
    assert_eq!(bed.download(&digest).await.unwrap(), bytes);
}
