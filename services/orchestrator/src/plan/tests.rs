//! Tests of the plan as a whole: what they share is here, one group of rules per file.

mod rules;

use std::collections::BTreeSet;

use contracts::id::InstanceId;

use super::built_in::built_in;
use super::event::{Command, Entry, Event, Rejected, StageOutcome};
use super::pipeline::Pipeline;
use super::state::{StageState, State, TaskState, Verdict, WorkflowState};

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
        let (state, commands) = self.state.apply(&self.pipeline, event)?;
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
