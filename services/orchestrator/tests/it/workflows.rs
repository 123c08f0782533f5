//! Workflows from submission to outcome, over real gRPC with scripted agents.

use testkit::scripted_agent::{Gate, ScriptedAgent, Step};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    AnswerClarificationRequest, CancelWorkflowRequest, ListDecisionsRequest, PauseWorkflowRequest,
    ResolveDecisionRequest, ResumeWorkflowRequest, RetryWorkflowRequest, WorkflowState,
    WorkflowType, workflow_event,
};
use contracts::task::{AgentType, Resolution, Verdict};

use crate::database;
use crate::mesh::{Replica, app, assert_gapless, change, kinds, passing_agents};

#[tokio::test]
async fn a_workflow_passes_all_five_stages_with_one_hand_over_each() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let _agents = passing_agents(&replica.url).await;

    let created = replica.create(app("shop")).await;
    assert_eq!(created.stages.len(), 5);
    let events = replica.watch(&created.workflow_id, 0).await;

    assert_gapless(&events, 0);
    let seen = kinds(&events);
    assert_eq!(seen.first().map(String::as_str), Some("created"));
    assert_eq!(seen.last().map(String::as_str), Some("end"));
    for stage in ["scaffold", "validation", "e2e", "integration", "deployment"] {
        let started = seen
            .iter()
            .filter(|kind| **kind == format!("{stage} started"))
            .count();
        assert_eq!(started, 1, "{seen:?}");
    }
    let ended = replica.get(&created.workflow_id).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded);
    assert_eq!(ended.outcome.unwrap().verdict(), Verdict::Passed);
    assert!((ended.percent - 100.0).abs() < f64::EPSILON);
    replica.stop().await;
}

#[tokio::test]
async fn a_late_watcher_gets_the_same_events_from_any_point() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let _agents = passing_agents(&replica.url).await;
    let id = replica.create(app("shop")).await.workflow_id;
    let live = replica.watch(&id, 0).await;
    // From the very end there is nothing more, and the watch ends all the same.
    for after in 0..=i64::try_from(live.len()).unwrap() {
        let late = replica.watch(&id, after).await;
        assert_eq!(late, live[usize::try_from(after).unwrap()..]);
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_another_content_is_refused() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let request = contracts::orchestrator::CreateWorkflowRequest {
        request_id: "once".into(),
        ..app("shop")
    };
    // At the same time, not one after the other.
    let mut client = replica.workflows();
    let mut other = replica.workflows();
    let (a, b) = tokio::join!(
        client.create_workflow(request.clone()),
        other.create_workflow(request.clone())
    );
    let (a, b) = (a.unwrap().into_inner(), b.unwrap().into_inner());
    assert_eq!(
        a.workflow.unwrap().workflow_id,
        b.workflow.unwrap().workflow_id
    );

    let changed = contracts::orchestrator::CreateWorkflowRequest {
        name: "other".into(),
        ..request
    };
    let refused = Error::from_status(&client.create_workflow(changed).await.unwrap_err()).unwrap();
    assert_eq!(refused.reason, ErrorReason::RequestIdReused);
    replica.stop().await;
}

#[tokio::test]
async fn a_failed_stage_ends_the_workflow_with_its_reason() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let validation = ScriptedAgent::start(AgentType::Validation, |_, _| {
        vec![
            Step::Accept,
            Step::finish(AgentType::Validation, Verdict::Failed),
        ]
    })
    .await
    .unwrap();
    let _session = validation.connect(&replica.url, 1).await.unwrap();
    let id = replica.create(change()).await.workflow_id;
    let events = replica.watch(&id, 0).await;
    assert_gapless(&events, 0);
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    let outcome = ended.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Failed);
    assert_eq!(outcome.stage, "validation");
    assert!(outcome.reason.contains("scripted"), "{}", outcome.reason);
    assert!(ended.percent < 100.0);

    // Retried with an agent that passes, it goes on from there.
    drop(validation);
    let _agents = passing_agents(&replica.url).await;
    let request = RetryWorkflowRequest {
        workflow_id: id.clone(),
        ..Default::default()
    };
    replica.workflows().retry_workflow(request).await.unwrap();
    let more = replica.watch(&id, ended.last_sequence).await;
    assert_gapless(&more, ended.last_sequence);
    assert_eq!(replica.get(&id).await.state(), WorkflowState::Succeeded);
    replica.stop().await;
}

