//! The end of a workflow: what stands is undone, newest first, before it is FAILED or CANCELLED.
//! Knows which stages declare an undo, not what an undo does.

use super::event::{Command, Delay, Entry};
use super::state::{
    Charges, Outcome, StageState, Stop, TaskKind, TaskState, Verdict, WorkflowState,
};
use super::step::Step;

impl Step<'_> {
    /// Ends the workflow if nothing is left to do; undoes first what must be undone.
    pub fn conclude(&mut self) {
        let state = &self.state;
        let active = state
            .stages
            .iter()
            .any(|stage| stage.task != TaskState::Absent || !stage.has_ended());
        if active || state.is_terminal() {
            return;
        }
        if state.stop.is_none() && state.failure.is_none() {
            self.finish();
            return;
        }
        let next = state.effects.iter().rev().copied().find(|&index| {
            self.definition(index).undo.is_some() && state.stages[index].undo.is_none()
        });
        match next {
            // Nothing new starts while it is paused, not even an undo.
            Some(_) if state.paused && !state.compensating => {}
            Some(index) => {
                self.state.compensating = true;
                self.start_undo(index);
            }
            None => self.finish(),
        }
    }

    /// An undo is over, one way or the other.
    pub fn undo_ended(&mut self, index: usize, verdict: Verdict, summary: String) {
        if verdict == Verdict::Passed {
            self.state.effects.retain(|&other| other != index);
        }
        let stage = self.stage(index);
        stage.kind = TaskKind::Run;
        stage.undo = Some(verdict);
        if verdict == Verdict::Passed {
            stage.summary = format!("undone: {summary}");
        } else {
            stage.summary = format!("{}; undoing it did not succeed: {summary}", stage.summary);
            stage.undo_problem.clone_from(&summary);
        }
        let stage = stage.name.clone();
        self.record(Entry::StageCompensated {
            stage,
            verdict,
            summary,
        });
    }

    fn start_undo(&mut self, index: usize) {
        let stage = self.stage(index);
        stage.kind = TaskKind::Undo;
        stage.generation += 1;
        stage.charges = Charges::default();
        self.create_task(index, Delay::None);
        let stage = &self.state.stages[index];
        let (stage, attempt) = (stage.name.clone(), stage.attempt + 1);
        self.record(Entry::StageQueued { stage, attempt });
    }

    /// Creates the task of a stage.
    pub fn create_task(&mut self, index: usize, after: Delay) {
        let stage = self.stage(index);
        stage.task = TaskState::Waiting;
        let command = Command::CreateTask {
            stage: stage.name.clone(),
            task: stage.kind.clone(),
            generation: stage.generation,
            attempt: stage.attempt + 1,
            after,
        };
        self.command(command);
    }

    fn finish(&mut self) {
        let (workflow, mut outcome) = match (self.state.stop.take(), self.state.failure.clone()) {
            (Some(Stop::Cancelled { reason }), _) => {
                let outcome = Outcome {
                    verdict: Verdict::NotProven,
                    stage: String::new(),
                    reason: match reason.as_str() {
                        "" => "cancelled".to_owned(),
                        reason => format!("cancelled: {reason}"),
                    },
                };
                (WorkflowState::Cancelled, outcome)
            }
            (_, Some(failure)) => (WorkflowState::Failed, failure),
            (_, None) => (WorkflowState::Succeeded, self.success()),
        };
        for &index in self.state.effects.iter().rev() {
            let stage = &self.state.stages[index];
            if stage.undo.is_some() {
                outcome.reason.push_str("; `");
                outcome.reason.push_str(&stage.name);
                outcome.reason.push_str("` could not be undone: ");
                outcome.reason.push_str(&stage.undo_problem);
            }
        }
        self.state.workflow = workflow;
        self.state.outcome = Some(outcome);
        self.state.compensating = false;
        self.state.paused = false;
        self.state.awaiting_budget = false;
        self.close_clarifications();
        self.record(Entry::Finished);
    }

    fn success(&self) -> Outcome {
        let stages = &self.state.stages;
        let named = |wanted: &dyn Fn(&super::state::Stage) -> bool| {
            let names = stages.iter().filter(|stage| wanted(stage));
            let names: Vec<_> = names.map(|stage| format!("`{}`", stage.name)).collect();
            (names.len(), names.join(", "))
        };
        let (passed, _) = named(&|stage| stage.state == StageState::Succeeded && !stage.waived);
        let parts = [
            (
                "accepted in spite of their verdict",
                named(&|stage| stage.waived),
            ),
            (
                "not needed",
                named(&|stage| stage.state == StageState::Skipped),
            ),
            (
                "optional and without success",
                named(&|stage| matches!(stage.state, StageState::Failed | StageState::Cancelled)),
            ),
        ];
        let mut reason = match passed {
            1 => "1 stage passed".to_owned(),
            count => format!("{count} stages passed"),
        };
        for (what, (count, names)) in parts {
            if count > 0 {
                reason.push_str("; ");
                reason.push_str(what);
                reason.push_str(": ");
                reason.push_str(&names);
            }
        }
        Outcome {
            verdict: Verdict::Passed,
            stage: String::new(),
            reason,
        }
    }
}
