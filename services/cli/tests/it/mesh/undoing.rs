//! What was done before a failure is taken back over the whole mesh, newest first: what was deployed,
//! then what was merged. Nobody else's work is lost by it, and what cannot be taken back is said.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::repository::{Commit, Repository};

use super::{finished, get, is_equipped, shared, stage};
use crate::command::{Ended, Running};
use crate::gate::Gate;
use crate::processes;
use crate::shop::{self, Limits};

// Merged and deployed, and only then found to be bad.
const PROBED: &str = "
name: probed
stages:
  - name: integration
    task: {integration: {merge: {run_checks: true}}}
    undo: {integration: {revert: {reason: it is not well}}}
  - name: deployment
    needs: [{stage: integration}]
    task: {deployment: {deploy: {}}}
    undo: {deployment: {rollback: {reason: it is not well}}}
  - name: probe
    needs: [{stage: deployment}]
    task: {deployment: {check_health: {path: /later}}}
";

const BUILT_IN: &[&str] = &["--type", "change"];

// An app, and changes of it that are stopped at the gate whenever they start.
struct Scene {
    name: String,
    repository: Repository,
    gate: Gate,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let name = shop::unique(name);
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("probed.yaml"), PROBED)?;
        Ok(Self {
            repository: shop::repository(&name, Limits::AMPLE)?,
            name,
            gate: Gate::new()?,
            folder,
        })
    }

    fn pipeline(&self) -> String {
        format!("@{}", self.folder.path().join("probed.yaml").display())
    }

    fn submission<'a>(&'a self, kind: &[&'a str], source: &'a str, url: &'a str) -> Vec<&'a str> {
        let fixed = ["run", "--no-input", "--json", "--target", "main"];
        let own = [
            "--name",
            &self.name,
            "--repository",
            url,
            "--source",
            source,
        ];
        [&fixed[..], &own, kind].concat()
    }

    // The revision that others go back to.
    async fn first(&mut self, kind: &[&str]) -> Result<Value> {
        self.repository.commit(
            Commit::on("first")
                .from("main")
                .write("shop/__init__.py", "def price():\n    return 1 + 1\n"),
        )?;
        let url = self.repository.url();
        let ended = shared::place()?
            .run(&self.submission(kind, "first", &url))
            .await?;
        ensure!(ended.code == 0, "{ended:?}");
        finished(&ended)
    }

    // The next one, which says so, and first does this.
    fn second(&mut self, first: &str) -> Result<()> {
        let server = shop::server(&format!("{}\n{first}", self.gate.python("\"app\"")))
            .replace("b\"shop\"", "b\"shop 2\"")
            .replace(
                "send_response(200)",
                "send_response(500 if self.path == \"/later\" else 200)",
            );
        self.repository.commit(
            Commit::on("second")
                .from("main")
                .message("Second edition")
                .write("shop/__init__.py", "def price():\n    return 4 - 2\n")
                .write("shop/__main__.py", server),
        )?;
        Ok(())
    }

    // Runs the second one; `meanwhile` is done when it was merged and is started for the `start`th time.
    async fn run(
        self,
        kind: &[&str],
        start: usize,
        meanwhile: impl FnOnce(&mut Repository, &Path) -> Result<()>,
    ) -> Result<Taken> {
        let Self {
            name,
            mut repository,
            gate,
            folder,
        } = self;
        let before = repository.resolve("main")?;
        let url = repository.url();
        let data = shared::place()?.data();
        let data = data.to_str().context("path")?;
        let fixed = ["--data", data, "run", "--no-input", "--json"];
        let own = ["--name", &name, "--repository", &url, "--source", "second"];
        let watch = Running::start(&[&fixed[..], &own, &["--target", "main"], kind].concat())?;
        let mut starts = 0;
        let kept = gate
            .keep(|_| {
                starts += 1;
                starts == start
            })
            .await?;
        let merge = repository.resolve("main")?;
        assert_ne!(merge, before, "not merged yet");
        meanwhile(&mut repository, folder.path())?;
        drop((kept, gate));
        let ended = watch.end().await?;
        let workflow = finished(&ended)?;
        Ok(Taken {
            name,
            repository,
            before,
            merge,
            events: ended.json()?,
            ended,
            workflow,
        })
    }
}

