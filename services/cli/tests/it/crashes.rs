//! `kill -9` of the whole mesh in the middle of each stage, at a moment that the project itself
//! marks: started again, the work is finished as if nothing had been, nothing was done twice, and who
//! watched missed nothing.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::repository::{Commit, Repository};

use crate::command::Running;
use crate::gate::Gate;
use crate::mesh::{Mesh, Place, finished, get, git, is_equipped, sequences};
use crate::processes::{self, Process};
use crate::shop::{self, Limits};

/// A mesh whose programs may be kept at a gate.
struct Scene {
    place: Place,
    gate: Gate,
}

impl Scene {
    fn new() -> Result<Self> {
        Ok(Self {
            place: Place::new()?,
            gate: Gate::new()?,
        })
    }

    async fn start(&self, with_gate: bool) -> Result<Mesh> {
        let mut up = self.place.up(&["--json"]);
        if with_gate {
            let path = std::env::var_os("PATH").context("no PATH")?;
            let folders = std::iter::once(self.gate.git()?).chain(std::env::split_paths(&path));
            up.env("PATH", std::env::join_paths(folders)?);
        }
        self.place.start_as(up).await
    }

    async fn submit(&self, arguments: &[&str]) -> Result<()> {
        let ended = self
            .place
            .run(&[&["run", "--detach"], arguments].concat())
            .await?;
        ensure!(ended.code == 0, "{ended:?}");
        Ok(())
    }

    // The shop with a change that the gate sees: its tests, and each start of the app.
    async fn change(&self, name: &str) -> Result<Repository> {
        let mut repository = shop::repository(name, Limits::AMPLE)?;
        repository.commit(
            Commit::on("change")
                .from("main")
                .message("Wait at the gate")
                .write(
                    "shop/__init__.py",
                    shop::library(&self.gate.python("\"tests\"")),
                )
                .write(
                    "shop/__main__.py",
                    shop::server(&self.gate.python("\"app\"")),
                ),
        )?;
        let url = repository.url();
        let arguments = [
            "--type",
            "change",
            "--repository",
            &url,
            "--source",
            "change",
            "--target",
            "main",
            "--name",
            name,
        ];
        self.submit(&arguments).await?;
        Ok(repository)
    }

    // The kill, the new life, and the end of the work.
    async fn survive(
        self,
        mesh: Mesh,
        name: &str,
        is_wanted: impl FnMut(&str) -> bool,
    ) -> Result<After> {
        let Self { place, gate } = self;
        let kept = gate.keep(is_wanted).await?;
        let before = place.run(&["events", name, "--json"]).await?.json()?;
        // It is of before the kill, and goes on over it.
        let data = place.data();
        let data = data.to_str().context("path")?;
        let mut watch = Running::start(&["--data", data, "watch", name, "--json"])?;
        let mut events: Vec<Value> = Vec::new();
        while sequences(&events).len() < before.len() {
            events.push(serde_json::from_str(&watch.line().await?)?);
        }
        let life = processes::below(mesh.pid()?.as_raw());
        assert!(!life.is_empty(), "nothing ran");
        mesh.kill().await?;
        let mesh = place.start().await?;
        kept.died().await?;
        drop(gate);
        let ended = watch.end().await?;
        assert_eq!(ended.code, 0, "{ended:?}");
        let workflow = finished(&ended)?;
        events.extend(ended.json()?);
        let left: Vec<_> = life.into_iter().filter(Process::is_alive).collect();
        assert_eq!(left, [], "of the killed life");
        Ok(After {
            place,
            mesh,
            workflow,
            before,
            events,
        })
    }
}

/// What is there when the work is done.
struct After {
    place: Place,
    mesh: Mesh,
    workflow: Value,
    before: Vec<Value>,
    events: Vec<Value>,
}

impl After {
    // The log goes on where it was, without a gap; the stage lost one attempt, and no other did.
    fn assert_charged(&self, stage: &str) -> Result<()> {
        let last: i64 = self.workflow["lastSequence"]
            .as_str()
            .context("no sequence")?
            .parse()?;
        assert_eq!(
            sequences(&self.events),
            (1..=last).collect::<Vec<_>>(),
            "gaps or repeats in the watch"
        );
        assert_eq!(self.before, self.events[..self.before.len()], "rewritten");
        for found in self.workflow["stages"].as_array().context("no stages")? {
            let name = found["name"].as_str().context("no name")?;
            assert_eq!(found["verdict"], json!("VERDICT_PASSED"), "{found}");
            let charged = (&found["attemptCount"], found.get("lostCount"));
            if name == stage {
                assert_eq!(charged, (&json!(2), Some(&json!(1))), "{name}");
            } else {
                assert_eq!(charged, (&json!(1), None), "{name}");
            }
            assert_eq!(found.get("failedCount"), None, "{name}");
            let results = self.events.iter().filter(|event| {
                event["stage"] == json!(name) && event.get("stageFinished").is_some()
            });
            assert_eq!(results.count(), 1, "results of {name}");
        }
        Ok(())
    }

