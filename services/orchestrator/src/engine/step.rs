//! One step of one workflow: asks the plan what follows from an event, and writes down everything
//! that must be committed together. No I/O: slots come from whoever calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use rand::Rng;

use contracts::id::ClarificationId;
use contracts::orchestrator::{StageResult, WorkflowEvent, workflow_event};
use contracts::task::{Artifact, Budget, ClarificationRequest, Progress, Usage};
use contracts::{trace, wire_time};

use super::live::{self, AnswerFacts, BudgetFacts, DecisionFacts, Millis};
use super::record;
use super::workflow::Workflow;
use crate::agents::Reservation;
use crate::plan::event::{Command, Delay, Entry, Event, Rejected};
use crate::plan::state::{TaskKind, TaskState};
use crate::store::commit::{AttemptRow, SubmissionRow, Transition};
use crate::store::requests::RequestRow;
use crate::store::{clarifications, decisions};

mod decide;
mod rows;
mod undo;
mod waits;

/// How long a decision waits for a person.
pub const DECISION_PATIENCE: Duration = Duration::from_hours(24);
/// How long a clarification waits for an answer.
pub const CLARIFICATION_PATIENCE: Duration = Duration::from_hours(24);
/// How long a lease holds without being renewed.
pub const LEASE: Duration = Duration::from_secs(15);

/// What happens to a workflow.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// What the plan is told; `None`: nothing that it needs to know.
    pub event: Option<Event>,
    /// Who caused it.
    pub actor: String,
    /// The result that goes with `ResultAccepted`.
    pub result: Option<(String, Arc<StageResult>)>,
    /// How an attempt ended, for the history: stage, ending, reason.
    pub ended: Option<(String, &'static str, String)>,
    /// The answer that goes with `DecisionResolved`.
    pub decided: Option<DecisionFacts>,
    /// The question that goes with `ClarificationAsked`.
    pub asked: Option<Asked>,
    /// The answer that goes with `ClarificationAnswered`; empty with `ClarificationExpired`.
    pub answered: Option<AnswerFacts>,
    /// What the running attempt of a stage has spent so far.
    pub spent: Option<(String, Usage)>,
    /// A new budget.
    pub budget: Option<Budget>,
    /// Progress of a running stage: stage, progress, sequence of its event.
    pub progress: Option<(String, Progress, i64)>,
    /// An artifact of a running stage: stage, artifact, sequence of its event.
    pub artifact: Option<(String, Artifact, i64)>,
    /// The call that caused it.
    pub request: Option<RequestRow>,
}

/// A question about the requirements.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its id.
    pub clarification_id: ClarificationId,
    /// Stage; empty: asked at intake.
    pub stage: String,
    /// The question.
    pub request: ClarificationRequest,
}

/// What must be done once the step is committed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most effects are the large one")]
pub enum Effect {
    /// A task was leased to an agent here.
    Drive {
        /// Stage.
        stage: String,
        /// Epoch.
        epoch: i64,
        /// The slot.
        reservation: Reservation,
    },
    /// A running task is to be stopped.
    Stop {
        /// Stage.
        stage: String,
        /// Epoch.
        epoch: i64,
    },
    /// A task with a concurrency key is over, or no longer the next.
    Freed {
        /// The key.
        concurrency_key: String,
    },
    /// A task waits for an agent.
    Waits {
        /// Agent type.
        agent_type: contracts::task::AgentType,
        /// From when on.
        at: SystemTime,
    },
    /// The workflow ended.
    Ended,
}

/// The outcome of a step.
#[derive(Debug)]
pub struct Stepped {
    /// The workflow after it.
    pub workflow: Workflow,
    /// What is to be committed.
    pub transition: Transition,
    /// Its events, as watchers get them.
    pub events: Vec<Arc<WorkflowEvent>>,
    /// What is to be done then.
    pub effects: Vec<Effect>,
}

