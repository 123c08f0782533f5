//! Watches a workflow from outside, event by event, and knows what must hold whatever happens. Keeps
//! its own books from the commands, so that the plan's own counters are not their only witness.

use std::collections::{BTreeMap, BTreeSet};

use contracts::id::{ClarificationId, DecisionId};

use crate::plan::attempt::REFUSALS_MOST;
use crate::plan::event::{Command, Entry, Event, Rejected};
use crate::plan::pipeline::{Condition, Pipeline};
use crate::plan::request::CLARIFICATIONS_MOST;
use crate::plan::state::{StageState, State, TaskKind, TaskState, Verdict, WorkflowState};

/// A task as the commands have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub kind: TaskKind,
    pub generation: u32,
    pub leased: bool,
}

/// What happened to one piece of work.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    failed: u32,
    lost: u32,
    refused: u32,
    results: u32,
}

#[derive(Debug, Clone)]
pub struct World {
    pub pipeline: Pipeline,
    pub state: State,
    pub tasks: BTreeMap<String, Task>,
    /// Asked decisions; the id once they were opened.
    pub decisions: BTreeMap<String, Option<DecisionId>>,
    pub clarifications: Vec<ClarificationId>,
    pub commands: Vec<Command>,
    tallies: BTreeMap<(String, u32), Tally>,
    rounds: BTreeMap<String, u32>,
    ended: BTreeSet<(String, i64)>,
    finished: bool,
    seen: u32,
}

impl World {
    pub fn new(pipeline: Pipeline, protected: &BTreeSet<String>) -> Self {
        let mut world = Self {
            state: State::new(&pipeline, protected),
            pipeline,
            tasks: BTreeMap::new(),
            decisions: BTreeMap::new(),
            clarifications: Vec::new(),
            commands: Vec::new(),
            tallies: BTreeMap::new(),
            rounds: BTreeMap::new(),
            ended: BTreeSet::new(),
            finished: false,
            seen: 0,
        };
        world.tell(&Event::Submitted).unwrap();
        world
    }

    /// Applies an event. A refused one must change nothing, and nothing may panic.
    pub fn tell(&mut self, event: &Event) -> Result<(), Rejected> {
        let (after, commands) = self.state.clone().apply(&self.pipeline, event)?;
        let before = std::mem::replace(&mut self.state, after);
        self.commands = commands;
        self.note_event(event, &before);
        self.note_commands();
        self.check(&before);
        Ok(())
    }

