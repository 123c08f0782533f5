//! The agent's session with the orchestrator: says hello, beats, obeys, and comes back whenever it
//! is cut off. Its own health says whether it can be given work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use contracts::client::{ClientChannel, Retry};
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::{
    AgentBeat, BeatAck, ConnectRequest, ConnectResponse, Goodbye, Hello, Welcome, connect_request,
    connect_response,
};
use contracts::wire_time;

use crate::agent::Agent;
use crate::leases::Leases;
use crate::load::Load;
use crate::tasks::Tasks;

/// Protocol that this runtime speaks.
pub const PROTOCOL: i32 = 1;

// Without an acknowledgement for so long the session is taken for dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
// A farewell that is not answered by then was not heard.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
// Beats are small and rare; a full queue means that the connection is stuck.
const QUEUE: usize = 8;
const RECONNECT: Retry = Retry {
    attempts: u32::MAX,
    initial: Duration::from_millis(200),
    longest: Duration::from_secs(5),
};

/// What the session tells the rest of the process.
pub(crate) trait Standing: Send + Sync {
    /// Whether the agent can be given work.
    fn set(&self, serving: bool) -> impl Future<Output = ()> + Send;
}

/// The way to the orchestrator, and what is said and learned on it.
pub(crate) struct Dialled {
    /// The way.
    pub(crate) channel: ClientChannel,
    /// What is said first.
    pub(crate) hello: Hello,
    /// What is learned.
    pub(crate) leases: Leases,
}

/// Holds sessions, one after the other, until the token is cancelled.
pub(crate) async fn hold<A: Agent>(
    dialled: Dialled,
    tasks: Arc<Tasks<A>>,
    standing: impl Standing,
    shutdown: CancellationToken,
) {
    let mut attempt = 0;
    let mut previous = None;
    loop {
        attempt += 1;
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            opened = open(&dialled, &tasks) => opened,
        };
        match opened {
            Ok(session) => {
                // Make before break: only now the old one is let go.
                drop(previous.take());
                attempt = 0;
                tracing::info!(epoch = session.epoch, "connected to the orchestrator");
                let (session, end) = keep(session, &tasks, &standing, &shutdown).await;
                match end {
                    End::Shutdown => return leave(session).await,
                    End::Reconnect => previous = Some(session),
                    End::Lost(reason) => {
                        standing.set(false).await;
                        tracing::warn!(reason, "session with the orchestrator lost");
                    }
                }
            }
            Err(status) => {
                standing.set(false).await;
                tracing::warn!(code = ?status.code(), message = status.message(), "cannot connect to the orchestrator");
            }
        }
        let delay = RECONNECT.delay(attempt.clamp(1, 16));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

struct Session {
    epoch: i64,
    beat_interval: Duration,
    sender: mpsc::Sender<ConnectRequest>,
    answers: Streaming<ConnectResponse>,
}

enum End {
    Shutdown,
    Reconnect,
    Lost(String),
}

async fn open<A: Agent>(dialled: &Dialled, tasks: &Tasks<A>) -> Result<Session, Status> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let hello = Hello {
        running: tasks.running(),
        ..dialled.hello.clone()
    };
    let first = ConnectRequest {
        payload: Some(connect_request::Payload::Hello(hello)),
    };
    // The queue is empty: this cannot wait.
    let _ = sender.try_send(first);
    let opening = async {
        let mut answers = AgentRegistryServiceClient::new(dialled.channel.clone())
            .connect(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        match answers.message().await?.and_then(|answer| answer.payload) {
            Some(connect_response::Payload::Welcome(welcome)) => Ok((welcome, answers)),
            _ => Err(Status::internal(
                "the orchestrator did not begin with a welcome",
            )),
        }
    };
    let (welcome, answers) = tokio::time::timeout(ACK_TIMEOUT, opening)
        .await
        .map_err(|_| Status::unavailable("the orchestrator did not answer in time"))??;
    let Welcome {
        session_epoch,
        beat_interval,
        stop_task_ids,
        lease_public_key,
        ..
    } = welcome;
    dialled.leases.learn(lease_public_key);
    tasks.stop(&stop_task_ids);
    Ok(Session {
        epoch: session_epoch,
        beat_interval: beat_interval
            .and_then(wire_time::duration)
            .filter(|interval| !interval.is_zero())
            .unwrap_or(BEAT_INTERVAL),
        sender,
        answers,
    })
}

async fn keep<A: Agent>(
    mut session: Session,
    tasks: &Tasks<A>,
    standing: &impl Standing,
    shutdown: &CancellationToken,
) -> (Session, End) {
    let mut load = Load::new();
    let mut beats = tokio::time::interval(session.beat_interval);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sequence = 0;
    let mut heard = Instant::now();
    let end = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break End::Shutdown,
            answer = session.answers.next() => match answer {
                None => break End::Lost("the orchestrator ended it".to_owned()),
                Some(Err(status)) => break End::Lost(status.message().to_owned()),
                Some(Ok(answer)) => {
                    heard = Instant::now();
                    match answer.payload {
                        Some(connect_response::Payload::BeatAck(ack)) => {
                            obey(&ack, tasks, standing).await;
                        }
                        Some(connect_response::Payload::Reconnect(_)) => break End::Reconnect,
                        Some(connect_response::Payload::Welcome(_)) | None => {}
                    }
                }
            },
            () = tokio::time::sleep_until(heard + ACK_TIMEOUT) => {
                break End::Lost("no beat was acknowledged for 15 s".to_owned());
            }
            () = tasks.news() => beats.reset_immediately(),
            _ = beats.tick() => {
                sequence += 1;
                let beat = beat(sequence, tasks, &mut load);
                if session.sender.try_send(beat).is_err() {
                    break End::Lost("the connection takes no more beats".to_owned());
                }
            }
        }
    };
    (session, end)
}

// Dropped at once, the connection could take the farewell with it: the orchestrator ends the session.
async fn leave(session: Session) {
    let Session {
        sender,
        mut answers,
        ..
    } = session;
    let goodbye = Goodbye {
        reason: "the agent is stopping".to_owned(),
    };
    let _ = sender.try_send(ConnectRequest {
        payload: Some(connect_request::Payload::Goodbye(goodbye)),
    });
    drop(sender);
    let ended = async { while let Some(Ok(_)) = answers.next().await {} };
    if tokio::time::timeout(LEAVE_WITHIN, ended).await.is_err() {
        tracing::warn!("the orchestrator did not answer the farewell");
    }
}

async fn obey<A: Agent>(ack: &BeatAck, tasks: &Tasks<A>, standing: &impl Standing) {
    tasks.stop(&ack.stop_task_ids);
    tasks.release(&ack.release_task_ids);
    standing
        .set(ack.reachable && tasks.unfit().is_empty())
        .await;
}

fn beat<A: Agent>(sequence: i64, tasks: &Tasks<A>, load: &mut Load) -> ConnectRequest {
    let (cpu_percent, memory_bytes) = load.measure();
    let beat = AgentBeat {
        sequence,
        running: tasks.running(),
        free_slot_count: i32::try_from(tasks.free_slot_count()).unwrap_or(i32::MAX),
        draining: tasks.is_draining(),
        cpu_percent,
        memory_bytes,
        time: Some(wire_time::now()),
        unfit_reason: tasks.unfit(),
    };
    ConnectRequest {
        payload: Some(connect_request::Payload::Beat(beat)),
    }
}
