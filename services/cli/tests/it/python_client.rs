//! A generated Python client against a real mesh: what others build on the contract alone.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::repository::{Commit, Repository};
use testkit::requirement::peer_program;
use tokio::process::Command;

use crate::mesh::{Place, is_equipped};

// Every workflow of it, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

const LIBRARY: &str = "def price():\n    return 2\n";
const TESTS: &str = "\
import unittest

import shop


class Price(unittest.TestCase):
    def test_price(self):
        self.assertEqual(shop.price(), 2)
";

/// A library with a good change on the branch `good`.
pub fn library() -> Result<Repository> {
    let mut repository = Repository::with_files([("shop.py", LIBRARY), ("test_shop.py", TESTS)])?;
    repository.commit(
        Commit::on("good")
            .from("main")
            .write("shop.py", "def price():\n    return 1 + 1\n"),
    )?;
    Ok(repository)
}

#[tokio::test]
async fn a_generated_python_client_is_served_and_told_every_wrong_field() -> Result<()> {
    if !is_equipped() || !has_peers() {
        return Ok(());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Place::new()?;
    let generated = tempfile::tempdir()?;
    let mut generate = Command::new(here.join("../../scripts/proto"));
    generate.arg("python").arg(generated.path());
    succeeds(generate).await?;

    let mesh = place.start().await?;
    let repository = library()?;
    let validation = mesh.ready["agents"]
        .as_array()
        .context("no agents")?
        .iter()
        .find(|agent| agent["agentType"] == "validation")
        .context("no validation agent")?;
    let mut client = Command::new(peer_program("python"));
    client
        .arg("-B")
        .arg(here.join("tests/it/python_client/client.py"))
        .arg(mesh.ready["address"].as_str().context("no address")?)
        .arg(validation["address"].as_str().context("no address")?)
        .arg(repository.url())
        .env("PYTHONPATH", generated.path());
    succeeds(client).await?;
    mesh.stop().await
}

/// What `scripts/install peers` installs is there.
pub fn has_peers() -> bool {
    let folder = testkit::requirement::build_folder().join("peers");
    let reason = "`scripts/install peers` installs it";
    testkit::requirement::is_given(folder.is_dir(), "PEERS", reason)
}

async fn succeeds(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(())
}