// What is there when everything was taken back that could be.
struct Taken {
    name: String,
    repository: Repository,
    before: String,
    merge: String,
    ended: Ended,
    events: Vec<Value>,
    workflow: Value,
}

impl Taken {
    // Stages that were undone, in the order of their events, and how that went.
    fn undone(&self) -> Vec<(&str, &str)> {
        self.events
            .iter()
            .filter_map(|event| {
                let undone = event.get("stageCompensated")?;
                Some((event["stage"].as_str()?, undone["verdict"].as_str()?))
            })
            .collect()
    }

    fn place_of(&self, stage: &str, kind: &str) -> Result<usize> {
        let is_wanted = |event: &Value| event["stage"] == json!(stage) && event.get(kind).is_some();
        let found = self.events.iter().position(is_wanted);
        found.with_context(|| format!("no {kind} of {stage} in {:?}", self.events))
    }

    // What a colleague pushed meanwhile is there, and nothing else is new: by one more commit.
    fn assert_reverted(&self) -> Result<()> {
        let main = self.repository.history("main")?;
        let since = &main[..main
            .iter()
            .position(|one| *one == self.before)
            .context("rewritten")?];
        assert!(since.contains(&self.merge), "{since:?}");
        let line = self.repository.git(&[
            "log",
            "--first-parent",
            "--format=%s",
            &format!("{}..main", self.before),
        ])?;
        let subjects: Vec<_> = line.lines().collect();
        assert_eq!(subjects.len(), 3, "{line}");
        assert!(subjects[0].starts_with("Revert \""), "{line}");
        assert_eq!(subjects[1], "Opening hours", "{line}");
        let changed = self
            .repository
            .git(&["diff", "--name-only", &self.before, "main"])?;
        assert_eq!(changed.trim(), "HOURS");
        assert!(self.workflow["outcome"].get("mergedCommit").is_none());
        Ok(())
    }

    // The revision of before has the traffic again, and is all that runs.
    async fn assert_serves_as_before(&self, first: &Value) -> Result<()> {
        let outcome = &self.workflow["outcome"];
        for fact in ["endpoint", "revision"] {
            assert_eq!(outcome[fact], first["outcome"][fact], "{outcome}");
        }
        let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
        let (status, body) = get(&format!("{endpoint}/")).await?;
        assert_eq!(status, 200);
        assert!(body.ends_with("shop"), "{body}");
        assert_eq!(processes::with_argument(&self.name).len(), 1);
        Ok(())
    }
}

fn opening_hours(repository: &mut Repository, _: &Path) -> Result<()> {
    let hours = Commit::on("main")
        .message("Opening hours")
        .write("HOURS", "9 to 5\n");
    repository.commit(hours)?;
    Ok(())
}

#[tokio::test]
async fn what_was_deployed_and_merged_is_taken_back_newest_first() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let mut scene = Scene::new("undo-both")?;
    let pipeline = scene.pipeline();
    let kind = ["--type", "custom", "--pipeline", &pipeline];
    let first = scene.first(&kind).await?;
    scene.second("")?;
    let taken = scene.run(&kind, 1, opening_hours).await?;
    assert_eq!(taken.ended.code, 1, "{:?}", taken.ended);
    let outcome = &taken.workflow["outcome"];
    assert_eq!(outcome["stage"], json!("probe"), "{outcome}");
    assert_eq!(
        taken.undone(),
        [
            ("deployment", "VERDICT_PASSED"),
            ("integration", "VERDICT_PASSED")
        ]
    );
    // One after the other, and nothing before it was known why.
    let order = [
        taken.place_of("probe", "stageFinished")?,
        taken.place_of("deployment", "stageCompensated")?,
        taken.place_of("integration", "stageCompensated")?,
    ];
    assert!(order.is_sorted(), "{order:?}");
    taken.assert_reverted()?;
    taken.assert_serves_as_before(&first).await
}

