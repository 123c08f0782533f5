//! Workflows that wait for somebody: for an answer that an agent asked for, for a budget, for a
//! decision. Over real gRPC, with scripted agents.

use contracts::agent::AGENT_TYPES;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::{
    AnswerClarificationRequest, Clarification, ListClarificationsRequest, ListDecisionsRequest,
    ResumeWorkflowRequest, WorkflowState, workflow_event::Payload,
};
use contracts::task::{
    AgentType, AnswerKind, Beat, Budget, BudgetLimit, ClarificationRequest, DecisionCategory,
    DecisionRequest, Outcome, Usage, Verdict, task_event,
};
use testkit::database::Database;
use testkit::scripted_agent::{ScriptedAgent, Session, Step, result};

use crate::database;
use crate::mesh::{Replica, app, assert_gapless, kinds};

fn finish(outcome: Outcome) -> Step {
    Step::Finish(Box::new(result(AgentType::Scaffold, outcome)))
}

fn passed() -> Step {
    Step::finish(AgentType::Scaffold, Verdict::Passed)
}

fn question(number: usize) -> ClarificationRequest {
    ClarificationRequest {
        question: format!("Question {number}: which currency?"),
        kind: AnswerKind::Choice.into(),
        choices: vec!["euro".into(), "yen".into()],
    }
}

fn asking(number: usize) -> Step {
    finish(Outcome {
        summary: "asks".into(),
        checkpoint: format!("stopped {number}").into_bytes(),
        clarification: Some(question(number)),
        ..Outcome::default()
    })
}

fn exhausted(usage: Usage) -> Step {
    finish(Outcome {
        summary: "the tokens ran out after 3 rounds".into(),
        checkpoint: b"half of it".to_vec(),
        exhausted: BudgetLimit::Tokens.into(),
        usage: Some(usage),
        ..Outcome::default()
    })
}

fn tokens(count: i64) -> Usage {
    Usage {
        input_token_count: count,
        call_count: 1,
        ..Usage::default()
    }
}

fn spent(count: i64) -> Step {
    Step::Event(task_event::Payload::Beat(Beat {
        usage: Some(tokens(count)),
        ..Beat::default()
    }))
}

struct Agents {
    scaffold: ScriptedAgent,
    _others: Vec<ScriptedAgent>,
    _sessions: Vec<Session>,
}

/// A scaffold agent whose attempts go as the script says, one entry each, and agents that pass all
/// else.
async fn agents(replica: &Replica, script: Vec<Vec<Step>>) -> Agents {
    let attempts = std::sync::Mutex::new(script.into_iter());
    let scaffold = ScriptedAgent::start(AgentType::Scaffold, move |_, _| {
        let steps = attempts.lock().unwrap().next();
        let mut steps = steps.expect("an attempt that the script does not have");
        steps.insert(0, Step::Accept);
        steps
    })
    .await
    .unwrap();
    let session = scaffold.connect(&replica.url, 1).await.unwrap();
    session.reachable().await.unwrap();
    let mut sessions = vec![session];
    let mut others = Vec::new();
    for agent_type in AGENT_TYPES {
        if agent_type != AgentType::Scaffold {
            let agent = ScriptedAgent::passing(agent_type).await.unwrap();
            sessions.push(agent.connect(&replica.url, 1).await.unwrap());
            others.push(agent);
        }
    }
    Agents {
        scaffold,
        _others: others,
        _sessions: sessions,
    }
}

async fn open_question(replica: &Replica, workflow_id: &str) -> Clarification {
    let request = ListClarificationsRequest {
        workflow_id: workflow_id.to_owned(),
        ..ListClarificationsRequest::default()
    };
    let listed = replica
        .clarifications()
        .list_clarifications(request)
        .await
        .unwrap()
        .into_inner();
    let [open] = &listed.clarifications[..] else {
        panic!("{listed:?}");
    };
    open.clone()
}

async fn answer(replica: &Replica, clarification_id: &str, answer: &str) -> Result<(), Error> {
    let request = AnswerClarificationRequest {
        clarification_id: clarification_id.to_owned(),
        answer: answer.to_owned(),
        actor: "ada".to_owned(),
        ..AnswerClarificationRequest::default()
    };
    replica
        .clarifications()
        .answer_clarification(request)
        .await
        .map(|_| ())
        .map_err(|status| Error::from_status(&status).unwrap())
}

async fn resume(replica: &Replica, workflow_id: &str, budget: Option<Budget>) -> Result<(), Error> {
    let request = ResumeWorkflowRequest {
        workflow_id: workflow_id.to_owned(),
        budget,
        ..ResumeWorkflowRequest::default()
    };
    replica
        .workflows()
        .resume_workflow(request)
        .await
        .map(|_| ())
        .map_err(|status| Error::from_status(&status).unwrap())
}

