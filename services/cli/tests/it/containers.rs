//! The mesh of docker/compose.production.yaml, through its published port only: what happens to
//! containers costs nobody a workflow. `scripts/containers` starts the mesh and runs this.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::sleep;

mod load;
mod stack;
mod trace;

use load::{Charged, Load};
use stack::Stack;

use crate::mesh::finished;

// Longer than a lease lasts, and than a silent agent is waited for.
const LONG: Duration = Duration::from_secs(35);

/// One after the other: each fault happens to the same mesh.
#[tokio::test]
#[ignore = "needs a mesh in containers: scripts/containers starts one"]
async fn faults_of_containers_cost_no_workflow() -> Result<()> {
    let stack = Stack::from_environment()?;
    an_app_goes_through_all_five_stages(&stack).await?;

    let faults: [(&str, Charged); 10] = [
        ("orchestrator killed", Charged::Nothing),
        ("orchestrator paused", Charged::Nothing),
        ("orchestrator cut from the database", Charged::Nothing),
        ("orchestrator cut from agents and clients", Charged::Nothing),
        ("postgres killed", Charged::Nothing),
        ("postgres paused", Charged::Nothing),
        ("redis killed", Charged::Nothing),
        ("validation-agent killed", Charged::Lost),
        ("validation-agent paused", Charged::Lost),
        ("integration-agent cut off", Charged::Lost),
    ];
    for (fault, charged) in faults {
        let load = Load::start(&stack);
        load.ended(2).await?;
        harm(&stack, fault).await?;
        stack.healthy().await?;
        load.ended(6).await?;
        load.end(&stack, fault, charged).await?;
    }
    Ok(())
}

/// The command sends its own span nowhere; everybody else sends theirs to the collector in the stack.
#[tokio::test]
#[ignore = "needs a mesh in containers: scripts/containers starts one"]
async fn the_collector_receives_one_trace_from_the_orchestrator_and_all_agents() -> Result<()> {
    let stack = Stack::from_environment()?;
    let begun = SystemTime::now();
    let workflow = an_app_goes_through_all_five_stages(&stack).await?;
    let trace_id = workflow["traceId"].as_str().context("no trace")?;
    trace::comes_whole(&stack, trace_id, begun).await
}

/// Every container is replaced, one after the other, while everybody works.
#[tokio::test]
#[ignore = "needs a mesh in containers: scripts/containers starts one"]
async fn a_rolling_restart_of_every_container_fails_no_call_and_charges_no_attempt() -> Result<()> {
    let stack = Stack::from_environment()?;
    let load = Load::start(&stack);
    load.ended(2).await?;
    stack.restart_all().await?;
    load.ended(4).await?;
    load.end(
        &stack,
        "rolling restart of every container",
        Charged::Nothing,
    )
    .await
}

async fn harm(stack: &Stack, fault: &str) -> Result<()> {
    let (service, what) = fault.split_once(' ').unwrap_or((fault, ""));
    let container = stack.container(service).await?;
    match what {
        "killed" => {
            container.docker(&["kill"]).await?;
            sleep(Duration::from_secs(5)).await;
            container.docker(&["start"]).await
        }
        "paused" => {
            container.docker(&["pause"]).await?;
            sleep(LONG).await;
            container.docker(&["unpause"]).await
        }
        "cut from the database" => container.cut_from("store", LONG).await,
        _ => container.cut_from("mesh", LONG).await,
    }
}

async fn an_app_goes_through_all_five_stages(stack: &Stack) -> Result<Value> {
    let ended = stack
        .agentic(&[
            "run",
            "--type",
            "app",
            "--template",
            "python-http",
            "--name",
            "shop",
        ])
        .await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    let workflow = finished(&ended)?;
    let stages = workflow["stages"].as_array().map_or(0, Vec::len);
    assert_eq!(
        (stages, &workflow["state"]),
        (5, &"WORKFLOW_STATE_SUCCEEDED".into())
    );
    Ok(workflow)
}