#[tokio::test]
async fn a_merge_whose_deployment_fails_is_taken_back_and_the_revision_before_serves() -> Result<()>
{
    if !is_equipped() {
        return Ok(());
    }
    let mut scene = Scene::new("undo-merge")?;
    let first = scene.first(BUILT_IN).await?;
    let broken = scene.folder.path().join("broken");
    scene.second(&format!(
        "if os.path.exists({:?}):\n    raise SystemExit('out of stock')\n",
        broken.to_str().context("path")?
    ))?;
    // The first start is that of the end-to-end tests.
    let taken = scene
        .run(BUILT_IN, 2, |repository, folder| {
            std::fs::write(folder.join("broken"), "")?;
            opening_hours(repository, folder)
        })
        .await?;
    assert_eq!(taken.ended.code, 1, "{:?}", taken.ended);
    let outcome = &taken.workflow["outcome"];
    assert_eq!(outcome["stage"], json!("deployment"), "{outcome}");
    let reason = outcome["reason"].as_str().context("no reason")?;
    assert!(reason.contains("out of stock"), "{reason}");
    // Deploying took its own revision back before it said so.
    assert_eq!(taken.undone(), [("integration", "VERDICT_PASSED")]);
    let rollback = &stage(&taken.workflow, "deployment")?["result"]["deployment"]["rollback"];
    assert_eq!(
        rollback["toRevision"], first["outcome"]["revision"],
        "{rollback}"
    );
    assert!(
        taken.place_of("deployment", "stageFinished")?
            < taken.place_of("integration", "stageCompensated")?
    );
    taken.assert_reverted()?;
    taken.assert_serves_as_before(&first).await
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_said_with_what_is_left_to_do() -> Result<()> {
    if !is_equipped() {
        return Ok(());
    }
    let mut scene = Scene::new("undo-impossible")?;
    let pipeline = scene.pipeline();
    scene.second("")?;
    // Nothing was deployed before, and somebody builds upon what was merged.
    let kind = ["--type", "custom", "--pipeline", &pipeline];
    let taken = scene
        .run(&kind, 1, |repository, _| {
            let more = "def price():\n    return 4 - 2  # on sale\n";
            repository.commit(
                Commit::on("main")
                    .message("A sale")
                    .write("shop/__init__.py", more),
            )?;
            Ok(())
        })
        .await?;
    assert_eq!(taken.ended.code, 1, "{:?}", taken.ended);
    assert_eq!(
        taken.undone(),
        [
            ("deployment", "VERDICT_NOT_PROVEN"),
            ("integration", "VERDICT_NOT_PROVEN")
        ]
    );
    // Both still stand, as it says, and the colleague's work is as it was.
    assert_eq!(taken.repository.resolve("main~1")?, taken.merge);
    let outcome = &taken.workflow["outcome"];
    assert_eq!(outcome["verdict"], json!("VERDICT_FAILED"), "{outcome}");
    assert_eq!(outcome["mergedCommit"], json!(taken.merge), "{outcome}");
    assert_eq!(outcome["revision"], json!("1"), "{outcome}");
    let endpoint = outcome["endpoint"].as_str().context("no endpoint")?;
    assert!(get(&format!("{endpoint}/")).await?.1.ends_with("shop 2"));
    let reason = outcome["reason"].as_str().context("no reason")?;
    let shown = shared::place()?.run(&["show", &taken.name]).await?.out;
    for said in [
        "/later answered 500",
        "`deployment` could not be undone: no verified revision to go back to: revision 1",
        "`integration` could not be undone: ",
        "shop/__init__.py",
        &format!("by hand: `git revert -m 1 {}` on main", taken.merge),
    ] {
        assert!(reason.contains(said), "{said:?} in {reason}");
        assert!(shown.contains(said), "{said:?} in {shown}");
    }
    Ok(())
}