    fn note_event(&mut self, event: &Event, before: &State) {
        let (stage, epoch) = match event {
            Event::LeaseGranted { stage, epoch, .. } => {
                assert!(*epoch > before.stage(stage).unwrap().lease_epoch);
                let task = self.tasks.get_mut(stage).unwrap();
                assert!(!task.leased, "leased twice");
                task.leased = true;
                return;
            }
            Event::LeaseAdopted { stage, epoch } => {
                assert!(*epoch > before.stage(stage).unwrap().lease_epoch);
                assert!(self.tasks[stage].leased);
                return;
            }
            Event::ScheduleTimedOut { stage } => {
                assert!(!self.tasks[stage].leased);
                return;
            }
            Event::Refused { stage, epoch, .. }
            | Event::HandedBack { stage, epoch, .. }
            | Event::ResultAccepted { stage, epoch, .. }
            | Event::AttemptFailed { stage, epoch, .. }
            | Event::AttemptLost { stage, epoch, .. }
            | Event::AttemptCancelled { stage, epoch }
            | Event::BudgetExhausted { stage, epoch, .. }
            | Event::ClarificationAsked {
                stage: Some(stage),
                epoch: Some(epoch),
                ..
            } => (stage.clone(), *epoch),
            Event::DecisionOpened { stage, decision_id } => {
                let open = self.decisions.get_mut(stage).unwrap();
                assert_eq!(*open, None, "opened twice");
                *open = Some(*decision_id);
                return;
            }
            Event::DecisionResolved {
                stage, decision_id, ..
            } => {
                assert_eq!(self.decisions.remove(stage), Some(Some(*decision_id)));
                return;
            }
            Event::ClarificationAnswered { clarification_id }
            | Event::ClarificationExpired { clarification_id } => {
                self.clarifications.retain(|open| open != clarification_id);
                return;
            }
            Event::RetryRequested { .. } => {
                self.rounds.clear();
                self.finished = false;
                return;
            }
            Event::Submitted
            | Event::ClarificationAsked { .. }
            | Event::BudgetGranted
            | Event::CancelRequested { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::WorkflowTimedOut => return,
        };
        // The end of an attempt: by the newest lease, and only once.
        assert_eq!(before.stage(&stage).unwrap().lease_epoch, epoch, "stale");
        assert!(
            self.ended.insert((stage.clone(), epoch)),
            "{stage} ended twice under epoch {epoch}"
        );
        let task = self.tasks.remove(&stage).unwrap();
        assert!(task.leased, "ended without a lease");
        let tally = self.tallies.entry((stage, task.generation)).or_default();
        match event {
            Event::ResultAccepted { .. } => tally.results += 1,
            Event::AttemptFailed { .. } => tally.failed += 1,
            Event::AttemptLost { .. } | Event::AttemptCancelled { .. } => tally.lost += 1,
            Event::Refused { .. } | Event::HandedBack { .. } => tally.refused += 1,
            _ => {}
        }
    }

    fn note_commands(&mut self) {
        for command in self.commands.clone() {
            match command {
                Command::CreateTask {
                    stage,
                    task,
                    generation,
                    attempt,
                    ..
                } => {
                    self.may_be_created(&stage, &task);
                    let now = self.state.stage(&stage).unwrap();
                    assert_eq!((generation, attempt), (now.generation, now.attempt + 1));
                    let task = Task {
                        kind: task,
                        generation,
                        leased: false,
                    };
                    assert_eq!(self.tasks.insert(stage, task), None, "two tasks");
                }
                Command::RemoveTask { stage } => {
                    let task = self.tasks.remove(&stage).unwrap();
                    assert!(!task.leased, "a leased task was removed");
                }
                Command::StopTask { stage, epoch } => {
                    assert!(self.tasks[&stage].leased);
                    assert_eq!(self.state.stage(&stage).unwrap().lease_epoch, epoch);
                }
                Command::AskDecision { stage, .. } => {
                    assert_eq!(self.decisions.insert(stage, None), None, "asked twice");
                }
                Command::CloseDecision { stage } => {
                    assert!(self.decisions.remove(&stage).is_some());
                }
                Command::CloseClarification { clarification_id } => {
                    self.clarifications.retain(|open| *open != clarification_id);
                }
                Command::Record(entry) => self.note_entry(&entry),
            }
        }
    }

    fn note_entry(&mut self, entry: &Entry) {
        assert!(!self.finished, "{entry:?} after the end");
        match entry {
            Entry::ClarificationAsked {
                clarification_id, ..
            } => self.clarifications.push(*clarification_id),
            Entry::RepairRequested { stage, round, .. } => {
                let rounds = self.rounds.entry(stage.clone()).or_default();
                *rounds += 1;
                assert_eq!(*rounds, *round);
                let index = self.pipeline.index(stage).unwrap();
                let most = self.pipeline.stages[index].repair.unwrap().max_rounds;
                assert!(*rounds <= most, "{rounds} rounds of {most}");
            }
            Entry::Finished => self.finished = true,
            _ => {}
        }
    }

    /// A task is created only when the pipeline and the state of the workflow allow it.
    fn may_be_created(&self, stage: &str, kind: &TaskKind) {
        let index = self.pipeline.index(stage).unwrap();
        let definition = &self.pipeline.stages[index];
        assert!(!self.state.is_terminal());
        if *kind == TaskKind::Undo {
            assert!(definition.undo.is_some() && self.state.compensating);
            return;
        }
        assert!(!self.state.compensating && self.state.stop.is_none());
        assert!(!self.state.paused && !self.state.awaiting_budget);
        assert!(self.state.failure.is_none() || definition.runs_after_failure());
        for need in &definition.needs {
            let other = &self.state.stages[need.stage];
            let optional = self.pipeline.stages[need.stage].optional;
            let met = match need.condition {
                Condition::Succeeded => match other.state {
                    StageState::Succeeded | StageState::Skipped => true,
                    StageState::Failed | StageState::Cancelled => optional,
                    _ => false,
                },
                Condition::Completed => other.has_ended() && other.state != StageState::Cancelled,
                Condition::Always => other.has_ended(),
            };
            assert!(met, "{stage} needs {} ({:?})", other.name, other.state);
        }
    }

    fn check(&mut self, before: &State) {
        let state = &self.state;
        self.seen += 1;
        // Storing is slow, and the same for all.
        if self.seen.is_multiple_of(8) {
            let stored = serde_json::to_string(state).unwrap();
            assert_eq!(&serde_json::from_str::<State>(&stored).unwrap(), state);
        }
        for (old, new) in before.stages.iter().zip(&state.stages) {
            assert!(new.lease_epoch >= old.lease_epoch, "an epoch went back");
            assert!(new.generation >= old.generation);
            assert!(new.attempt + 1 >= old.attempt);
            assert!(new.failed_count >= old.failed_count && new.lost_count >= old.lost_count);
        }
        self.check_stages();
        self.check_budgets();
        if state.is_terminal() {
            self.check_end();
        } else {
            assert!(!self.finished);
            assert!(
                !self.tasks.is_empty()
                    || !self.decisions.is_empty()
                    || !self.clarifications.is_empty()
                    || state.paused
                    || state.awaiting_budget,
                "stuck: {state:#?}"
            );
        }
        let percent = state.percent(&self.pipeline, |_| 100.0);
        assert!((0.0..=100.0).contains(&percent));
        assert_eq!(
            percent >= 100.0,
            state.workflow == WorkflowState::Succeeded,
            "{percent}"
        );
    }

    fn check_stages(&self) {
        for stage in &self.state.stages {
            let name = &stage.name;
            let task = self.tasks.get(name);
            let expected = match task {
                None => TaskState::Absent,
                Some(task) if task.leased => TaskState::Leased,
                Some(_) => TaskState::Waiting,
            };
            assert_eq!(stage.task, expected, "{name}");
            assert_eq!(stage.question.is_some(), self.decisions.contains_key(name));
            let undoing = task.is_some_and(|task| task.kind == TaskKind::Undo);
            if undoing {
                assert!(self.state.compensating);
                continue;
            }
            match stage.state {
                StageState::Running => assert_eq!(stage.task, TaskState::Leased, "{name}"),
                StageState::Ready => assert_ne!(stage.task, TaskState::Leased, "{name}"),
                _ => assert_eq!(stage.task, TaskState::Absent, "{name}"),
            }
            assert_eq!(
                stage.state == StageState::AwaitingDecision,
                stage.question.is_some(),
                "{name}"
            );
            assert!(!stage.stopping || stage.state == StageState::Running);
            assert!(!stage.repair_waits || stage.state == StageState::Repairing);
        }
    }

    fn check_budgets(&self) {
        for ((stage, generation), tally) in &self.tallies {
            let index = self.pipeline.index(stage).unwrap();
            let retry = self.pipeline.stages[index].retry;
            assert!(
                tally.failed <= retry.max_attempts
                    && tally.lost <= retry.max_lost
                    && tally.refused <= REFUSALS_MOST,
                "{stage} {generation}: {tally:?}"
            );
            assert!(tally.results <= 1, "{stage} {generation}: two results");
        }
        assert!(self.state.clarification_count <= CLARIFICATIONS_MOST);
    }

    fn check_end(&self) {
        let state = &self.state;
        assert!(self.finished && self.tasks.is_empty() && self.decisions.is_empty());
        assert!(self.clarifications.is_empty());
        assert!(
            state
                .stages
                .iter()
                .all(super::super::state::Stage::has_ended)
        );
        let outcome = state.outcome.as_ref().unwrap();
        assert!(!outcome.reason.is_empty());
        match state.workflow {
            WorkflowState::Succeeded => {
                assert_eq!(outcome.verdict, Verdict::Passed);
                for (stage, definition) in state.stages.iter().zip(&self.pipeline.stages) {
                    let good = match stage.state {
                        StageState::Succeeded => {
                            stage.waived != (stage.verdict == Some(Verdict::Passed))
                        }
                        StageState::Skipped => true,
                        _ => definition.optional,
                    };
                    assert!(good, "{stage:#?}");
                }
            }
            WorkflowState::Failed | WorkflowState::Cancelled => {
                assert_ne!(outcome.verdict, Verdict::Passed);
                for &index in &state.effects {
                    let undone = self.pipeline.stages[index].undo.is_none()
                        || state.stages[index].undo.is_some();
                    assert!(undone, "{} was not undone", state.stages[index].name);
                }
            }
            other => panic!("{other:?} is no end"),
        }
    }
}