/// Gives out slots.
pub type Slots<'a> = dyn Fn(contracts::task::AgentType) -> Option<Reservation> + Send + Sync + 'a;

/// What a step needs to know of the process that makes it.
pub struct Setting<'a> {
    /// Now, by the database's clock.
    pub now: SystemTime,
    /// This replica.
    pub replica_id: &'a str,
    /// Slots of agents that are connected here.
    pub slots: &'a Slots<'a>,
    /// Tasks with a concurrency key are leased at once; else they wait for their turn first.
    pub keyed_at_once: bool,
}

/// The first step of a workflow.
pub fn create(
    workflow: &Workflow,
    input: Input,
    setting: &Setting<'_>,
) -> Result<Stepped, Rejected> {
    let submission = SubmissionRow {
        request: workflow.submission.request.encode_to_vec(),
        pipeline: workflow.submission.wire_pipeline.encode_to_vec(),
        traceparent: workflow.submission.traceparent.clone(),
    };
    let mut stepped = step(workflow, input, setting)?;
    stepped.transition.submission = Some(submission);
    Ok(stepped)
}

/// A step.
pub fn step(workflow: &Workflow, input: Input, setting: &Setting<'_>) -> Result<Stepped, Rejected> {
    let mut step = Step::new(workflow, setting, input.actor.clone());
    step.run(input)?;
    Ok(step.finish(workflow))
}

struct Step<'a> {
    setting: &'a Setting<'a>,
    actor: String,
    next: Workflow,
    events: Vec<WorkflowEvent>,
    attempts: Vec<AttemptRow>,
    decisions: Vec<decisions::Change>,
    clarifications: Vec<clarifications::Change>,
    results: Vec<(String, Vec<u8>)>,
    // Tasks of this step: not before.
    ready: HashMap<String, SystemTime>,
    new_tasks: Vec<NewTask>,
    effects: Vec<Effect>,
    request: Option<RequestRow>,
    asked: Option<Asked>,
    budget: Option<Budget>,
}

struct NewTask {
    stage: String,
    agent_type: contracts::task::AgentType,
    ready: SystemTime,
}

impl<'a> Step<'a> {
    fn new(workflow: &Workflow, setting: &'a Setting<'a>, actor: String) -> Self {
        Self {
            setting,
            actor,
            next: workflow.clone(),
            events: Vec::new(),
            attempts: Vec::new(),
            decisions: Vec::new(),
            clarifications: Vec::new(),
            results: Vec::new(),
            ready: HashMap::new(),
            new_tasks: Vec::new(),
            effects: Vec::new(),
            request: None,
            asked: None,
            budget: None,
        }
    }

    fn run(&mut self, input: Input) -> Result<(), Rejected> {
        self.request = input.request;
        self.asked = input.asked;
        if let Some(budget) = input.budget {
            self.next.live.budget = Some(BudgetFacts::from(&budget));
            self.budget = Some(budget);
        }
        if let Some((stage, usage)) = input.spent {
            self.spent(&stage, &usage);
        }
        if let Some((stage, result)) = input.result {
            if self.is_undo(&stage) {
                self.undone(&stage, &result);
            } else {
                self.learn(&stage, &result);
                self.results.push((stage.clone(), result.encode_to_vec()));
                self.next.results.insert(stage, result);
            }
        }
        if let Some((stage, ending, reason)) = input.ended {
            self.ended(&stage, ending, reason);
        }
        if let Some(decided) = input.decided {
            self.decided(decided);
        }
        if let Some(answered) = input.answered {
            self.answered(answered);
        }
        if let Some((stage, progress, sequence)) = input.progress {
            self.progressed(&stage, progress, sequence);
        }
        if let Some((stage, artifact, sequence)) = input.artifact {
            if let Some(number) = self.next.stage_number(&stage) {
                self.next.live.stages[number].event_sequence = sequence;
            }
            let payload = record::artifact(artifact);
            self.push(stage, payload);
        }
        if let Some(event) = input.event {
            self.tell(&event)?;
        }
        self.hand_out()
    }

