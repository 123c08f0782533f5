//! One application of an event: the state being changed, and the commands that come of it. Knows the
//! moves that all parts of the plan share; which move is right is decided elsewhere.

use super::event::{Command, Entry, Event, Rejected, RetryClass};
use super::event::{DecisionAsk, Delay};
use super::pipeline::{Pipeline, StageDefinition};
use super::state::{
    Approval, Charges, Outcome, Question, Stage, StageState, State, TaskKind, TaskState, Verdict,
};

/// Why the next task of a stage is another try.
pub(super) struct Retry {
    pub stage: usize,
    pub class: RetryClass,
    pub reason: String,
    pub delay: Delay,
}

/// An event being applied.
pub(super) struct Step<'a> {
    pub pipeline: &'a Pipeline,
    pub state: State,
    pub commands: Vec<Command>,
    pub retry: Option<Retry>,
}

impl<'a> Step<'a> {
    pub fn new(pipeline: &'a Pipeline, state: State) -> Result<Self, Rejected> {
        let same = state.stages.len() == pipeline.stages.len()
            && state
                .stages
                .iter()
                .zip(&pipeline.stages)
                .all(|(stage, definition)| stage.name == definition.name);
        if !same {
            return Err(Rejected::PipelineMismatch);
        }
        Ok(Self {
            pipeline,
            state,
            commands: Vec::new(),
            retry: None,
        })
    }

    pub fn run(mut self, event: &Event) -> Result<(State, Vec<Command>), Rejected> {
        self.take(event)?;
        self.settle();
        Ok((self.state, self.commands))
    }

    fn take(&mut self, event: &Event) -> Result<(), Rejected> {
        if let Event::Submitted = event {
            return self.submit();
        }
        if let Event::ClarificationAsked {
            stage: None,
            epoch: None,
            ..
        } = event
            && !self.state.submitted
        {
            // Asked at intake: taken in, and nothing starts before the answer.
            self.submit()?;
        }
        if !self.state.submitted {
            return Err(self.wrong_state("it has not been taken in"));
        }
        if let Event::RetryRequested { from_stage } = event {
            return self.retry_workflow(from_stage.as_deref());
        }
        if self.state.is_terminal() {
            return Err(Rejected::AlreadyFinished(self.state.workflow));
        }
        match event {
            Event::Submitted | Event::RetryRequested { .. } => Ok(()),
            Event::LeaseGranted {
                stage,
                epoch,
                instance,
            } => self.lease_granted(stage, *epoch, *instance),
            Event::LeaseAdopted { stage, epoch } => self.lease_adopted(stage, *epoch),
            Event::Refused {
                stage,
                epoch,
                reason,
            } => self.refused(stage, *epoch, reason),
            Event::HandedBack {
                stage,
                epoch,
                reason,
            } => self.handed_back(stage, *epoch, reason),
            Event::ResultAccepted {
                stage,
                epoch,
                outcome,
            } => self.result_accepted(stage, *epoch, outcome),
            Event::AttemptFailed {
                stage,
                epoch,
                class,
                reason,
                retry_after,
            } => self.attempt_failed(stage, *epoch, *class, reason, *retry_after),
            Event::AttemptLost {
                stage,
                epoch,
                reason,
            } => self.attempt_lost(stage, *epoch, reason),
            Event::AttemptCancelled { stage, epoch } => self.attempt_cancelled(stage, *epoch),
            Event::BudgetExhausted {
                stage,
                epoch,
                reason,
            } => self.budget_exhausted(stage, *epoch, reason),
            Event::ScheduleTimedOut { stage } => self.schedule_timed_out(stage),
            Event::DecisionOpened { stage, decision_id } => {
                self.decision_opened(stage, *decision_id)
            }
            Event::DecisionResolved {
                stage,
                decision_id,
                resolution,
                actor,
            } => self.decision_resolved(stage, *decision_id, *resolution, actor),
            Event::ClarificationAsked {
                stage,
                epoch,
                clarification_id,
            } => self.clarification_asked(stage.as_deref(), *epoch, *clarification_id),
            Event::ClarificationAnswered { clarification_id } => {
                self.clarification_answered(*clarification_id)
            }
            Event::ClarificationExpired { clarification_id } => {
                self.clarification_expired(*clarification_id)
            }
            Event::BudgetGranted => self.budget_granted(),
            Event::CancelRequested { reason } => self.cancel(reason),
            Event::Paused { reason } => self.pause(reason),
            Event::Resumed { reason } => self.resume(reason),
            Event::WorkflowTimedOut => self.time_out(),
        }
    }

