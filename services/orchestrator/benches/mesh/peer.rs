//! Another system that does the same work: DBOS, five durable no-op steps a workflow, on the same
//! database server. Only when it is asked for, and installed by `scripts/install bench-peers`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use testkit::requirement::build_folder;

/// Its name.
pub const NAME: &str = "DBOS";

/// How it is run.
#[derive(Debug)]
pub struct Peer {
    python: PathBuf,
}

/// What was measured of it.
#[derive(Debug, Deserialize)]
pub struct Measured {
    /// Workflows a second.
    pub rate: f64,
    /// Median of one workflow, in milliseconds.
    pub p50_ms: f64,
}

impl Peer {
    /// As it was installed.
    pub fn installed() -> Self {
        let python = build_folder().join("bench-peers/bin/python");
        assert!(
            python.exists(),
            "the peer is not installed: scripts/install bench-peers"
        );
        Self { python }
    }

    /// So many workflows at a time, for a while.
    pub fn measure(&self, url: &str, concurrency: usize, time: Duration) -> Measured {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/peers/five_steps_on_dbos.py"
        );
        let output = Command::new(&self.python)
            .args([program, url])
            .args([concurrency.to_string(), time.as_secs_f64().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "the peer failed");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
