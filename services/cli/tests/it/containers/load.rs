//! People who run one workflow after the other with the command, and what they must not see.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stack::Stack;
use crate::command::Ended;
use crate::mesh::{finished, sequences};

// As many as there are slots for, and some that wait.
const PEOPLE: usize = 4;
const PATIENCE: Duration = Duration::from_mins(10);

/// What attempts a fault may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// None.
    Nothing,
    /// Those that ran on an agent that is gone.
    Lost,
}

/// Who keeps the mesh busy.
#[derive(Debug)]
pub struct Load {
    ended: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
    people: JoinSet<Result<Vec<Ended>>>,
}

impl Load {
    /// Everybody begins.
    pub fn start(stack: &Stack) -> Self {
        let (count, ended) = watch::channel(0);
        let count = Arc::new(count);
        let stop = Arc::new(AtomicBool::new(false));
        let mut people = JoinSet::new();
        for _ in 0..PEOPLE {
            let (stack, count, stop) = (stack.clone(), Arc::clone(&count), Arc::clone(&stop));
            people.spawn(async move {
                let mut runs = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let app = [
                        "run",
                        "--type",
                        "app",
                        "--template",
                        "static-site",
                        "--name",
                        "load",
                    ];
                    runs.push(stack.agentic(&app).await?);
                    count.send_modify(|count| *count += 1);
                }
                Ok(runs)
            });
        }
        Self {
            ended,
            stop,
            people,
        }
    }

    /// Waits until so many more workflows have ended.
    pub async fn ended(&self, more: usize) -> Result<()> {
        let mut ended = self.ended.clone();
        let enough = *ended.borrow() + more;
        timeout(PATIENCE, ended.wait_for(|count| *count >= enough))
            .await
            .context("nothing ends any more")??;
        Ok(())
    }

    /// Lets everybody come to an end; asserts what each must have seen, and tells.
    pub async fn end(self, stack: &Stack, fault: &str, charged: Charged) -> Result<()> {
        let Self { stop, people, .. } = self;
        stop.store(true, Ordering::Relaxed);
        let mut workflows = 0;
        let mut lost = 0;
        for runs in people.join_all().await {
            for run in runs? {
                ensure!(run.code == 0, "{fault}: {run:?}");
                lost += lost_attempts(&run).with_context(|| format!("{fault}: {run:?}"))?;
                workflows += 1;
            }
        }
        ensure!(
            lost == 0 || charged == Charged::Lost,
            "{fault}: {lost} attempts were charged"
        );
        assert_slots(stack).await?;
        // Not `println!`, whose words the test harness keeps to itself when a test passes.
        writeln!(
            io::stderr(),
            "CONTAINERS {fault:<42} {workflows:4} workflows, none lost; {lost} attempts lost"
        )?;
        Ok(())
    }
}

// The log has neither gap nor repeat, each stage passed with one result, and failed in no attempt. One that an agent
// did not take on is charged to nobody.
fn lost_attempts(run: &Ended) -> Result<i64> {
    let workflow = finished(run)?;
    let state = &workflow["state"];
    ensure!(state == "WORKFLOW_STATE_SUCCEEDED", "it ended as {state}");
    let events = run.json()?;
    let refused = |stage: &Value| {
        let retries = events
            .iter()
            .filter(|event| event["retryScheduled"]["errorClass"] == "refused");
        retries
            .filter(|event| event["stage"] == stage["name"])
            .count()
    };
    let seen = sequences(&events);
    let count = seen.len().try_into()?;
    ensure!(seen == (1..=count).collect::<Vec<_>>(), "gaps or repeats");
    let mut lost = 0;
    for stage in workflow["stages"].as_array().context("no stages")? {
        let count = |name: &str| stage.get(name).and_then(Value::as_i64).unwrap_or(0);
        let (attempts, gone) = (count("attemptCount"), count("lostCount"));
        ensure!(count("failedCount") == 0, "an attempt failed: {stage}");
        let free = i64::try_from(refused(stage))?;
        ensure!(attempts == 1 + gone + free, "unexplained attempts: {stage}");
        lost += gone;
    }
    Ok(lost)
}

// All agents are there, and none has a slot taken for good.
async fn assert_slots(stack: &Stack) -> Result<()> {
    let settled = async {
        loop {
            let listed = stack.agentic(&["agents"]).await?;
            let agents = listed.json().unwrap_or_default();
            let is_idle = |agent: &Value| {
                agent["state"] == "AGENT_STATE_READY"
                    && agent["freeSlotCount"] == agent["slotCount"]
            };
            let idle = agents.iter().filter(|agent| is_idle(agent)).count();
            if listed.code == 0 && idle == 10 {
                return Ok(());
            }
        }
    };
    timeout(Duration::from_mins(2), settled)
        .await
        .context("agents are missing, or have slots that are taken")?
}
