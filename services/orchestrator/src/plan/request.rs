//! What people and deadlines ask of a whole workflow: to be cancelled, paused, resumed, retried,
//! answered. Knows nothing of who may ask.

use contracts::id::ClarificationId;

use super::event::{Command, Entry, Rejected};
use super::order::{Set, members};
use super::state::{
    Clarification, Outcome, StageState, Stop, TaskKind, TaskState, Verdict, WorkflowState,
};
use super::step::Step;

/// Clarifications in one workflow (engine.md: at most three rounds).
pub(super) const CLARIFICATIONS_MOST: u32 = 3;

impl Step<'_> {
    pub fn submit(&mut self) -> Result<(), Rejected> {
        if self.state.submitted {
            return Err(self.wrong_state("it was taken in already"));
        }
        self.state.submitted = true;
        self.record(Entry::Created);
        Ok(())
    }

    pub fn cancel(&mut self, reason: &str) -> Result<(), Rejected> {
        if self.state.compensating && self.state.stop.is_none() {
            return Err(self.wrong_state("it failed and is being undone already"));
        }
        if let Some(Stop::TimedOut) = self.state.stop {
            return Err(self.wrong_state("it took too long and is being stopped already"));
        }
        if self.state.stop.is_none() {
            self.state.stop = Some(Stop::Cancelled {
                reason: reason.to_owned(),
            });
            self.record(Entry::CancelRequested {
                reason: reason.to_owned(),
            });
        }
        Ok(())
    }

    pub fn time_out(&mut self) -> Result<(), Rejected> {
        if self.state.stop.is_some() || self.state.compensating {
            return Err(self.wrong_state("it is ending already"));
        }
        self.state.stop = Some(Stop::TimedOut);
        if self.state.failure.is_none() {
            let late = self.state.stages.iter().find(|stage| !stage.has_ended());
            let stage = late.map_or_else(String::new, |stage| stage.name.clone());
            self.state.failure = Some(Outcome {
                verdict: Verdict::NotProven,
                reason: format!(
                    "the workflow did not end in time; `{stage}` was {}",
                    late.map_or("the last", |stage| waiting_word(stage.state))
                ),
                stage,
            });
        }
        Ok(())
    }

    pub fn pause(&mut self, reason: &str) -> Result<(), Rejected> {
        if self.state.stop.is_some() || self.state.compensating {
            return Err(self.wrong_state("it is being stopped"));
        }
        if !self.state.paused {
            self.state.paused = true;
            self.record(Entry::Paused {
                reason: reason.to_owned(),
            });
        }
        Ok(())
    }

    pub fn resume(&mut self, reason: &str) -> Result<(), Rejected> {
        if !self.state.paused && !self.state.awaiting_budget {
            return Err(self.wrong_state("it is not paused"));
        }
        self.state.paused = false;
        self.state.awaiting_budget = false;
        self.record(Entry::Resumed {
            reason: reason.to_owned(),
        });
        Ok(())
    }

    pub fn budget_granted(&mut self) -> Result<(), Rejected> {
        if !self.state.awaiting_budget {
            return Err(self.wrong_state("it does not wait for a budget"));
        }
        self.state.awaiting_budget = false;
        self.record(Entry::Resumed {
            reason: "there is budget again".to_owned(),
        });
        Ok(())
    }

    /// Resets what is to run again: the named stage, all that did not succeed or was undone, and all
    /// that needs any of these. A stage whose needs failed could not go on from there alone.
    pub fn retry_workflow(&mut self, from_stage: Option<&str>) -> Result<(), Rejected> {
        if !matches!(
            self.state.workflow,
            WorkflowState::Failed | WorkflowState::Cancelled
        ) {
            return Err(self.wrong_state("only what failed or was cancelled can be retried"));
        }
        let named = from_stage.map(|name| self.index(name)).transpose()?;
        let mut again: Set = named.map_or(0, |index| 1 << index);
        for (index, stage) in self.state.stages.iter().enumerate() {
            let stands = match stage.state {
                StageState::Succeeded | StageState::Skipped => stage.undo != Some(Verdict::Passed),
                StageState::Failed => named.is_some() && self.definition(index).optional,
                StageState::Blocked
                | StageState::Ready
                | StageState::Running
                | StageState::Cancelled
                | StageState::AwaitingDecision
                | StageState::Repairing => false,
            };
            if !stands {
                again |= 1 << index;
            }
        }
        again |= members(again).fold(0, |all, index| all | self.definition(index).descendants);
        self.record(Entry::Retried {
            from_stage: from_stage.unwrap_or_default().to_owned(),
        });
        for index in members(again) {
            let stage = &self.state.stages[index];
            let unrepaired = named != Some(index) && stage.state != StageState::Succeeded;
            let kind = stage.kind.clone();
            self.reset(index);
            self.stage(index).repair_round = 0;
            // A repair that did not succeed is still what is to be done, unless somebody says that
            // the stage is to start from the beginning.
            if unrepaired && matches!(kind, TaskKind::Repair { .. }) {
                self.stage(index).kind = kind;
            }
        }
        for stage in &mut self.state.stages {
            stage.undo = None;
            stage.undo_problem.clear();
        }
        self.state.stop = None;
        self.state.failure = None;
        self.state.outcome = None;
        Ok(())
    }

    pub fn clarification_asked(
        &mut self,
        name: Option<&str>,
        epoch: Option<i64>,
        clarification_id: ClarificationId,
    ) -> Result<(), Rejected> {
        let too_many = self.state.clarification_count >= CLARIFICATIONS_MOST;
        let stage = match (name, epoch) {
            (Some(name), Some(epoch)) => {
                let index = self.release(name, epoch)?;
                if !self.waits_for_answer(index, too_many) {
                    return Ok(());
                }
                Some(index)
            }
            (name, _) => {
                if self.state.stop.is_some() || self.state.failure.is_some() {
                    return Err(self.wrong_state("it is ending"));
                }
                if too_many {
                    return Err(self.wrong_state("three clarifications were asked already"));
                }
                let index = name.map(|name| self.index(name)).transpose()?;
                if let Some(index) = index {
                    let stage = &self.state.stages[index];
                    if stage.has_ended() || stage.task == TaskState::Leased {
                        return Err(self.stage_state(index, "it does not wait to be started"));
                    }
                }
                index
            }
        };
        if self.open_clarification(clarification_id).is_some() {
            return Err(self.wrong_state("that clarification is open already"));
        }
        self.state.clarification_count += 1;
        self.state.clarifications.push(Clarification {
            clarification_id,
            stage,
        });
        self.record(Entry::ClarificationAsked {
            stage: stage.map(|index| self.name(index)),
            clarification_id,
        });
        Ok(())
    }

    /// An attempt ended with a question. False: it will not be answered.
    fn waits_for_answer(&mut self, index: usize, too_many: bool) -> bool {
        if self.state.stages[index].kind == TaskKind::Undo {
            let summary = "it asked a question instead".to_owned();
            self.undo_ended(index, Verdict::NotProven, summary);
            return false;
        }
        if self.is_stopping(index) {
            self.stopped(index, None);
            return false;
        }
        if too_many {
            let summary = "it asked again after three clarifications".to_owned();
            self.fail(index, Verdict::NotProven, summary);
            return false;
        }
        self.rerun(index);
        self.stage(index).state = StageState::Ready;
        true
    }

    pub fn clarification_answered(
        &mut self,
        clarification_id: ClarificationId,
    ) -> Result<(), Rejected> {
        let stage = self.take_clarification(clarification_id)?.stage;
        self.record(Entry::ClarificationAnswered {
            stage: stage.map(|index| self.name(index)),
            clarification_id,
        });
        Ok(())
    }

    pub fn clarification_expired(
        &mut self,
        clarification_id: ClarificationId,
    ) -> Result<(), Rejected> {
        let reason = "nobody answered a question about the requirements in time".to_owned();
        match self.take_clarification(clarification_id)?.stage {
            Some(index) => self.fail(index, Verdict::NotProven, reason),
            None => {
                self.state.failure.get_or_insert(Outcome {
                    verdict: Verdict::NotProven,
                    stage: String::new(),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Closes the clarifications that nobody waits for any more.
    pub fn close_clarifications(&mut self) {
        let ending = self.state.stop.is_some()
            || self.state.failure.is_some()
            || self.state.outcome.is_some();
        let (void, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.state.clarifications)
            .into_iter()
            .partition(|clarification| match clarification.stage {
                Some(index) => self.state.stages[index].has_ended(),
                None => ending,
            });
        self.state.clarifications = open;
        for clarification in void {
            let clarification_id = clarification.clarification_id;
            self.command(Command::CloseClarification { clarification_id });
        }
    }

    fn open_clarification(&self, clarification_id: ClarificationId) -> Option<usize> {
        self.state
            .clarifications
            .iter()
            .position(|open| open.clarification_id == clarification_id)
    }

    fn take_clarification(
        &mut self,
        clarification_id: ClarificationId,
    ) -> Result<Clarification, Rejected> {
        let position = self
            .open_clarification(clarification_id)
            .ok_or(Rejected::ClarificationNotOpen(clarification_id))?;
        Ok(self.state.clarifications.remove(position))
    }
}

fn waiting_word(state: StageState) -> &'static str {
    match state {
        StageState::Running => "still running",
        StageState::Ready => "waiting for an agent",
        StageState::AwaitingDecision => "waiting for a decision",
        StageState::Repairing => "being repaired",
        StageState::Blocked => "not started",
        StageState::Succeeded
        | StageState::Failed
        | StageState::Skipped
        | StageState::Cancelled => "the last",
    }
}
