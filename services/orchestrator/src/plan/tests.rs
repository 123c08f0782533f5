//! Tests of the plan as a whole: what they share is here, one group of rules per file.

pub(super) mod build;
mod cancelling;
mod deciding;
mod ending;
mod properties;
mod random;
mod repairing;
mod retrying;
mod simulation;
mod starting;
mod table;
mod waiting;
mod world;

use std::collections::BTreeSet;

use contracts::id::{DecisionId, InstanceId};

use super::built_in::built_in;
use super::event::{
    Command, DecisionAsk, Entry, ErrorClass, Event, Rejected, Resolution, StageOutcome,
};
use super::pipeline::Pipeline;
use super::state::{Outcome, StageState, State, TaskState, Verdict, WorkflowState};

/// A workflow under test: a state, what its events asked for, and short ways to move it on.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub pipeline: Pipeline,
    pub state: State,
    /// Commands of the last event.
    pub commands: Vec<Command>,
}

impl Run {
    pub fn of(pipeline: Pipeline) -> Self {
        Self::protected(pipeline, &[])
    }

    pub fn protected(pipeline: Pipeline, protected: &[&str]) -> Self {
        let protected: BTreeSet<_> = protected.iter().map(|name| (*name).to_owned()).collect();
        let state = State::new(&pipeline, &protected);
        let mut run = Self {
            pipeline,
            state,
            commands: Vec::new(),
        };
        run.tell(&Event::Submitted);
        run
    }

    pub fn built_in(name: &str) -> Self {
        let all = built_in();
        let proto = all.iter().find(|pipeline| pipeline.name == name).unwrap();
        Self::of(Pipeline::parse(proto).unwrap())
    }

    pub fn try_tell(&mut self, event: &Event) -> Result<(), Rejected> {
        let (state, commands) = self.state.clone().apply(&self.pipeline, event)?;
        self.state = state;
        self.commands = commands;
        Ok(())
    }

    pub fn tell(&mut self, event: &Event) {
        if let Err(rejected) = self.try_tell(event) {
            panic!("{event:?}: {rejected}\n{:#?}", self.state);
        }
    }

    /// Leases the stage's task; the epoch.
    pub fn lease(&mut self, stage: &str) -> i64 {
        let epoch = self.state.next_epoch(stage).unwrap();
        self.tell(&Event::LeaseGranted {
            stage: stage.into(),
            epoch,
            instance: InstanceId::new(),
        });
        epoch
    }

    pub fn epoch(&self, stage: &str) -> i64 {
        self.state.stage(stage).unwrap().lease_epoch
    }

    /// The running attempt of the stage gives this verdict.
    pub fn result(&mut self, stage: &str, verdict: Verdict) {
        self.result_with(stage, outcome(verdict));
    }

    pub fn result_with(&mut self, stage: &str, outcome: StageOutcome) {
        let epoch = self.epoch(stage);
        self.tell(&Event::ResultAccepted {
            stage: stage.into(),
            epoch,
            outcome,
        });
    }

    /// The stage is leased, and the attempt ends with an error.
    pub fn error(&mut self, stage: &str, class: ErrorClass) {
        let epoch = self.lease(stage);
        self.tell(&Event::AttemptFailed {
            stage: stage.into(),
            epoch,
            class,
            reason: "it broke".into(),
            retry_after: None,
        });
    }

    /// The stage is leased, and the attempt is lost.
    pub fn lose(&mut self, stage: &str) {
        self.lease(stage);
        self.lose_running(stage);
    }

    pub fn lose_running(&mut self, stage: &str) {
        self.tell(&Event::AttemptLost {
            stage: stage.into(),
            epoch: self.epoch(stage),
            reason: "no beat".into(),
        });
    }

    pub fn stopped(&mut self, stage: &str) {
        self.tell(&Event::AttemptCancelled {
            stage: stage.into(),
            epoch: self.epoch(stage),
        });
    }

    /// The decision that the stage waits for exists now.
    pub fn open(&mut self, stage: &str) -> DecisionId {
        let decision_id = DecisionId::new();
        self.tell(&Event::DecisionOpened {
            stage: stage.into(),
            decision_id,
        });
        decision_id
    }

    pub fn resolve(&mut self, stage: &str, decision_id: DecisionId, resolution: Resolution) {
        self.tell(&resolved(stage, decision_id, resolution));
    }

    /// Opens the decision that the stage waits for, and answers it.
    pub fn decide(&mut self, stage: &str, resolution: Resolution) {
        let decision_id = self.open(stage);
        self.resolve(stage, decision_id, resolution);
    }

    pub fn cancel(&mut self) {
        self.tell(&Event::CancelRequested {
            reason: "not wanted".into(),
        });
    }

    pub fn pause(&mut self) {
        let reason = "lunch".into();
        self.tell(&Event::Paused { reason });
    }

    pub fn resume(&mut self) {
        let reason = "fed".into();
        self.tell(&Event::Resumed { reason });
    }

    pub fn retry(&mut self, from_stage: Option<&str>) {
        let from_stage = from_stage.map(str::to_owned);
        self.tell(&Event::RetryRequested { from_stage });
    }

    /// Runs the stage to this verdict.
    pub fn finish(&mut self, stage: &str, verdict: Verdict) {
        self.finish_with(stage, outcome(verdict));
    }

    pub fn finish_with(&mut self, stage: &str, outcome: StageOutcome) {
        let epoch = self.lease(stage);
        self.tell(&Event::ResultAccepted {
            stage: stage.into(),
            epoch,
            outcome,
        });
    }

    pub fn pass(&mut self, stages: &[&str]) {
        for stage in stages {
            self.finish(stage, Verdict::Passed);
        }
    }

    #[track_caller]
    pub fn is(&self, workflow: WorkflowState, stages: &[(&str, StageState)]) {
        let found: Vec<_> = stages
            .iter()
            .map(|(name, _)| (*name, self.state.stage(name).unwrap().state))
            .collect();
        assert_eq!((self.state.workflow, found.as_slice()), (workflow, stages));
    }

    /// Stages with a task that waits for an agent.
    pub fn waiting(&self) -> Vec<&str> {
        let stages = self.state.stages.iter();
        stages
            .filter(|stage| stage.task == TaskState::Waiting)
            .map(|stage| stage.name.as_str())
            .collect()
    }

    pub fn outcome(&self) -> &Outcome {
        self.state.outcome.as_ref().unwrap()
    }

    /// Verdict and stage of the outcome.
    pub fn ended(&self) -> (Verdict, &str) {
        let outcome = self.outcome();
        (outcome.verdict, outcome.stage.as_str())
    }

    pub fn commanded(&self, wanted: impl Fn(&Command) -> bool) -> bool {
        self.commands.iter().any(wanted)
    }

    pub fn recorded(&self, wanted: impl Fn(&Entry) -> bool) -> bool {
        self.commands
            .iter()
            .any(|command| matches!(command, Command::Record(entry) if wanted(entry)))
    }
}

pub(super) fn outcome(verdict: Verdict) -> StageOutcome {
    StageOutcome {
        verdict,
        summary: format!("{verdict:?}"),
        project_is_app: None,
        finding_count: 0,
        decision: None,
    }
}

pub(super) fn asking(verdict: Verdict, ask: DecisionAsk) -> StageOutcome {
    StageOutcome {
        decision: Some(ask),
        ..outcome(verdict)
    }
}

pub(super) fn resolved(stage: &str, decision_id: DecisionId, resolution: Resolution) -> Event {
    Event::DecisionResolved {
        stage: stage.into(),
        decision_id,
        resolution,
        actor: "kim".into(),
    }
}