    // Tells the plan, and does what it commands.
    fn tell(&mut self, event: &Event) -> Result<(), Rejected> {
        let pipeline = &self.next.submission.pipeline;
        let plan = std::mem::take(&mut self.next.live.plan);
        let (plan, commands) = plan.apply(pipeline, event)?;
        self.next.live.plan = plan;
        for command in commands {
            self.obey(command)?;
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<(), Rejected> {
        match command {
            Command::CreateTask {
                stage,
                task,
                generation,
                after,
                ..
            } => {
                self.create_task(&stage, &task, generation, after);
                Ok(())
            }
            Command::RemoveTask { .. } => Ok(()),
            Command::StopTask { stage, epoch } => {
                self.effects.push(Effect::Stop { stage, epoch });
                Ok(())
            }
            Command::AskDecision {
                stage,
                ask,
                automatic,
            } => self.ask(&stage, ask, automatic),
            Command::CloseDecision { stage } => {
                self.void(&stage);
                Ok(())
            }
            Command::CloseClarification { clarification_id } => {
                self.clarifications.push(clarifications::Change::Answer {
                    clarification_id,
                    time: self.setting.now,
                    answer: String::new(),
                    actor: "orchestrator".to_owned(),
                });
                Ok(())
            }
            Command::Record(entry) => {
                self.record(&entry);
                Ok(())
            }
        }
    }

    fn create_task(&mut self, stage: &str, task: &TaskKind, generation: u32, after: Delay) {
        let Some(number) = self.next.stage_number(stage) else {
            return;
        };
        let definition = &self.next.submission.pipeline.stages[number];
        let (agent_type, patience) = (definition.agent_type, definition.schedule_timeout);
        let delay = match after {
            Delay::None => Duration::ZERO,
            Delay::Exactly(delay) => delay,
            Delay::Backoff { most } => most.mul_f64(rand::rng().random::<f64>()),
        };
        let ready = self.setting.now + delay;
        let undo = *task == TaskKind::Undo;
        let workflow_id = self.next.id();
        let concurrency_key = self.next.concurrency_key(number);
        let facts = &mut self.next.live.stages[number];
        facts.concurrency_key = concurrency_key;
        facts.task_id = Some(live::task_id(workflow_id, stage, generation, undo));
        facts.ready = Some(Millis::of(ready));
        facts.start_deadline = Some(Millis::of(ready + patience));
        (facts.percent, facts.event_sequence) = (0.0, 0);
        facts.phase.clear();
        facts.end = None;
        self.ready.insert(stage.to_owned(), ready);
        self.new_tasks.push(NewTask {
            stage: stage.to_owned(),
            agent_type,
            ready,
        });
    }

    // Gives new tasks to free slots, once everything else of the step is said.
    fn hand_out(&mut self) -> Result<(), Rejected> {
        for task in std::mem::take(&mut self.new_tasks) {
            let waits = self
                .next
                .live
                .plan
                .stage(&task.stage)
                .is_some_and(|planned| planned.task == TaskState::Waiting);
            if !waits {
                continue;
            }
            let due = task.ready <= self.setting.now;
            let keyed = self
                .next
                .stage_number(&task.stage)
                .is_some_and(|number| !self.next.live.stages[number].concurrency_key.is_empty());
            match if due && (!keyed || self.setting.keyed_at_once) {
                (self.setting.slots)(task.agent_type)
            } else {
                None
            } {
                Some(reservation) => self.lease(&task.stage, reservation)?,
                None => {
                    let (agent_type, at) = (task.agent_type, task.ready);
                    self.effects.push(Effect::Waits { agent_type, at });
                }
            }
        }
        Ok(())
    }

    // Gives a waiting task to an agent, in the same commit.
    pub(super) fn lease(&mut self, stage: &str, reservation: Reservation) -> Result<(), Rejected> {
        let epoch = self.next.live.plan.next_epoch(stage).unwrap_or(1);
        if let Some(number) = self.next.stage_number(stage) {
            let start = Millis::of(self.setting.now);
            let facts = &mut self.next.live.stages[number];
            facts.instance_id = Some(reservation.instance_id().0);
            reservation.address().clone_into(&mut facts.address);
            self.setting.replica_id.clone_into(&mut facts.owner);
            facts.start = Some(start);
            (facts.percent, facts.event_sequence) = (0.0, 0);
            self.next.live.start.get_or_insert(start);
        }
        self.tell(&Event::LeaseGranted {
            stage: stage.to_owned(),
            epoch,
            instance: reservation.instance_id(),
        })?;
        self.effects.push(Effect::Drive {
            stage: stage.to_owned(),
            epoch,
            reservation,
        });
        Ok(())
    }

    fn progressed(&mut self, stage: &str, progress: Progress, sequence: i64) {
        if let Some(number) = self.next.stage_number(stage) {
            let facts = &mut self.next.live.stages[number];
            facts.percent = progress.percent;
            facts.phase.clone_from(&progress.phase);
            facts.event_sequence = sequence;
        }
        self.push(stage.to_owned(), record::progress(progress));
    }

    fn record(&mut self, entry: &Entry) {
        if let Entry::StageFinished { stage } = entry
            && let Some(number) = self.next.stage_number(stage)
        {
            self.next.live.stages[number].end = Some(Millis::of(self.setting.now));
        }
        if *entry == Entry::Finished {
            self.next.end_time = Some(self.setting.now);
            self.effects.push(Effect::Ended);
        }
        if let Entry::ClarificationAsked { .. } = entry {
            self.open_question();
        }
        if let Entry::Retried { .. } = entry {
            self.next.end_time = None;
            let again = self.setting.now + super::submit::timeout(&self.next.submission.request);
            self.next.deadline = self.next.deadline.max(again);
        }
        // The end is told with the sequence that it gets itself.
        self.next.last_sequence += 1;
        let ready = |stage: &str| self.ready.get(stage).copied();
        let (stage, payload) = record::payload(
            entry,
            &self.next,
            &ready,
            &record::New {
                decisions: &self.decisions,
                clarifications: &self.clarifications,
                budget: self.budget,
            },
        );
        self.next.last_sequence -= 1;
        self.push(stage, payload);
    }

    fn push(&mut self, stage: String, payload: workflow_event::Payload) {
        self.next.last_sequence += 1;
        self.events.push(WorkflowEvent {
            workflow_id: self.next.id().to_string(),
            sequence: self.next.last_sequence,
            time: Some(wire_time::timestamp(self.setting.now)),
            stage,
            actor: self.actor.clone(),
            trace_id: trace::trace_id(&self.next.submission.traceparent).to_owned(),
            state: self.next.state().into(),
            percent: self.next.percent(),
            payload: Some(payload),
        });
    }
}

/// Leases a waiting task.
pub fn lease(
    workflow: &Workflow,
    stage: &str,
    reservation: Reservation,
    setting: &Setting<'_>,
) -> Result<Stepped, Rejected> {
    let mut step = Step::new(workflow, setting, "orchestrator".to_owned());
    step.lease(stage, reservation)?;
    Ok(step.finish(workflow))
}

/// Takes over a running attempt that another replica, or an earlier life of this one, drove.
pub fn adopt(
    workflow: &Workflow,
    stage: &str,
    setting: &Setting<'_>,
) -> Result<(Stepped, i64), Rejected> {
    let mut step = Step::new(workflow, setting, "orchestrator".to_owned());
    let epoch = workflow.live.plan.next_epoch(stage).unwrap_or(1);
    if let Some(number) = workflow.stage_number(stage) {
        setting
            .replica_id
            .clone_into(&mut step.next.live.stages[number].owner);
    }
    step.tell(&Event::LeaseAdopted {
        stage: stage.to_owned(),
        epoch,
    })?;
    Ok((step.finish(workflow), epoch))
}
