//! Work that does not succeed is undone, with scripted agents: who is asked, with what, and what the
//! workflow says afterwards.

use std::time::{Duration, SystemTime};

use contracts::deployment::DeploymentResult;
use contracts::orchestrator::{StageResult, WorkflowState, stage_result, stage_task};
use contracts::task::{AgentType, Outcome, Verdict};
use contracts::wire_time;
use testkit::scripted_agent::{Gate, ScriptedAgent, Session, Step, result};

use crate::database;
use crate::mesh::{Replica, change, kinds};

const MERGE: &str = "1111111111111111111111111111111111111111";
const REVERT: &str = "2222222222222222222222222222222222222222";

/// Agents that pass everything but the deployment, which does this. Integration merges and reverts.
struct Agents {
    integration: ScriptedAgent,
    _others: Vec<ScriptedAgent>,
    _sessions: Vec<Session>,
}

async fn agents(replica: &Replica, deployment: Vec<Step>) -> Agents {
    let integration = ScriptedAgent::start(AgentType::Integration, |context, _| {
        let commit = if context
            .inputs
            .iter()
            .any(|input| input.stage == "integration")
        {
            REVERT
        } else {
            MERGE
        };
        let outcome = Outcome {
            verdict: Verdict::Passed.into(),
            summary: format!("made {commit}"),
            merged_commit: commit.into(),
            ..Outcome::default()
        };
        let done = Step::Finish(Box::new(result(AgentType::Integration, outcome)));
        vec![Step::Accept, done]
    });
    let integration = integration.await.unwrap();
    let deployment = ScriptedAgent::start(AgentType::Deployment, move |_, _| deployment.clone());
    let mut others = vec![deployment.await.unwrap()];
    for agent_type in [AgentType::Validation, AgentType::E2e] {
        let outcome = Outcome {
            verdict: Verdict::Passed.into(),
            project_is_app: Some(true),
            ..Outcome::default()
        };
        let agent = ScriptedAgent::start(agent_type, move |_, _| {
            let passed = Step::Finish(Box::new(result(agent_type, outcome.clone())));
            vec![Step::Accept, passed]
        });
        others.push(agent.await.unwrap());
    }
    let mut sessions = Vec::new();
    for agent in others.iter().chain([&integration]) {
        let session = agent.connect(&replica.url, 1).await.unwrap();
        session.reachable().await.unwrap();
        sessions.push(session);
    }
    Agents {
        integration,
        _others: others,
        _sessions: sessions,
    }
}

fn failed() -> StageResult {
    let outcome = Outcome {
        verdict: Verdict::Failed.into(),
        summary: "it does not start".into(),
        revision: "1".into(),
        endpoint: "http://127.0.0.1:1".into(),
        ..Outcome::default()
    };
    StageResult {
        result: Some(stage_result::Result::Deployment(DeploymentResult {
            outcome: Some(outcome),
            ..DeploymentResult::default()
        })),
    }
}

#[tokio::test]
async fn what_was_taken_back_is_not_told_as_merged_and_the_result_of_the_stage_stays() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let steps = vec![Step::Accept, Step::Finish(Box::new(failed()))];
    let agents = agents(&replica, steps).await;
    let id = replica.create(change()).await.workflow_id;
    let events = replica.watch(&id, 0).await;
    assert!(
        kinds(&events)
            .iter()
            .any(|kind| kind.ends_with("compensated")),
        "{:?}",
        kinds(&events)
    );
    let workflow = replica.get(&id).await;
    assert_eq!(workflow.state(), WorkflowState::Failed);
    let outcome = workflow.outcome.unwrap();
    assert_eq!(outcome.merged_commit, "");
    // What is live is what the failed deployment left there.
    assert_eq!(
        (&*outcome.revision, &*outcome.endpoint),
        ("1", "http://127.0.0.1:1")
    );
    let stage = workflow
        .stages
        .iter()
        .find(|stage| stage.name == "integration")
        .unwrap();
    assert_eq!(stage.summary, format!("undone: made {REVERT}"));
    let kept = stage.result.as_ref().unwrap().outcome().unwrap();
    assert_eq!(kept.merged_commit, MERGE);
    let calls = agents.integration.calls();
    assert_eq!(calls.len(), 2);
    let Some(stage_task::Task::Integration(undo)) = &calls[1].task.task else {
        panic!("{:?}", calls[1].task);
    };
    assert!(format!("{undo:?}").contains("Revert"), "{undo:?}");
    assert_ne!(calls[0].context.task_id, calls[1].context.task_id);
    replica.stop().await;
}

#[tokio::test]
async fn the_undo_of_a_workflow_whose_time_is_over_has_time_of_its_own() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let gate = Gate::new();
    let steps = vec![Step::Accept, Step::Wait(gate.clone())];
    let agents = agents(&replica, steps).await;
    let mut request = change();
    request.timeout = Some(wire_time::wire_duration(Duration::from_secs(3)));
    let id = replica.create(request).await.workflow_id;
    gate.reached(1).await;
    let events = replica.watch(&id, 0).await;
    assert!(
        kinds(&events)
            .iter()
            .any(|kind| kind.ends_with("compensated")),
        "{:?}",
        kinds(&events)
    );
    let undo = agents.integration.calls().pop().unwrap().context;
    let left = undo.time_left.and_then(wire_time::duration).unwrap();
    assert!(left > Duration::from_mins(1), "{left:?}");
    let deadline = undo.deadline.and_then(wire_time::system_time).unwrap();
    assert!(deadline > SystemTime::now(), "{deadline:?}");
    replica.stop().await;
}