    pub fn definition(&self, index: usize) -> &'a StageDefinition {
        &self.pipeline.stages[index]
    }

    pub fn stage(&mut self, index: usize) -> &mut Stage {
        &mut self.state.stages[index]
    }

    pub fn name(&self, index: usize) -> String {
        self.state.stages[index].name.clone()
    }

    pub fn index(&self, name: &str) -> Result<usize, Rejected> {
        self.pipeline
            .index(name)
            .ok_or_else(|| Rejected::UnknownStage(name.to_owned()))
    }

    pub fn wrong_state(&self, problem: &'static str) -> Rejected {
        Rejected::WrongState {
            state: self.state.workflow,
            problem,
        }
    }

    pub fn stage_state(&self, index: usize, problem: &'static str) -> Rejected {
        Rejected::StageState {
            stage: self.name(index),
            state: self.state.stages[index].state,
            problem,
        }
    }

    pub fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub fn record(&mut self, entry: Entry) {
        self.commands.push(Command::Record(entry));
    }

    /// A task that was not leased goes away; a decision that is open is void.
    pub fn withdraw(&mut self, index: usize) {
        let stage = &mut self.state.stages[index];
        if stage.task == TaskState::Waiting {
            stage.task = TaskState::Absent;
            let stage = stage.name.clone();
            self.commands.push(Command::RemoveTask { stage });
        }
        let stage = &mut self.state.stages[index];
        if stage.question.take().is_some_and(|question| question.asked) {
            let stage = stage.name.clone();
            self.commands.push(Command::CloseDecision { stage });
        }
    }

    /// The stage ends like this.
    pub fn end(&mut self, index: usize, ending: StageState) {
        self.withdraw(index);
        let stage = self.stage(index);
        stage.state = ending;
        stage.stopping = false;
        stage.repair_waits = false;
        let stage = self.name(index);
        self.record(Entry::StageFinished { stage });
    }

    pub fn succeed(&mut self, index: usize) {
        self.has_effect(index);
        self.end(index, StageState::Succeeded);
    }

    /// What the stage did stands until it is undone.
    pub fn has_effect(&mut self, index: usize) {
        self.state.effects.retain(|&other| other != index);
        self.state.effects.push(index);
        let stage = self.stage(index);
        stage.undo = None;
        stage.undo_problem.clear();
    }

    /// The stage did not succeed, for good. If it was repairing another one's findings, that is the
    /// one that fails the workflow: its findings are the reason.
    pub fn fail(&mut self, index: usize, verdict: Verdict, summary: String) {
        let stage = self.stage(index);
        stage.verdict = Some(verdict);
        stage.summary = summary;
        let repaired = match &stage.kind {
            TaskKind::Repair { findings_of, round } => Some((findings_of.clone(), *round)),
            TaskKind::Run | TaskKind::Undo => None,
        };
        self.end(index, StageState::Failed);
        let culprit = repaired.and_then(|(findings_of, round)| {
            let culprit = self.pipeline.index(&findings_of)?;
            (self.state.stages[culprit].state == StageState::Repairing).then(|| {
                let why = self.state.stages[index].summary.clone();
                let repairing = self.name(index);
                let stage = self.stage(culprit);
                stage.summary = format!(
                    "{}; round {round} of repair by `{repairing}` did not succeed: {why}",
                    stage.summary
                );
                self.end(culprit, StageState::Failed);
                culprit
            })
        });
        let culprit = culprit.unwrap_or(index);
        if !self.definition(culprit).optional && self.state.failure.is_none() {
            let stage = &self.state.stages[culprit];
            self.state.failure = Some(Outcome {
                verdict: stage.verdict.unwrap_or(Verdict::NotProven),
                stage: stage.name.clone(),
                reason: stage.summary.clone(),
            });
        }
    }

    /// The stage waits for a person.
    pub fn wait_for_decision(&mut self, index: usize, after_run: Option<DecisionAsk>) {
        let stage = self.stage(index);
        stage.state = StageState::AwaitingDecision;
        if after_run.is_none() {
            "waits for somebody's approval".clone_into(&mut stage.summary);
        }
        stage.question = Some(Question {
            after_run,
            asked: false,
            decision_id: None,
        });
    }

    /// The stage runs again as a new piece of work.
    pub fn rerun(&mut self, index: usize) {
        self.withdraw(index);
        let stage = self.stage(index);
        stage.state = StageState::Blocked;
        stage.generation += 1;
        stage.charges = Charges::default();
    }

    /// The stage is as if it had not run; what it did outside, and what it was charged with in all,
    /// is remembered.
    pub fn reset(&mut self, index: usize) {
        self.rerun(index);
        let stage = self.stage(index);
        stage.kind = TaskKind::Run;
        stage.verdict = None;
        stage.summary = String::new();
        stage.waived = false;
        stage.rerun_by_itself = false;
        stage.repair_waits = false;
        stage.stopping = false;
        if let Approval::Given(category) = stage.approval {
            stage.approval = Approval::Needed(category);
        }
    }
}