#[tokio::test]
async fn a_lost_agent_is_charged_as_lost_and_the_stage_runs_elsewhere() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let gate = Gate::new();
    let held = gate.clone();
    let doomed = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        vec![Step::Accept, Step::Wait(held.clone())]
    })
    .await
    .unwrap();
    let session = doomed.connect(&replica.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    let id = replica.create(change()).await.workflow_id;
    gate.reached(1).await;
    drop(session);
    drop(doomed);
    let _agents = passing_agents(&replica.url).await;
    let events = replica.watch(&id, 0).await;
    assert_gapless(&events, 0);
    let ended = replica.get(&id).await;
    assert_eq!(
        ended.state(),
        WorkflowState::Succeeded,
        "{:?}",
        kinds(&events)
    );
    let stage = &ended.stages[0];
    assert_eq!((stage.attempt_count, stage.lost_count), (2, 1));
    replica.stop().await;
}

#[tokio::test]
async fn a_refused_task_is_not_charged() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let count = std::sync::atomic::AtomicUsize::new(0);
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            vec![Step::fail(Error::new(ErrorReason::NoFreeSlot, "full"))]
        } else {
            vec![
                Step::Accept,
                Step::finish(AgentType::Validation, Verdict::Passed),
            ]
        }
    })
    .await
    .unwrap();
    let _session = agent.connect(&replica.url, 1).await.unwrap();
    let id = replica.create(change()).await.workflow_id;
    let finished = |payload: &workflow_event::Payload| {
        matches!(payload, workflow_event::Payload::StageFinished(_))
    };
    let events = replica.watch_until(&id, 0, finished).await;
    let last = events.last().unwrap();
    let Some(workflow_event::Payload::StageFinished(stage)) = &last.payload else {
        panic!()
    };
    let stage = stage.stage.as_ref().unwrap();
    assert_eq!(stage.verdict(), Verdict::Passed);
    assert_eq!(stage.lost_count, 0);
    replica.stop().await;
}

#[tokio::test]
async fn cancelling_stops_the_running_task_and_ends_the_workflow() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let gate = Gate::new();
    let held = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        vec![Step::Accept, Step::Wait(held.clone())]
    })
    .await
    .unwrap();
    let _session = agent.connect(&replica.url, 1).await.unwrap();
    let id = replica.create(change()).await.workflow_id;
    gate.reached(1).await;
    let request = CancelWorkflowRequest {
        workflow_id: id.clone(),
        reason: "no longer wanted".into(),
        ..Default::default()
    };
    replica
        .workflows()
        .cancel_workflow(request.clone())
        .await
        .unwrap();
    replica.watch(&id, 0).await;
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Cancelled);
    assert_eq!(agent.cancelled(), [ended.stages[0].task_id.clone()]);
    // It has ended: that is a state that forbids the call.
    let refused = replica
        .workflows()
        .cancel_workflow(request)
        .await
        .unwrap_err();
    assert_eq!(
        Error::from_status(&refused).unwrap().reason,
        ErrorReason::WorkflowState
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_paused_workflow_starts_nothing_until_it_is_resumed() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let id = replica.create(change()).await.workflow_id;
    let request = PauseWorkflowRequest {
        workflow_id: id.clone(),
        ..Default::default()
    };
    replica.workflows().pause_workflow(request).await.unwrap();
    let agents = passing_agents(&replica.url).await;
    assert_eq!(replica.get(&id).await.state(), WorkflowState::Paused);
    assert!(agents.iter().all(|(agent, _)| agent.calls().is_empty()));
    let request = ResumeWorkflowRequest {
        workflow_id: id.clone(),
        ..Default::default()
    };
    replica.workflows().resume_workflow(request).await.unwrap();
    replica.watch(&id, 0).await;
    assert_eq!(replica.get(&id).await.state(), WorkflowState::Succeeded);
    replica.stop().await;
}

