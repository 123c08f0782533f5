//! The session of a scripted agent with an orchestrator: hello, beats, and obedience to what the acknowledgements say.

use std::time::Duration;

use anyhow::{Context, bail};
use contracts::{
    client,
    orchestrator::{
        AgentBeat, BeatAck, ConnectRequest, ConnectResponse, Goodbye, Hello, Welcome,
        agent_registry_service_client::AgentRegistryServiceClient, connect_request,
        connect_response,
    },
    task::AgentType,
    wire_time,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::work::Workbench;

/// Where an orchestrator names none.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// The orchestrator says only in answer to a beat that it has called the agent back: until then, and at most for one beat's
/// time, beats come so often. A test need not wait for the second one.
const HASTE: Duration = Duration::from_millis(20);

/// A session whose farewell is not answered by then is stuck.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Messages that wait to be sent; more than one means that the orchestrator does not read.
const QUEUE: usize = 4;

/// How the beats go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beating {
    Alive { draining: bool },
    Silent,
}

/// A session; dropping it breaks the connection as a kill would.
#[derive(Debug)]
pub struct Session {
    welcome: Welcome,
    acknowledged: watch::Receiver<Option<BeatAck>>,
    reconnect: watch::Receiver<bool>,
    beating: watch::Sender<Beating>,
    outgoing: mpsc::Sender<ConnectRequest>,
    _tasks: JoinSet<()>,
}

impl Session {
    pub(super) async fn open(
        agent_type: AgentType,
        workbench: &Workbench,
        orchestrator: &str,
        slots: i32,
        address: &str,
    ) -> anyhow::Result<Self> {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let hello = Hello {
            instance_id: workbench.instance_id().to_string(),
            agent_type: agent_type.into(),
            address: address.to_owned(),
            version: "scripted".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            slot_count: slots,
            running: workbench.running(),
            ..Hello::default()
        };
        outgoing
            .send(says(connect_request::Payload::Hello(hello)))
            .await?;
        let channel = client::channel(orchestrator, None)?;
        let mut incoming = AgentRegistryServiceClient::new(channel)
            .connect(ReceiverStream::new(queue))
            .await?
            .into_inner();
        let welcome = match incoming.message().await?.context("no welcome")?.payload {
            Some(connect_response::Payload::Welcome(welcome)) => welcome,
            other => bail!("a session begins with a welcome, not with {other:?}"),
        };
        for task_id in &welcome.stop_task_ids {
            workbench.stop(task_id);
        }
        let every = welcome
            .beat_interval
            .and_then(wire_time::duration)
            .unwrap_or(BEAT_EVERY);
        let (beating, beats) = watch::channel(Beating::Alive { draining: false });
        let (acknowledge, acknowledged) = watch::channel(None);
        let (reconnecting, reconnect) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(beat(
            outgoing.clone(),
            beats,
            workbench.clone(),
            slots,
            every,
            acknowledged.clone(),
        ));
        tasks.spawn(listen(
            incoming,
            workbench.clone(),
            acknowledge,
            reconnecting,
        ));
        Ok(Self {
            welcome,
            acknowledged,
            reconnect,
            beating,
            outgoing,
            _tasks: tasks,
        })
    }

    /// How the orchestrator greeted it.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Waits until an acknowledgement is as asked.
    pub async fn acknowledged(
        &self,
        mut is_wanted: impl FnMut(&BeatAck) -> bool,
    ) -> anyhow::Result<BeatAck> {
        let mut acknowledged = self.acknowledged.clone();
        let ack = acknowledged
            .wait_for(|ack| ack.as_ref().is_some_and(&mut is_wanted))
            .await
            .context("the session has ended")?
            .clone();
        ack.context("no acknowledgement")
    }

    /// Waits until the orchestrator can call the agent, and so may give it work.
    pub async fn reachable(&self) -> anyhow::Result<()> {
        self.acknowledged(|ack| ack.reachable).await.map(|_| ())
    }