/// Everything that waits for a person has waited too long.
async fn let_all_expire(database: &Database, table: &str) {
    let connection = database.connect().await.unwrap();
    let update = format!("UPDATE {table} SET expire_time = now() - interval '1 s'");
    connection.execute(update.as_str(), &[]).await.unwrap();
}

fn is_question(payload: &Payload) -> bool {
    matches!(payload, Payload::ClarificationAsked(_))
}

fn is_pause(payload: &Payload) -> bool {
    matches!(payload, Payload::Paused(_))
}

#[tokio::test]
async fn an_agent_may_ask_three_times_and_is_told_every_answer() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let script = vec![
        vec![asking(1)],
        vec![asking(2)],
        vec![asking(3)],
        vec![passed()],
    ];
    let agents = agents(&replica, script).await;
    let id = replica.create(app("shop")).await.workflow_id;
    let mut seen = 0;
    for round in 1..=3 {
        let events = replica.watch_until(&id, seen, is_question).await;
        let last = events.last().unwrap();
        let Some(Payload::ClarificationAsked(asked)) = &last.payload else {
            panic!("{last:?}");
        };
        assert_eq!((asked.kind(), asked.round), (AnswerKind::Choice, round));
        assert_eq!(asked.choices, ["euro", "yen"]);
        assert!(asked.expire_time.is_some());
        seen = last.sequence;
        let waiting = replica.get(&id).await;
        assert_eq!(waiting.state(), WorkflowState::AwaitingClarification);
        let open = open_question(&replica, &id).await;
        assert_eq!((open.stage.as_str(), open.round), ("scaffold", round));
        let wrong = answer(&replica, &open.clarification_id, "dollar").await;
        assert_eq!(wrong.unwrap_err().reason, ErrorReason::InvalidField);
        answer(&replica, &open.clarification_id, "yen")
            .await
            .unwrap();
        let again = answer(&replica, &open.clarification_id, "euro").await;
        assert_eq!(
            again.unwrap_err().reason,
            ErrorReason::ClarificationAnswered
        );
    }
    let rest = replica.watch(&id, seen).await;
    assert_gapless(&rest, seen);
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded, "{ended:?}");

    // Nothing was charged, and each attempt knew more than the one before.
    assert!(!kinds(&rest).iter().any(|kind| kind.ends_with("retry")));
    let calls = agents.scaffold.calls();
    assert_eq!(calls.len(), 4);
    for (number, call) in calls.iter().enumerate() {
        let told = &call.context.clarifications;
        assert_eq!(told.len(), number);
        if let Some(last) = told.last() {
            assert_eq!(last.question, question(number).question);
            assert_eq!((last.answer.as_str(), last.actor.as_str()), ("yen", "ada"));
            assert_eq!(
                call.context.checkpoint,
                format!("stopped {number}").into_bytes()
            );
        }
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_fourth_question_ends_the_stage_and_one_that_cannot_be_answered_does_at_once() {
    let unanswerable = finish(Outcome {
        clarification: Some(ClarificationRequest {
            choices: Vec::new(),
            ..question(1)
        }),
        ..Outcome::default()
    });
    for (script, answered, reason) in [
        (
            (1..=4).map(|number| vec![asking(number)]).collect(),
            3,
            "it asked again after three clarifications",
        ),
        (vec![vec![unanswerable]], 0, "nobody can answer"),
    ] {
        let database = database::migrated().await;
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::start(&database, folder.path()).await;
        let _agents = agents(&replica, script).await;
        let id = replica.create(app("shop")).await.workflow_id;
        let mut seen = 0;
        for _ in 0..answered {
            let events = replica.watch_until(&id, seen, is_question).await;
            seen = events.last().unwrap().sequence;
            let open = open_question(&replica, &id).await;
            answer(&replica, &open.clarification_id, "yen")
                .await
                .unwrap();
        }
        replica.watch(&id, seen).await;
        let outcome = replica.get(&id).await.outcome.unwrap();
        assert_eq!(outcome.verdict(), Verdict::NotProven);
        assert!(outcome.reason.contains(reason), "{}", outcome.reason);
        replica.stop().await;
    }
}

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_fails_the_stage() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let _agents = agents(&replica, vec![vec![asking(1)]]).await;
    let id = replica.create(app("shop")).await.workflow_id;
    replica.watch_until(&id, 0, is_question).await;
    let_all_expire(&database, "clarifications").await;
    replica.watch(&id, 0).await;
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    let outcome = ended.outcome.unwrap();
    assert!(
        outcome.reason.contains("nobody answered"),
        "{}",
        outcome.reason
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_spent_budget_waits_for_a_larger_one_and_the_work_goes_on_where_it_stopped() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let broken = Error::new(ErrorReason::Infrastructure, "the provider is away");
    let stopped = Error::new(ErrorReason::Draining, "the agent stops");
    let script = vec![
        // What attempts that fail or are lost have spent is spent, too.
        vec![spent(100), spent(250), Step::fail(broken)],
        vec![spent(300), Step::fail(stopped)],
        vec![spent(400), exhausted(tokens(420))],
        vec![passed()],
    ];
    let agents = agents(&replica, script).await;
    let request = contracts::orchestrator::CreateWorkflowRequest {
        budget: Some(Budget {
            token_count: 1000,
            ..Budget::default()
        }),
        ..app("shop")
    };
    let id = replica.create(request).await.workflow_id;
    let before = replica.watch_until(&id, 0, is_pause).await;
    let Some(Payload::Paused(paused)) = &before.last().unwrap().payload else {
        panic!("{before:?}");
    };
    assert_eq!(paused.reason, "the tokens ran out after 3 rounds");
    let waiting = replica.get(&id).await;
    assert_eq!(waiting.state(), WorkflowState::AwaitingBudget);
    assert_eq!(waiting.usage.unwrap().input_token_count, 970);

    let refused = resume(&replica, &id, None).await.unwrap_err();
    assert_eq!(refused.reason, ErrorReason::WorkflowState);
    assert!(refused.message.contains("larger"), "{}", refused.message);
    let tight = Budget {
        token_count: 970,
        ..Budget::default()
    };
    let refused = resume(&replica, &id, Some(tight)).await.unwrap_err();
    assert_eq!(refused.fields[0].0, "budget.token_count");
    let larger = Budget {
        token_count: 5000,
        ..Budget::default()
    };
    resume(&replica, &id, Some(larger)).await.unwrap();
    let rest = replica.watch(&id, before.last().unwrap().sequence).await;
    let resumed = rest.iter().find_map(|event| match &event.payload {
        Some(Payload::Resumed(resumed)) => resumed.budget,
        _ => None,
    });
    assert_eq!(resumed, Some(larger));
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Succeeded);
    assert_eq!(ended.budget, Some(larger));

    let calls = agents.scaffold.calls();
    let left: Vec<_> = calls
        .iter()
        .map(|call| call.context.budget.unwrap().token_count)
        .collect();
    assert_eq!(left, [1000, 750, 450, 4030]);
    // The same piece of work: what it has done outside stays its own.
    assert_eq!(calls[3].context.task_id, calls[0].context.task_id);
    assert_eq!(calls[3].context.checkpoint, b"half of it");
    replica.stop().await;
}

