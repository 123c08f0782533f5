//! The scripted agent keeps the promises of task streams, and breaks them only where its script says so.

use std::sync::{Arc, Mutex};

use contracts::{
    agent::{self, AgentMessage, Cancellation},
    client::{self, ClientChannel},
    error::Error,
    error_reason::ErrorReason,
    orchestrator::{
        AgentBeat, BeatAck, ConnectRequest, ConnectResponse, DrainAgentRequest, DrainAgentResponse,
        GetAgentRequest, GetAgentResponse, ListAgentsRequest, ListAgentsResponse, StageTask,
        Welcome,
        agent_registry_service_server::{AgentRegistryService, AgentRegistryServiceServer},
        connect_request, connect_response, stage_task,
    },
    task::{AgentType, Progress, TaskContext, Verdict, task_event},
};
use futures::{StreamExt, stream::BoxStream};
use testkit::{
    loopback::LoopbackServer,
    scripted_agent::{Gate, ScriptedAgent, Step},
};
use tonic::{Request, Response, Status, Streaming, service::Routes};

fn channel(agent: &ScriptedAgent) -> ClientChannel {
    client::channel(&agent.url(), None).unwrap()
}

fn context(lease_epoch: i64) -> TaskContext {
    TaskContext {
        task_id: "task".into(),
        lease_epoch,
        ..TaskContext::default()
    }
}

fn task(agent_type: AgentType) -> StageTask {
    let task = match agent_type {
        AgentType::Unspecified => None,
        AgentType::Scaffold => Some(stage_task::Task::Scaffold(
            contracts::scaffold::ScaffoldTask::default(),
        )),
        AgentType::Validation => Some(stage_task::Task::Validation(
            contracts::validation::ValidationTask::default(),
        )),
        AgentType::E2e => Some(stage_task::Task::E2e(contracts::e2e::E2eTask::default())),
        AgentType::Integration => Some(stage_task::Task::Integration(
            contracts::integration::IntegrationTask::default(),
        )),
        AgentType::Deployment => Some(stage_task::Task::Deployment(
            contracts::deployment::DeploymentTask::default(),
        )),
    };
    StageTask { task }
}

async fn execute(
    agent: &ScriptedAgent,
    context: TaskContext,
) -> Result<BoxStream<'static, Result<AgentMessage, Status>>, Error> {
    agent::execute(channel(agent), context, task(agent.agent_type()))
        .await
        .map_err(|status| Error::from_status(&status).expect("a foreign status"))
}

fn progress(percent: f64) -> Step {
    Step::Event(task_event::Payload::Progress(Progress {
        percent,
        ..Progress::default()
    }))
}

fn sequences(messages: &[AgentMessage]) -> Vec<i64> {
    messages
        .iter()
        .map(|message| match message {
            AgentMessage::Event(event) => event.sequence,
            AgentMessage::Result(_) => 0,
        })
        .collect()
}

async fn rest(stream: BoxStream<'static, Result<AgentMessage, Status>>) -> Vec<AgentMessage> {
    stream.map(Result::unwrap).collect().await
}

#[tokio::test]
async fn all_five_types_accept_and_give_a_result() {
    for agent_type in agent::AGENT_TYPES {
        let agent = ScriptedAgent::passing(agent_type).await.unwrap();
        let messages = rest(execute(&agent, context(1)).await.unwrap()).await;
        assert_eq!(sequences(&messages), [1, 0]);
        let Some(AgentMessage::Result(result)) = messages.last() else {
            panic!("no result")
        };
        assert_eq!(result.outcome().unwrap().verdict(), Verdict::Passed);
    }
}

