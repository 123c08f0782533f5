//! One agent's session: hello, beats, acknowledgements.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use contracts::client::ClientChannel;
use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::InstanceId;
use contracts::lease::Signer;
use contracts::orchestrator::{
    ConnectRequest, ConnectResponse, Hello, RunningTask, Welcome, connect_request, connect_response,
};
use contracts::parse::Fields;
use contracts::task::AgentType;
use contracts::wire_time;
use service_runtime::tls::{Expected, Identity, Peer, Tls};

use super::{Agents, Session, callback};
use crate::clock::Clock;

/// How often agents beat.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(5);
// Both sides compare what runs this often.
const COMPARE_EVERY: u32 = 6;
const HELLO_WITHIN: Duration = Duration::from_secs(5);
// Acknowledgements are small; an agent that reads none is about to be lost.
const QUEUE: usize = 16;
const CAPABILITIES: usize = 256;

/// Decides which of the tasks that an agent runs it should go on with.
pub trait Arbiter: Clone + Send + Sync + 'static {
    /// Ids of tasks to stop.
    fn to_stop(
        &self,
        instance_id: InstanceId,
        running: Vec<RunningTask>,
    ) -> impl Future<Output = Vec<String>> + Send;

    /// Whether this replica can keep leases, and so is of use to agents.
    fn has_leases(&self) -> bool;

    /// Whether somebody asked for it to get no new work, through whichever replica.
    fn is_drained(&self, instance_id: InstanceId) -> impl Future<Output = bool> + Send;
}

/// What a session needs.
#[derive(Debug, Clone)]
pub struct Sessions<A> {
    /// The registry.
    pub agents: Agents,
    /// Who decides.
    pub arbiter: A,
    /// The clock.
    pub clock: Arc<Clock>,
    /// Where sessions live.
    pub tracker: TaskTracker,
    /// Ends them all.
    pub shutdown: CancellationToken,
    /// What agents are called with.
    pub tls: Tls,
    /// What leases are signed with.
    pub signer: Arc<Signer>,
}

struct Greeting {
    instance_id: InstanceId,
    agent_type: AgentType,
    hello: Hello,
    channel: ClientChannel,
}

impl<A: Arbiter> Sessions<A> {
    /// Opens a session; answers come through the receiver.
    pub async fn open(
        &self,
        peer: &Peer,
        mut requests: Streaming<ConnectRequest>,
    ) -> Result<mpsc::Receiver<Result<ConnectResponse, Status>>, Status> {
        let first = tokio::time::timeout(HELLO_WITHIN, requests.next())
            .await
            .map_err(|_| Error::invalid_field("hello", "did not come within 5 s"))?
            .ok_or_else(|| Error::invalid_field("hello", "is required"))??;
        let greeting = parse(first, peer, &self.tls)?;
        if !self.arbiter.has_leases() {
            let reason = "this orchestrator cannot reach its database; try another one";
            return Err(Error::new(ErrorReason::DatabaseUnavailable, reason).into());
        }
        let (answers, receiver) = mpsc::channel(QUEUE);
        let sessions = self.clone();
        self.tracker
            .spawn(async move { sessions.hold(greeting, requests, answers).await });
        Ok(receiver)
    }

    async fn hold(
        self,
        greeting: Greeting,
        mut requests: Streaming<ConnectRequest>,
        answers: mpsc::Sender<Result<ConnectResponse, Status>>,
    ) {
        let Greeting {
            instance_id,
            agent_type,
            mut hello,
            channel,
        } = greeting;
        let over = self.shutdown.child_token();
        let session = Session {
            answers: answers.clone(),
            end: over.clone(),
        };
        let running = std::mem::take(&mut hello.running);
        let kind = contracts::agent::type_name(agent_type);
        let address = hello.address.clone();
        let epoch = self.agents.connect(
            instance_id,
            hello,
            agent_type,
            channel.clone(),
            session,
            self.clock.now(),
        );
        tracing::info!(agentic.agent.instance_id = %instance_id, agentic.agent.type = kind, address, epoch, "agent connected");
        let keep_task_ids: Vec<_> = running.iter().map(|task| task.task_id.clone()).collect();
        let stop_task_ids = self.arbiter.to_stop(instance_id, running).await;
        let welcome = Welcome {
            session_epoch: epoch,
            beat_interval: Some(wire_time::wire_duration(BEAT_INTERVAL)),
            keep_task_ids: keep_task_ids
                .into_iter()
                .filter(|task| !stop_task_ids.contains(task))
                .collect(),
            stop_task_ids,
            lease_public_key: self.signer.public_key(),
        };
        let first = connect_response::Payload::Welcome(welcome);
        // A queue of our own that nobody has used yet takes one message.
        let _ = answers.try_send(Ok(ConnectResponse {
            payload: Some(first),
        }));
        // Before it can be called back, and so get work.
        if self.arbiter.is_drained(instance_id).await {
            self.agents.drain(instance_id);
        }
        self.tracker.spawn(callback::watch(
            self.agents.clone(),
            instance_id,
            agent_type,
            channel,
            self.clock.clone(),
            over.clone(),
        ));
        let goodbye = tokio::select! {
            biased;
            () = over.cancelled() => false,
            // Before the end of the connection: a farewell may come together with it.
            goodbye = self.listen(instance_id, &mut requests, &answers) => goodbye,
            () = answers.closed() => false,
        };
        over.cancel();
        self.agents.disconnect(instance_id, epoch, goodbye);
        tracing::info!(agentic.agent.instance_id = %instance_id, goodbye, "agent disconnected");
    }

