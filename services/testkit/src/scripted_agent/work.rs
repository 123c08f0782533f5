//! The tasks of a scripted agent: begun once, remembered with everything they said, followed by whoever holds the newest lease.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use contracts::{
    agent::AgentMessage,
    error::Error,
    error_reason::ErrorReason,
    id::{InstanceId, TaskId},
    orchestrator::{RunningTask, StageTask},
    task::{Accepted, TaskContext, TaskEvent, task_event},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;

use super::{Call, Step};

pub(super) type Script = Box<dyn Fn(&TaskContext, &StageTask) -> Vec<Step> + Send + Sync>;

/// What is known of one task.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<AgentMessage>,
    lease_epoch: i64,
    /// How the stream ends after the messages; `None`: it goes on.
    end: Option<Result<(), Status>>,
}

impl Log {
    fn is_finished(&self) -> bool {
        matches!(self.messages.last(), Some(AgentMessage::Result(_)))
    }

    fn last_sequence(&self) -> i64 {
        self.messages
            .iter()
            .rev()
            .find_map(sequence)
            .unwrap_or_default()
    }
}

struct Work {
    attempt: i32,
    log: watch::Sender<Log>,
    stop: CancellationToken,
}

/// All tasks of an agent. Copies share them.
#[derive(Clone)]
pub(super) struct Workbench(Arc<Shared>);

struct Shared {
    instance_id: InstanceId,
    script: Script,
    tasks: Mutex<HashMap<String, Arc<Work>>>,
    /// Leases that were told that their task is not here: neither they nor older ones begin it.
    spent: Mutex<HashMap<String, i64>>,
    calls: watch::Sender<Vec<Call>>,
    cancelled: watch::Sender<Vec<String>>,
    running: TaskTracker,
    end: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl fmt::Debug for Workbench {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Workbench")
            .field("instance_id", &self.0.instance_id)
            .finish_non_exhaustive()
    }
}

impl Workbench {
    pub(super) fn new(instance_id: InstanceId, script: Script) -> Self {
        Self(Arc::new(Shared {
            instance_id,
            script,
            tasks: Mutex::default(),
            spent: Mutex::default(),
            calls: watch::Sender::default(),
            cancelled: watch::Sender::default(),
            running: TaskTracker::new(),
            end: CancellationToken::new(),
        }))
    }

    pub(super) fn instance_id(&self) -> InstanceId {
        self.0.instance_id
    }

    pub(super) fn calls(&self) -> watch::Receiver<Vec<Call>> {
        self.0.calls.subscribe()
    }

    pub(super) fn cancelled(&self) -> watch::Receiver<Vec<String>> {
        self.0.cancelled.subscribe()
    }

    pub(super) fn messages(&self, task_id: &str) -> Vec<AgentMessage> {
        let work = self.tasks().get(task_id).cloned();
        work.map(|work| work.log.borrow().messages.clone())
            .unwrap_or_default()
    }

    /// Begins a task, or goes on with it.
    pub(super) fn execute(
        &self,
        mut context: TaskContext,
        task: &StageTask,
    ) -> Result<BoxStream<'static, Result<AgentMessage, Status>>, Status> {
        let instance = &context.agent_instance_id;
        if !instance.is_empty() && *instance != self.0.instance_id.to_string() {
            return Err(Error::new(ErrorReason::WrongInstance, "this is another instance").into());
        }
        if context.task_id.is_empty() {
            context.task_id = TaskId::new().to_string();
        }
        let found = self.tasks().get(&context.task_id).cloned();
        // A newer attempt is begun anew, as by real agents.
        let found = found.filter(|work| context.attempt <= work.attempt || context.reattach_only);
        let is_spent = found.is_none() && self.is_spent(&context);
        let began = found.is_none() && !context.reattach_only && !is_spent;
        self.0.calls.send_modify(|calls| {
            calls.push(Call {
                context: context.clone(),
                task: task.clone(),
                began,
            });
        });
        let work = match found {
            Some(work) => work,
            None if is_spent => {
                return Err(Error::new(ErrorReason::StaleLease, "the lease is over").into());
            }
            None if context.reattach_only => {
                return Err(Error::new(ErrorReason::TaskNotFound, "no such task here").into());
            }
            None => {
                let steps = (self.0.script)(&context, task);
                // Refused before anything ran: there is no task to remember.
                if let Some(Step::Fail(status)) = steps.first() {
                    return Err(Status::clone(status));
                }
                self.begin(&context, steps)
            }
        };
        take_lease(&work.log, context.lease_epoch)?;
        Ok(follow(
            work.log.subscribe(),
            context.lease_epoch,
            context.resume_after_sequence,
        ))
    }

    /// Stops a task; false when there is none.
    pub(super) fn cancel(&self, task_id: &str) -> bool {
        self.0
            .cancelled
            .send_modify(|cancelled| cancelled.push(task_id.to_owned()));
        self.stop(task_id)
    }

    /// Stops a task and forgets that it ran.
    pub(super) fn stop(&self, task_id: &str) -> bool {
        let work = self.tasks().remove(task_id);
        work.inspect(|work| work.stop.cancel()).is_some()
    }

    /// Forgets a finished task.
    pub(super) fn release(&self, task_id: &str) {
        self.tasks().remove(task_id);
    }

    /// What runs, or is kept.
    pub(super) fn running(&self) -> Vec<RunningTask> {
        let describe = |(task_id, work): (&String, &Arc<Work>)| {
            let log = work.log.borrow();
            RunningTask {
                task_id: task_id.clone(),
                lease_epoch: log.lease_epoch,
                last_sequence: log.last_sequence(),
                finished: log.is_finished(),
            }
        };
        self.tasks().iter().map(describe).collect()
    }

    // Whether a task that is not here must not begin. Who asks only to attach ends older leases.
    fn is_spent(&self, context: &TaskContext) -> bool {
        let epoch = context.lease_epoch;
        let mut leases = self.0.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = leases.entry(context.task_id.clone()).or_default();
        if context.reattach_only && epoch >= *spent {
            *spent = epoch;
            return false;
        }
        epoch > 0 && epoch <= *spent
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Arc<Work>>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, context: &TaskContext, steps: Vec<Step>) -> Arc<Work> {
        let work = Arc::new(Work {
            attempt: context.attempt,
            log: watch::Sender::default(),
            stop: self.0.end.child_token(),
        });
        let older = self
            .tasks()
            .insert(context.task_id.clone(), Arc::clone(&work));
        if let Some(older) = older {
            older.stop.cancel();
        }
        let running = Arc::clone(&work);
        let instance_id = self.0.instance_id.to_string();
        self.0.running.spawn(async move {
            let end = tokio::select! {
                biased;
                () = running.stop.cancelled() => {
                    Err(Error::new(ErrorReason::Cancelled, "the task was stopped").into())
                }
                end = carry_out(&running.log, steps, &instance_id) => end,
            };
            running.log.send_modify(|log| log.end = Some(end));
        });
        work
    }
}