    // One commit on the main line of the target since `base`, and it is the one that was told.
    fn assert_merged_once(&self, repository: &Path, base: &str) -> Result<()> {
        let told = &self.workflow["outcome"]["mergedCommit"];
        let since = format!("{base}..main");
        let log = git(repository, &["rev-list", "--first-parent", &since])?;
        assert_eq!(json!(log.lines().collect::<Vec<_>>()), json!([told]));
        Ok(())
    }

    // One revision answers, and it is all that runs.
    async fn assert_deployed_once(&self) -> Result<()> {
        let endpoint = self.workflow["outcome"]["endpoint"]
            .as_str()
            .context("no endpoint")?;
        assert_eq!(get(&format!("{endpoint}/health")).await?.0, 200);
        let apps = processes::working_in(&self.place.data().join("deployment"));
        assert_eq!(apps.len(), 1, "{apps:?}");
        Ok(())
    }
}

#[tokio::test]
async fn a_kill_after_scaffolding_published_leaves_one_branch_with_one_commit() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mesh = scene.start(true).await?;
    let name = &shop::unique("crash-scaffold");
    let arguments = ["--type", "app", "--template", "python-http", "--name", name];
    scene.submit(&arguments).await?;
    let after = scene
        .survive(mesh, name, |who| who.contains(":refs/heads/agentic/"))
        .await?;
    after.assert_charged("scaffold")?;
    let repository = &after.workflow["repository"];
    let base = repository["baseCommit"].as_str().context("no base")?;
    let path = Path::new(repository["url"].as_str().context("no repository")?);
    let branches = git(
        path,
        &["for-each-ref", "--format=%(refname)", "refs/heads/agentic"],
    )?;
    assert_eq!(branches.lines().count(), 1, "{branches}");
    let commits = git(path, &["rev-list", &format!("{base}..{branches}")])?;
    assert_eq!(commits.lines().count(), 1, "{commits}");
    after.assert_merged_once(path, base)?;
    after.assert_deployed_once().await?;
    after.mesh.stop().await
}

#[tokio::test]
async fn a_kill_while_tests_run_leaves_no_test_behind() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mesh = scene.start(false).await?;
    let name = &shop::unique("crash-validation");
    let repository = scene.change(name).await?;
    let base = repository.resolve("main")?;
    let after = scene.survive(mesh, name, |who| who == "tests").await?;
    after.assert_charged("validation")?;
    after.assert_merged_once(repository.path(), &base)?;
    after.assert_deployed_once().await?;
    after.mesh.stop().await
}

#[tokio::test]
async fn a_kill_while_an_app_is_tested_leaves_no_app_behind() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mesh = scene.start(false).await?;
    let name = &shop::unique("crash-e2e");
    let repository = scene.change(name).await?;
    let base = repository.resolve("main")?;
    let after = scene.survive(mesh, name, |who| who == "app").await?;
    after.assert_charged("e2e")?;
    after.assert_merged_once(repository.path(), &base)?;
    after.assert_deployed_once().await?;
    assert_eq!(processes::with_argument(name).len(), 1);
    after.mesh.stop().await
}

#[tokio::test]
async fn a_kill_after_integration_published_leaves_one_merge() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mesh = scene.start(true).await?;
    let name = &shop::unique("crash-integration");
    let repository = scene.change(name).await?;
    let base = repository.resolve("main")?;
    let after = scene
        .survive(mesh, name, |who| who.ends_with(":refs/heads/main"))
        .await?;
    after.assert_charged("integration")?;
    after.assert_merged_once(repository.path(), &base)?;
    after.assert_deployed_once().await?;
    after.mesh.stop().await
}

#[tokio::test]
async fn a_kill_while_an_app_is_deployed_leaves_one_revision_that_answers() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mesh = scene.start(false).await?;
    let name = &shop::unique("crash-deployment");
    let repository = scene.change(name).await?;
    let base = repository.resolve("main")?;
    // The first start of the app is that of the end-to-end tests.
    let mut starts = 0;
    let after = scene
        .survive(mesh, name, |who| {
            starts += usize::from(who == "app");
            starts == 2
        })
        .await?;
    after.assert_charged("deployment")?;
    after.assert_merged_once(repository.path(), &base)?;
    after.assert_deployed_once().await?;
    assert_eq!(processes::with_argument(name).len(), 1);
    after.mesh.stop().await
}