#[tokio::test]
async fn a_deployment_to_production_waits_for_a_person_bound_to_what_was_shown() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let _agents = passing_agents(&replica.url).await;
    let request = contracts::orchestrator::CreateWorkflowRequest {
        environment: "production".into(),
        ..change()
    };
    let id = replica.create(request).await.workflow_id;
    let asked = |payload: &workflow_event::Payload| {
        matches!(payload, workflow_event::Payload::DecisionAsked(_))
    };
    let before = replica.watch_until(&id, 0, asked).await;
    assert_eq!(
        replica.get(&id).await.state(),
        WorkflowState::AwaitingDecision
    );

    let request = ListDecisionsRequest {
        workflow_id: id.clone(),
        ..Default::default()
    };
    let open = replica
        .decisions()
        .list_decisions(request)
        .await
        .unwrap()
        .into_inner()
        .decisions;
    assert_eq!(open.len(), 1);
    let answer = ResolveDecisionRequest {
        decision_id: open[0].decision_id.clone(),
        subject_digest: "sha256:other".into(),
        resolution: Resolution::Approve.into(),
        actor: "ada".into(),
        ..Default::default()
    };
    let refused = replica
        .decisions()
        .resolve_decision(answer.clone())
        .await
        .unwrap_err();
    assert_eq!(
        Error::from_status(&refused).unwrap().reason,
        ErrorReason::DigestChanged
    );
    let answer = ResolveDecisionRequest {
        subject_digest: open[0].request.as_ref().unwrap().subject_digest.clone(),
        ..answer
    };
    let resolved = replica
        .decisions()
        .resolve_decision(answer.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(resolved.decision.unwrap().actor, "ada");
    let after = before.last().unwrap().sequence;
    assert_gapless(&replica.watch(&id, after).await, after);
    assert_eq!(replica.get(&id).await.state(), WorkflowState::Succeeded);
    let again = replica
        .decisions()
        .resolve_decision(answer)
        .await
        .unwrap_err();
    assert_eq!(
        Error::from_status(&again).unwrap().reason,
        ErrorReason::DecisionResolved
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_feature_without_requirements_is_asked_about_first() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let agents = passing_agents(&replica.url).await;
    let request = contracts::orchestrator::CreateWorkflowRequest {
        r#type: WorkflowType::Feature.into(),
        ..change()
    };
    let created = replica.create(request).await;
    assert_eq!(created.state(), WorkflowState::AwaitingClarification);
    let list = contracts::orchestrator::ListClarificationsRequest::default();
    let open = replica
        .clarifications()
        .list_clarifications(list)
        .await
        .unwrap()
        .into_inner();
    let answer = AnswerClarificationRequest {
        clarification_id: open.clarifications[0].clarification_id.clone(),
        answer: "a cart that remembers".into(),
        ..Default::default()
    };
    replica
        .clarifications()
        .answer_clarification(answer)
        .await
        .unwrap();
    let events = replica.watch(&created.workflow_id, 0).await;
    assert_gapless(&events, 0);
    assert_eq!(kinds(&events)[..2], ["created", "clarification-asked"]);
    let calls = agents[0].0.calls();
    let Some(contracts::orchestrator::stage_task::Task::Scaffold(task)) = &calls[0].task.task
    else {
        panic!("{calls:?}");
    };
    assert!(
        task.requirements.contains("a cart that remembers"),
        "{}",
        task.requirements
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_killed_orchestrator_is_replaced_and_the_stage_is_not_run_again() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Replica::start(&database, folder.path()).await;
    let gate = Gate::new();
    let held = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        vec![
            Step::Accept,
            Step::Wait(held.clone()),
            Step::finish(AgentType::Validation, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let session = agent.connect(&first.url, 1).await.unwrap();
    let id = first.create(change()).await.workflow_id;
    gate.reached(1).await;
    let started = |payload: &workflow_event::Payload| {
        matches!(payload, workflow_event::Payload::StageStarted(_))
    };
    let before = first.watch_until(&id, 0, started).await;
    first.kill();
    drop(session);

    let second = Replica::start(&database, folder.path()).await;
    let _session = agent.connect(&second.url, 1).await.unwrap();
    let after = before.last().unwrap().sequence;
    let adopted = |payload: &workflow_event::Payload| {
        matches!(payload, workflow_event::Payload::LeaseChanged(_))
    };
    let seen = second.watch_until(&id, after, adopted).await;
    assert_gapless(&seen, after);
    gate.open();
    let mut others = passing_agents(&second.url).await;
    others.retain(|(agent, _)| agent.agent_type() != AgentType::Validation);
    second.watch(&id, 0).await;
    let ended = second.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded);
    assert_eq!(
        (ended.stages[0].attempt_count, ended.stages[0].lost_count),
        (1, 0)
    );
    assert_eq!(agent.calls().iter().filter(|call| call.began).count(), 1);
    second.stop().await;
}