#[tokio::test]
async fn a_decision_that_nobody_makes_in_time_is_a_rejection_of_what_was_shown() {
    let database = database::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&database, folder.path()).await;
    let asking = finish(Outcome {
        verdict: Verdict::NotProven.into(),
        summary: "touches its judge".into(),
        decision: Some(DecisionRequest {
            category: DecisionCategory::SecurityAffecting.into(),
            question: "May it?".into(),
            subject_digest: "sha256:shown".into(),
            ..DecisionRequest::default()
        }),
        ..Outcome::default()
    });
    let _agents = agents(&replica, vec![vec![asking]]).await;
    let id = replica.create(app("shop")).await.workflow_id;
    let is_asked = |payload: &Payload| matches!(payload, Payload::DecisionAsked(_));
    replica.watch_until(&id, 0, is_asked).await;
    let_all_expire(&database, "decisions").await;
    let events = replica.watch(&id, 0).await;
    let resolved = events.iter().find_map(|event| match &event.payload {
        Some(Payload::DecisionResolved(resolved)) => resolved.decision.clone(),
        _ => None,
    });
    let resolved = resolved.unwrap();
    assert_eq!(resolved.actor, "timeout");
    assert_eq!(resolved.subject_digest, "sha256:shown");
    assert_eq!(resolved.category(), DecisionCategory::SecurityAffecting);
    let ended = replica.get(&id).await;
    assert_eq!(ended.state(), WorkflowState::Failed);
    assert!(
        ended
            .outcome
            .unwrap()
            .reason
            .contains("rejected by timeout")
    );
    let request = ListDecisionsRequest {
        workflow_id: id,
        ..ListDecisionsRequest::default()
    };
    let open = replica.decisions().list_decisions(request).await.unwrap();
    assert!(open.into_inner().decisions.is_empty());
    replica.stop().await;
}
