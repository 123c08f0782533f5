//! The repair loop: findings go back to the stage that wrote the change, and everything after it runs
//! again. Knows rounds and stages, not findings.

use super::event::{Command, Entry};
use super::order::{Set, members};
use super::state::{StageState, TaskKind, TaskState, Verdict};
use super::step::Step;

impl Step<'_> {
    /// Whether a FAILED verdict of this stage leads to a repair.
    pub fn may_be_repaired(&self, index: usize) -> bool {
        let Some(repair) = self.definition(index).repair else {
            return false;
        };
        let writer = &self.state.stages[repair.stage];
        self.state.failure.is_none()
            && self.state.stages[index].repair_round < repair.max_rounds
            && matches!(writer.state, StageState::Succeeded | StageState::Failed)
    }

    /// The last word of a stage, with the repairs that did not help.
    pub fn after_repairs(&self, index: usize, verdict: Verdict, summary: &str) -> String {
        let rounds = self.state.stages[index].repair_round;
        match self.definition(index).repair {
            Some(repair) if rounds > 0 && verdict == Verdict::Failed => {
                let rounds = match rounds {
                    1 => "1 round".to_owned(),
                    rounds => format!("{rounds} rounds"),
                };
                let by = self.name(repair.stage);
                format!("{summary}; {rounds} of repair by `{by}` did not help")
            }
            Some(_) | None => summary.to_owned(),
        }
    }

    /// Sends the findings of a stage back. What runs beside it judges a commit that is about to be
    /// replaced: it is stopped, and waited for.
    pub fn request_repair(&mut self, index: usize, finding_count: u32) {
        let Some(repair) = self.definition(index).repair else {
            return;
        };
        self.end(index, StageState::Repairing);
        let stage = self.stage(index);
        stage.repair_round += 1;
        stage.repair_waits = true;
        let round = stage.repair_round;
        let stage = self.name(index);
        let repairing_stage = self.name(repair.stage);
        self.record(Entry::RepairRequested {
            stage,
            repairing_stage,
            round,
            finding_count,
        });
        for other in members(self.definition(repair.stage).descendants) {
            let stage = &self.state.stages[other];
            match stage.task {
                TaskState::Leased if !stage.stopping => self.stop(other),
                TaskState::Leased | TaskState::Absent => {}
                TaskState::Waiting => self.reset(other),
            }
        }
    }

    /// Tells the agent of a stage to stop.
    pub fn stop(&mut self, index: usize) {
        let stage = self.stage(index);
        stage.stopping = true;
        let (stage, epoch) = (stage.name.clone(), stage.lease_epoch);
        self.command(Command::StopTask { stage, epoch });
    }

    /// Stages that must not start now, because a repair waits for those that run.
    pub fn frozen(&self) -> Set {
        (0..self.state.stages.len())
            .filter(|&index| self.state.stages[index].repair_waits)
            .filter_map(|index| self.definition(index).repair)
            .fold(0, |all, repair| {
                all | self.definition(repair.stage).descendants | 1 << repair.stage
            })
    }

    /// Starts the repairs that wait for nothing any more. True: one did.
    pub fn start_repairs(&mut self) -> bool {
        let mut started = false;
        for index in 0..self.state.stages.len() {
            let Some(repair) = self.definition(index).repair else {
                continue;
            };
            if !self.state.stages[index].repair_waits {
                continue;
            }
            let after = self.definition(repair.stage).descendants;
            let running =
                members(after).any(|other| self.state.stages[other].task == TaskState::Leased);
            if running {
                continue;
            }
            let stage = self.stage(index);
            let (verdict, summary) = (stage.verdict, stage.summary.clone());
            for other in members(after | 1 << repair.stage) {
                self.reset(other);
            }
            let stage = self.stage(index);
            stage.state = StageState::Repairing;
            stage.verdict = verdict;
            stage.summary = summary;
            let findings_of = stage.name.clone();
            let round = stage.repair_round;
            self.stage(repair.stage).kind = TaskKind::Repair { findings_of, round };
            started = true;
        }
        started
    }
}