async fn carry_out(
    log: &watch::Sender<Log>,
    steps: Vec<Step>,
    instance_id: &str,
) -> Result<(), Status> {
    for step in steps {
        match step {
            Step::Accept => {
                let accepted = Accepted {
                    agent_instance_id: instance_id.to_owned(),
                    deadline: None,
                };
                say(log, task_event::Payload::Accepted(accepted));
            }
            Step::Event(payload) => say(log, payload),
            Step::Say(message) => log.send_modify(|log| log.messages.push(*message)),
            Step::Wait(gate) => gate.pass().await,
            Step::Work(time) => sleep(time).await,
            Step::Finish(result) => {
                log.send_modify(|log| log.messages.push(AgentMessage::Result(result)));
                return Ok(());
            }
            Step::Vanish => return Ok(()),
            Step::Fail(status) => return Err(*status),
        }
    }
    Ok(())
}

fn say(log: &watch::Sender<Log>, payload: task_event::Payload) {
    log.send_modify(|log| {
        log.messages.push(AgentMessage::Event(TaskEvent {
            sequence: log.last_sequence() + 1,
            time: Some(SystemTime::now().into()),
            payload: Some(payload),
        }));
    });
}

fn take_lease(log: &watch::Sender<Log>, lease_epoch: i64) -> Result<(), Status> {
    let mut held = 0;
    log.send_modify(|log| {
        log.lease_epoch = log.lease_epoch.max(lease_epoch);
        held = log.lease_epoch;
    });
    if lease_epoch < held {
        let message = format!("the task is held with lease epoch {held}");
        return Err(Error::new(ErrorReason::StaleLease, message).into());
    }
    Ok(())
}

fn sequence(message: &AgentMessage) -> Option<i64> {
    match message {
        AgentMessage::Event(event) => Some(event.sequence),
        AgentMessage::Result(_) => None,
    }
}

/// Everything after a sequence, until the result, the end, or a newer lease.
fn follow(
    log: watch::Receiver<Log>,
    lease_epoch: i64,
    after_sequence: i64,
) -> BoxStream<'static, Result<AgentMessage, Status>> {
    enum Next {
        Say(AgentMessage),
        End(Option<Status>),
    }
    stream::unfold(Some((log, 0)), move |state| async move {
        let (mut log, mut index) = state?;
        let next = loop {
            let next = {
                let log = log.borrow_and_update();
                if log.lease_epoch > lease_epoch {
                    let error = Error::new(ErrorReason::TakenOver, "a newer lease has the task");
                    Some(Next::End(Some(error.into())))
                } else if let Some(message) = log.messages.get(index) {
                    Some(Next::Say(message.clone()))
                } else {
                    log.end.as_ref().map(|end| Next::End(end.clone().err()))
                }
            };
            match next {
                Some(Next::Say(message)) => {
                    index += 1;
                    if sequence(&message).is_none_or(|sequence| sequence > after_sequence) {
                        break Next::Say(message);
                    }
                }
                Some(end) => break end,
                None => {
                    if log.changed().await.is_err() {
                        break Next::End(None);
                    }
                }
            }
        };
        match next {
            Next::Say(message) => Some((Ok(message), Some((log, index)))),
            Next::End(Some(status)) => Some((Err(status), None)),
            Next::End(None) => None,
        }
    })
    .boxed()
}
