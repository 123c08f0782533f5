//! Nothing waits for ever: for an agent, for an attempt, for work that does nothing, for a workflow. That questions
//! and decisions run out as well is told in `waits`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use testkit::scripted_agent::{Gate, ScriptedAgent, Session, Step};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    CreateWorkflowRequest, Pipeline, RetryPolicy, StageDefinition, StageTask, Workflow,
    WorkflowState, WorkflowType, stage_task, workflow_event::Payload,
};
use contracts::task::{AgentType, Beat, Verdict, task_event};
use contracts::validation::ValidationTask;
use contracts::wire_time::wire_duration;

use crate::database;
use crate::mesh::{PATIENCE, Replica, assert_gapless};

const SECOND: Duration = Duration::from_secs(1);

/// A workflow of one validation stage, which is tried again at once.
pub fn only(stage: StageDefinition) -> CreateWorkflowRequest {
    let soon = Some(wire_duration(Duration::from_millis(1)));
    CreateWorkflowRequest {
        r#type: WorkflowType::Custom.into(),
        name: "only".into(),
        pipeline: Some(Pipeline {
            name: "only".into(),
            stages: vec![StageDefinition {
                name: "only".into(),
                task: Some(StageTask {
                    task: Some(stage_task::Task::Validation(ValidationTask::default())),
                }),
                retry: Some(stage.retry.unwrap_or(RetryPolicy {
                    initial_backoff: soon,
                    max_backoff: soon,
                    ..RetryPolicy::default()
                })),
                ..stage
            }],
            ..Pipeline::default()
        }),
        ..CreateWorkflowRequest::default()
    }
}

/// An agent whose attempts go as the script says, one entry each, after it accepted; then it passes.
pub async fn agent(replica: &Replica, script: Vec<Vec<Step>>) -> (ScriptedAgent, Session) {
    let attempts = std::sync::Mutex::new(script.into_iter());
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        let steps = attempts.lock().unwrap().next();
        let passes = || vec![Step::finish(AgentType::Validation, Verdict::Passed)];
        let mut steps = steps.unwrap_or_else(passes);
        steps.insert(0, Step::Accept);
        steps
    })
    .await
    .unwrap();
    let session = agent.connect(&replica.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    (agent, session)
}

/// Runs one to its end; what became of it, and the classes and reasons of its retries.
pub async fn ended(
    replica: &Replica,
    request: CreateWorkflowRequest,
) -> (Workflow, Vec<(String, String)>) {
    let id = replica.create(request).await.workflow_id;
    let events = replica.watch(&id, 0).await;
    assert_gapless(&events, 0);
    let retries = events.into_iter().filter_map(|event| match event.payload {
        Some(Payload::RetryScheduled(retry)) => Some((retry.error_class, retry.reason)),
        _ => None,
    });
    (replica.get(&id).await, retries.collect())
}

/// The agent lives, and the work last did something when it says.
fn beat(last_activity: SystemTime) -> Step {
    Step::Event(task_event::Payload::Beat(Beat {
        last_activity_time: Some(last_activity.into()),
        ..Beat::default()
    }))
}

#[tokio::test]
async fn a_stage_that_no_agent_takes_in_time_ends_its_workflow_uncharged() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let stage = StageDefinition {
        schedule_timeout: Some(wire_duration(SECOND)),
        ..StageDefinition::default()
    };
    let (ended, retries) = ended(&replica, only(stage)).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    let outcome = ended.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::NotProven);
    assert_eq!(outcome.stage, "only");
    assert!(
        outcome
            .reason
            .contains("no validation agent took it within 1 s"),
        "{}",
        outcome.reason
    );
    assert_eq!((ended.stages[0].attempt_count, retries.len()), (0, 0));
    replica.stop().await;
}

#[tokio::test]
async fn an_attempt_whose_agent_does_not_keep_its_time_is_stopped_and_made_again() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let (agent, _session) = agent(&replica, vec![vec![Step::Wait(Gate::new())]]).await;
    let stage = StageDefinition {
        timeout: Some(wire_duration(SECOND)),
        ..StageDefinition::default()
    };
    let (ended, retries) = ended(&replica, only(stage)).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded);
    let reason = "the attempt took too long";
    assert_eq!(retries, [("timed_out".to_owned(), reason.to_owned())]);
    let stage = &ended.stages[0];
    assert_eq!((stage.attempt_count, stage.lost_count), (2, 0));
    assert_eq!(agent.cancelled(), std::slice::from_ref(&stage.task_id));
    replica.stop().await;
}