    // True: the agent left in order.
    async fn listen(
        &self,
        instance_id: InstanceId,
        requests: &mut Streaming<ConnectRequest>,
        answers: &mpsc::Sender<Result<ConnectResponse, Status>>,
    ) -> bool {
        let mut beat_count = 0;
        while let Some(Ok(request)) = requests.next().await {
            match request.payload {
                Some(connect_request::Payload::Beat(beat)) => {
                    beat_count += 1;
                    if beat_count % COMPARE_EVERY == 0 {
                        let stop = self
                            .arbiter
                            .to_stop(instance_id, beat.running.clone())
                            .await;
                        self.agents.stop_tasks(instance_id, stop);
                    }
                    let Some(ack) = self.agents.beat(instance_id, beat, self.clock.now()) else {
                        return false;
                    };
                    let payload = connect_response::Payload::BeatAck(ack);
                    if answers
                        .try_send(Ok(ConnectResponse {
                            payload: Some(payload),
                        }))
                        .is_err()
                    {
                        return false;
                    }
                }
                Some(connect_request::Payload::Goodbye(_)) => return true,
                Some(connect_request::Payload::Hello(_)) | None => return false,
            }
        }
        false
    }
}

fn parse(first: ConnectRequest, peer: &Peer, tls: &Tls) -> Result<Greeting, Error> {
    let Some(connect_request::Payload::Hello(hello)) = first.payload else {
        return Err(Error::invalid_field("hello", "must be the first message"));
    };
    let mut fields = Fields::new();
    let instance_id: Option<InstanceId> = fields.id("hello.instance_id", &hello.instance_id);
    let agent_type = fields.required_enum::<AgentType>("hello.agent_type", hello.agent_type);
    fields.required_text("hello.address", &hello.address, contracts::parse::URL_BYTES);
    fields.labels("hello.labels", &hello.labels);
    if !(1..=1024).contains(&hello.slot_count) {
        fields.wrong("hello.slot_count", "is not between 1 and 1024");
    }
    if hello.protocol_min > wire_protocol() || hello.protocol_max < wire_protocol() {
        fields.wrong(
            "hello.protocol_min",
            format!("this orchestrator speaks protocol {}", wire_protocol()),
        );
    }
    if hello.capabilities.len() > CAPABILITIES {
        fields.wrong(
            "hello.capabilities",
            format!("has more than {CAPABILITIES} entries"),
        );
    }
    if tls.can_serve() && !hello.address.starts_with("https://") {
        fields.wrong(
            "hello.address",
            "does not begin with https://, and this orchestrator calls nobody in clear text",
        );
    }
    let channel = tls
        .channel(&hello.address, None, Expected::Agent(agent_type))
        .map_err(|error| fields.wrong("hello.address", error.to_string()))
        .ok();
    if peer.secure {
        is_who_it_says(peer, agent_type)?;
    }
    let (Some(instance_id), Some(channel)) = (instance_id, channel) else {
        return fields.finish(()).and(Err(Error::internal()));
    };
    fields.finish(Greeting {
        instance_id,
        agent_type,
        hello,
        channel,
    })
}

// What an agent is comes from its certificate; what it says must be the same.
fn is_who_it_says(peer: &Peer, said: AgentType) -> Result<(), Error> {
    let said = Identity::agent(said);
    let found = match &peer.identity {
        None => {
            return Err(Error::new(
                ErrorReason::Unauthenticated,
                format!("an agent must show a certificate that names it: {said}"),
            ));
        }
        Some(Identity::Agent { agent_type, .. }) if Identity::agent(*agent_type) == said => {
            return Ok(());
        }
        Some(found) => found,
    };
    Err(Error::new(
        ErrorReason::PermissionDenied,
        format!("the agent says that it is {said}, and its certificate is that of {found}"),
    ))
}

fn wire_protocol() -> i32 {
    1
}

/// Reads an instance id from a request.
pub fn instance_id(text: &str) -> Result<InstanceId, Error> {
    InstanceId::from_str(text)
        .map_err(|_| Error::invalid_field("instance_id", "is required, and is a UUID"))
}
