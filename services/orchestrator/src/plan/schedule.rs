//! What follows from a state by itself: which stages may start, which never will, and what the
//! workflow as a whole is. Knows the graph, not the event that led here.

use super::event::{Delay, Entry};
use super::pipeline::{Condition, Need, When};
use super::state::{Approval, StageState, TaskKind, TaskState, WorkflowState};
use super::step::Step;

impl Step<'_> {
    /// Brings the state to rest: what can be done is asked for, what cannot is given up.
    pub fn settle(&mut self) {
        if !self.state.compensating {
            self.give_up_stages();
            while self.cancel_unreachable() || self.start_repairs() || self.unblock() {}
        }
        self.close_clarifications();
        self.ask_decisions();
        self.balance_tasks();
        self.conclude();
        if !self.state.is_terminal() {
            self.state.workflow = self.workflow_state();
        }
    }

    /// A workflow that is stopped, or cannot succeed any more, starts nothing but what is meant to
    /// run after a failure.
    fn give_up_stages(&mut self) {
        let stop = self.state.stop.is_some();
        if stop {
            self.state.paused = false;
            self.state.awaiting_budget = false;
        } else if self.state.failure.is_none() {
            return;
        }
        for index in 0..self.state.stages.len() {
            let stage = &self.state.stages[index];
            let stays = !stop
                && self.definition(index).runs_after_failure()
                && stage.state != StageState::Repairing;
            match stage.task {
                TaskState::Leased if stop && !stage.stopping => self.stop(index),
                TaskState::Leased => {}
                TaskState::Waiting | TaskState::Absent if stage.has_ended() || stays => {}
                TaskState::Waiting | TaskState::Absent => self.end(index, StageState::Cancelled),
            }
        }
    }

    /// Stages whose needs can never be met any more.
    fn cancel_unreachable(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.state.stages.len() {
            let lost =
                self.state.stages[index].state == StageState::Blocked
                    && self.definition(index).needs.iter().any(|need| {
                        self.state.stages[need.stage].has_ended() && !self.is_met(*need)
                    });
            if lost {
                self.end(index, StageState::Cancelled);
                changed = true;
            }
        }
        changed
    }

    /// Stages whose needs are met.
    fn unblock(&mut self) -> bool {
        let frozen = self.frozen();
        let mut changed = false;
        for index in 0..self.state.stages.len() {
            let stage = &self.state.stages[index];
            let waits = matches!(stage.state, StageState::Blocked | StageState::Repairing)
                && stage.task == TaskState::Absent
                && frozen & (1 << index) == 0;
            let definition = self.definition(index);
            if !waits || !definition.needs.iter().all(|need| self.is_met(*need)) {
                continue;
            }
            changed = true;
            if definition.when == When::ProjectIsApp && self.state.project_is_app == Some(false) {
                "the project is a library".clone_into(&mut self.stage(index).summary);
                self.end(index, StageState::Skipped);
            } else if let Approval::Needed(_) = self.state.stages[index].approval {
                self.wait_for_decision(index, None);
            } else {
                self.stage(index).state = StageState::Ready;
            }
        }
        changed
    }

    fn is_met(&self, need: Need) -> bool {
        let stage = &self.state.stages[need.stage];
        match need.condition {
            Condition::Succeeded => {
                matches!(stage.state, StageState::Succeeded | StageState::Skipped)
                    || (self.definition(need.stage).optional && stage.has_ended())
            }
            Condition::Completed => matches!(
                stage.state,
                StageState::Succeeded | StageState::Failed | StageState::Skipped
            ),
            Condition::Always => stage.has_ended(),
        }
    }

    /// A READY stage has a task, unless something holds it back.
    fn balance_tasks(&mut self) {
        let all_held = self.state.paused
            || self.state.awaiting_budget
            || self
                .state
                .clarifications
                .iter()
                .any(|open| open.stage.is_none());
        for index in 0..self.state.stages.len() {
            let undoing = self.state.stages[index].kind == TaskKind::Undo;
            let retry = self.retry.take_if(|retry| retry.stage == index);
            if self.state.stages[index].state != StageState::Ready && !undoing {
                continue;
            }
            let held = !undoing
                && (all_held
                    || self
                        .state
                        .clarifications
                        .iter()
                        .any(|open| open.stage == Some(index)));
            let task = self.state.stages[index].task;
            if held {
                self.withdraw(index);
            } else if task == TaskState::Absent {
                let delay = retry.as_ref().map_or(Delay::None, |retry| retry.delay);
                self.create_task(index, delay);
            }
            let stage = &self.state.stages[index];
            let (name, attempt) = (stage.name.clone(), stage.attempt);
            if let Some(retry) = retry {
                self.record(Entry::RetryScheduled {
                    stage: name,
                    attempt,
                    class: retry.class,
                    reason: retry.reason,
                });
            } else if !held && task == TaskState::Absent {
                self.record(Entry::StageQueued {
                    stage: name,
                    attempt: attempt + 1,
                });
            }
        }
    }

    fn workflow_state(&self) -> WorkflowState {
        let state = &self.state;
        let any = |wanted: &dyn Fn(&super::state::Stage) -> bool| state.stages.iter().any(wanted);
        if state.compensating {
            WorkflowState::Compensating
        } else if state.paused {
            WorkflowState::Paused
        } else if state.awaiting_budget {
            WorkflowState::AwaitingBudget
        } else if any(&|stage| stage.task != TaskState::Absent) {
            if state.started {
                WorkflowState::Running
            } else {
                WorkflowState::Pending
            }
        } else if !state.clarifications.is_empty() {
            WorkflowState::AwaitingClarification
        } else if any(&|stage| stage.state == StageState::AwaitingDecision) {
            WorkflowState::AwaitingDecision
        } else {
            WorkflowState::Running
        }
    }
}