#[tokio::test]
async fn a_second_call_goes_on_where_it_is_told_and_begins_nothing() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let agent = ScriptedAgent::start(AgentType::E2e, move |_, _| {
        vec![
            Step::Accept,
            progress(10.0),
            Step::Wait(waiting.clone()),
            progress(90.0),
            Step::finish(AgentType::E2e, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let mut first = execute(&agent, context(1)).await.unwrap();
    first.next().await.unwrap().unwrap();
    gate.reached(1).await;
    drop(first);
    let again = TaskContext {
        resume_after_sequence: 1,
        reattach_only: true,
        ..context(1)
    };
    let second = execute(&agent, again).await.unwrap();
    gate.open();
    assert_eq!(sequences(&rest(second).await), [2, 3, 0]);
    let began: Vec<bool> = agent.calls().iter().map(|call| call.began).collect();
    assert_eq!(began, [true, false]);
}

#[tokio::test]
async fn a_newer_lease_takes_over_and_an_older_one_is_refused() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Scaffold, move |_, _| {
        vec![
            Step::Accept,
            Step::Wait(waiting.clone()),
            Step::finish(AgentType::Scaffold, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let mut old = execute(&agent, context(1)).await.unwrap();
    old.next().await.unwrap().unwrap();
    let new = execute(&agent, context(2)).await.unwrap();
    let ended = Error::from_status(&old.next().await.unwrap().unwrap_err()).unwrap();
    assert_eq!(ended.reason, ErrorReason::TakenOver);
    let refused = execute(&agent, context(1)).await.err().unwrap();
    assert_eq!(refused.reason, ErrorReason::StaleLease);
    gate.open();
    assert_eq!(sequences(&rest(new).await), [1, 0]);
}

#[tokio::test]
async fn a_call_that_was_overtaken_on_its_way_begins_nothing() {
    let agent = ScriptedAgent::passing(AgentType::Scaffold).await.unwrap();
    let overtaking = TaskContext {
        reattach_only: true,
        ..context(2)
    };
    let refused = execute(&agent, overtaking).await.err().unwrap();
    assert_eq!(refused.reason, ErrorReason::TaskNotFound);
    let refused = execute(&agent, context(1)).await.err().unwrap();
    assert_eq!(refused.reason, ErrorReason::StaleLease);
    let stream = execute(&agent, context(3)).await.unwrap();
    assert_eq!(sequences(&rest(stream).await), [1, 0]);
    let began: Vec<bool> = agent.calls().iter().map(|call| call.began).collect();
    assert_eq!(began, [false, false, true]);
}

#[tokio::test]
async fn what_it_does_not_know_or_is_not_it_refuses() {
    let agent = ScriptedAgent::passing(AgentType::Deployment).await.unwrap();
    let unknown = TaskContext {
        reattach_only: true,
        ..context(1)
    };
    assert_eq!(
        execute(&agent, unknown).await.err().unwrap().reason,
        ErrorReason::TaskNotFound
    );
    let other = TaskContext {
        agent_instance_id: "another".into(),
        ..context(1)
    };
    assert_eq!(
        execute(&agent, other).await.err().unwrap().reason,
        ErrorReason::WrongInstance
    );
}

#[tokio::test]
async fn scripted_faults_happen() {
    let steps = Arc::new(Mutex::new(vec![
        vec![Step::fail(Error::new(ErrorReason::NoFreeSlot, "full"))],
        vec![Step::Accept, Step::Vanish],
        vec![
            Step::Accept,
            Step::fail(Error::new(ErrorReason::Infrastructure, "broke")),
        ],
    ]));
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        steps.lock().unwrap().remove(0)
    })
    .await
    .unwrap();
    let call = |id: &str| TaskContext {
        task_id: id.into(),
        ..context(1)
    };
    let refused = execute(&agent, call("a")).await.err().unwrap();
    assert_eq!(refused.reason, ErrorReason::NoFreeSlot);
    assert_eq!(
        sequences(&rest(execute(&agent, call("b")).await.unwrap()).await),
        [1]
    );
    let broken: Vec<_> = execute(&agent, call("c")).await.unwrap().collect().await;
    assert!(broken[0].is_ok() && broken[1].is_err());
}

#[tokio::test]
async fn a_cancelled_task_ends_without_a_result() {
    let gate = Gate::new();
    let agent = ScriptedAgent::start(AgentType::Integration, move |_, _| {
        vec![Step::Accept, Step::Wait(gate.clone())]
    })
    .await
    .unwrap();
    let mut stream = execute(&agent, context(1)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let cancellation = Cancellation {
        task_id: "task".into(),
        lease_epoch: 1,
        grace: std::time::Duration::from_secs(1),
    };
    assert!(
        agent::cancel(channel(&agent), AgentType::Integration, cancellation)
            .await
            .unwrap()
    );
    let ended = Error::from_status(&stream.next().await.unwrap().unwrap_err()).unwrap();
    assert_eq!(ended.reason, ErrorReason::Cancelled);
    assert_eq!(agent.cancelled(), ["task"]);
}

#[tokio::test]
async fn a_dropped_agent_breaks_its_streams() {
    let gate = Gate::new();
    let agent = ScriptedAgent::start(AgentType::E2e, move |_, _| {
        vec![Step::Accept, Step::Wait(gate.clone())]
    })
    .await
    .unwrap();
    let mut stream = execute(&agent, context(1)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(agent);
    assert!(stream.next().await.unwrap().is_err());
}

/// Greets, acknowledges every beat, and releases every finished task.
struct Registry;

#[tonic::async_trait]
impl AgentRegistryService for Registry {
    type ConnectStream = BoxStream<'static, Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let responses = request.into_inner().filter_map(|message| async move {
            let payload = match message.ok()?.payload? {
                connect_request::Payload::Hello(_) => {
                    connect_response::Payload::Welcome(Welcome::default())
                }
                connect_request::Payload::Beat(beat) => acknowledgement(beat),
                connect_request::Payload::Goodbye(_) => return None,
            };
            Some(Ok(ConnectResponse {
                payload: Some(payload),
            }))
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn list_agents(
        &self,
        _: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn get_agent(
        &self,
        _: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        Err(Status::unimplemented("get"))
    }

    async fn drain_agent(
        &self,
        _: Request<DrainAgentRequest>,
    ) -> Result<Response<DrainAgentResponse>, Status> {
        Err(Status::unimplemented("drain"))
    }
}

fn acknowledgement(beat: AgentBeat) -> connect_response::Payload {
    let finished = beat.running.into_iter().filter(|task| task.finished);
    connect_response::Payload::BeatAck(BeatAck {
        sequence: beat.sequence,
        reachable: !beat.draining,
        release_task_ids: finished.map(|task| task.task_id).collect(),
        ..BeatAck::default()
    })
}

#[tokio::test]
async fn a_session_beats_releases_what_is_safe_and_says_when_it_drains() {
    let registry = Routes::new(AgentRegistryServiceServer::new(Registry));
    let registry = LoopbackServer::start(registry).await.unwrap();
    let agent = ScriptedAgent::passing(AgentType::E2e).await.unwrap();
    rest(execute(&agent, context(1)).await.unwrap()).await;
    assert_eq!(agent.messages("task").len(), 2);

    let session = agent.connect(&registry.url(), 2).await.unwrap();
    session.reachable().await.unwrap();
    assert_eq!(
        agent.messages("task").len(),
        0,
        "the result was not released"
    );
    session.drain();
    session.acknowledged(|ack| !ack.reachable).await.unwrap();
    session.leave().await.unwrap();
}