#[tokio::test]
async fn work_that_does_nothing_is_stopped_however_alive_its_agent_is() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    // It says so ten times a second, and that nothing has happened since the beginning.
    let stuck_since = SystemTime::now();
    let stuck = (0..600)
        .flat_map(|_| [beat(stuck_since), Step::Work(SECOND / 10)])
        .collect();
    // This one is quiet for longer in all, and never for long.
    let busy = (0..6)
        .flat_map(|_| {
            let said = task_event::Payload::Progress(contracts::task::Progress::default());
            [Step::Work(SECOND / 2), Step::Event(said)]
        })
        .chain([Step::finish(AgentType::Validation, Verdict::Passed)])
        .collect();
    let (agent, _session) = agent(&replica, vec![stuck, busy]).await;
    let stage = StageDefinition {
        progress_timeout: Some(wire_duration(2 * SECOND)),
        ..StageDefinition::default()
    };
    let (ended, retries) = ended(&replica, only(stage)).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded);
    let reason = "the work did nothing for 2 s";
    assert_eq!(retries, [("timed_out".to_owned(), reason.to_owned())]);
    assert_eq!(ended.stages[0].attempt_count, 2);
    assert_eq!(agent.cancelled(), [ended.stages[0].task_id.clone()]);
    replica.stop().await;
}

#[tokio::test]
async fn an_attempt_that_ran_out_of_time_is_made_again_on_another_agent() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    // Has more room than the other, never gets its first task done, and others well.
    let gate = Gate::new();
    let later = gate.clone();
    let calls = AtomicUsize::new(0);
    let stuck = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        match calls.fetch_add(1, Ordering::Relaxed) {
            0 => vec![Step::Accept, Step::Wait(Gate::new())],
            _ => vec![
                Step::Accept,
                Step::Wait(later.clone()),
                Step::finish(AgentType::Validation, Verdict::Passed),
            ],
        }
    })
    .await
    .unwrap();
    let session = stuck.connect(&replica.url, 4).await.unwrap();
    session.reachable().await.unwrap();
    let second = Some(wire_duration(SECOND));
    let stage = StageDefinition {
        progress_timeout: second,
        retry: Some(RetryPolicy {
            initial_backoff: second,
            max_backoff: second,
            ..RetryPolicy::default()
        }),
        ..StageDefinition::default()
    };
    let id = replica.create(only(stage)).await.workflow_id;
    stuck.called(1).await;
    let other = replica.create(only(StageDefinition::default())).await;
    gate.reached(1).await;
    let (well, _session) = agent(&replica, Vec::new()).await;
    let is_retry = |payload: &Payload| matches!(payload, Payload::RetryScheduled(_));
    replica.watch_until(&id, 0, is_retry).await;
    // That it does something else well does not bring the same task back at once.
    gate.open();
    replica.watch(&other.workflow_id, 0).await;
    replica.watch(&id, 0).await;
    assert_eq!(replica.get(&id).await.state(), WorkflowState::Succeeded);
    assert_eq!((stuck.calls().len(), well.calls().len()), (2, 1));
    replica.stop().await;
}

#[tokio::test]
async fn attempts_whose_agents_say_that_time_is_over_are_made_again_until_they_run_out() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let over = || Error::new(ErrorReason::DeadlineExceeded, "30 min are over");
    let (_agent, _session) = agent(
        &replica,
        vec![vec![Step::fail(over())], vec![Step::fail(over())]],
    )
    .await;
    let soon = Some(wire_duration(Duration::from_millis(1)));
    let stage = StageDefinition {
        retry: Some(RetryPolicy {
            max_attempts: 2,
            initial_backoff: soon,
            max_backoff: soon,
            ..RetryPolicy::default()
        }),
        ..StageDefinition::default()
    };
    let (ended, retries) = ended(&replica, only(stage)).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    let outcome = ended.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::NotProven);
    let reason = "2 attempts failed; the last: 30 min are over";
    assert!(outcome.reason.contains(reason), "{}", outcome.reason);
    assert_eq!(
        retries,
        [("timed_out".to_owned(), "30 min are over".to_owned())]
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_workflow_whose_time_is_over_ends_and_its_running_task_is_stopped() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let (agent, _session) = agent(&replica, vec![vec![Step::Wait(Gate::new())]]).await;
    let request = CreateWorkflowRequest {
        timeout: Some(wire_duration(SECOND)),
        ..only(StageDefinition::default())
    };
    let (ended, retries) = ended(&replica, request).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    assert_eq!(retries, []);
    let mut cancelled = agent.watch_cancelled();
    let stopped = cancelled.wait_for(|tasks| *tasks == [ended.stages[0].task_id.clone()]);
    tokio::time::timeout(PATIENCE, stopped)
        .await
        .expect("the agent is told")
        .unwrap();
    replica.stop().await;
}