    /// Waits until the orchestrator asks to connect elsewhere.
    pub async fn told_to_reconnect(&self) -> anyhow::Result<()> {
        let mut reconnect = self.reconnect.clone();
        reconnect
            .wait_for(|told| *told)
            .await
            .context("the session has ended")?;
        Ok(())
    }

    /// Waits until the session is of no more use: the orchestrator ended it, asked to connect elsewhere, or acknowledged nothing
    /// for so long.
    pub async fn over(&self, patience: Duration) {
        let mut acknowledged = self.acknowledged.clone();
        let silent =
            async { while let Ok(Ok(())) = timeout(patience, acknowledged.changed()).await {} };
        tokio::select! {
            // The session has ended when this fails.
            _ = self.told_to_reconnect() => {}
            () = silent => {}
        }
    }

    /// Stops beating while the connection stays, as a frozen process does; or begins again.
    pub fn set_silent(&self, silent: bool) {
        let beating = if silent {
            Beating::Silent
        } else {
            Beating::Alive { draining: false }
        };
        self.beating.send_replace(beating);
    }

    /// Goes on beating, and says that it takes no new work.
    pub fn drain(&self) {
        self.beating.send_replace(Beating::Alive { draining: true });
    }

    /// Leaves in order.
    pub async fn leave(self) -> anyhow::Result<()> {
        let Self {
            mut acknowledged,
            outgoing,
            beating,
            _tasks: tasks,
            ..
        } = self;
        let goodbye = Goodbye {
            reason: "the test is over".to_owned(),
        };
        outgoing
            .send(says(connect_request::Payload::Goodbye(goodbye)))
            .await?;
        // Both ends of the outgoing queue, so that our half of the stream ends.
        drop((outgoing, beating));
        let ended = async { while acknowledged.changed().await.is_ok() {} };
        timeout(LEAVE_WITHIN, ended)
            .await
            .context("the orchestrator did not end the session")?;
        drop(tasks);
        Ok(())
    }
}

fn says(payload: connect_request::Payload) -> ConnectRequest {
    ConnectRequest {
        payload: Some(payload),
    }
}

async fn beat(
    outgoing: mpsc::Sender<ConnectRequest>,
    mut beats: watch::Receiver<Beating>,
    workbench: Workbench,
    slots: i32,
    every: Duration,
    acknowledged: watch::Receiver<Option<BeatAck>>,
) {
    let begun = Instant::now();
    let mut ticks = interval(every);
    let mut sequence = 0;
    loop {
        let is_known = acknowledged
            .borrow()
            .as_ref()
            .is_some_and(|ack| ack.reachable);
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep(HASTE), if !is_known && begun.elapsed() < every => {}
            changed = beats.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let Beating::Alive { draining } = *beats.borrow_and_update() else {
            continue;
        };
        sequence += 1;
        let running = workbench.running();
        let busy = running.iter().filter(|task| !task.finished).count();
        let beat = AgentBeat {
            sequence,
            free_slot_count: slots
                .saturating_sub(i32::try_from(busy).unwrap_or(i32::MAX))
                .max(0),
            running,
            draining,
            ..AgentBeat::default()
        };
        if outgoing
            .send(says(connect_request::Payload::Beat(beat)))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn listen(
    mut incoming: Streaming<ConnectResponse>,
    workbench: Workbench,
    acknowledge: watch::Sender<Option<BeatAck>>,
    reconnecting: watch::Sender<bool>,
) {
    while let Ok(Some(response)) = incoming.message().await {
        match response.payload {
            Some(connect_response::Payload::BeatAck(ack)) => {
                for task_id in &ack.stop_task_ids {
                    workbench.stop(task_id);
                }
                for task_id in &ack.release_task_ids {
                    workbench.release(task_id);
                }
                acknowledge.send_replace(Some(ack));
            }
            Some(connect_response::Payload::Reconnect(_)) => {
                reconnecting.send_replace(true);
            }
            Some(connect_response::Payload::Welcome(_)) | None => {}
        }
    }
}
