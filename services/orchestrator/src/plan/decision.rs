//! Questions to people: when one is asked, when the answer can be given without a person, and what
//! each answer means for the stage. Knows categories and confidence, not what is being shown.

use contracts::id::DecisionId;
use contracts::task::DecisionCategory;

use super::event::{ApprovalEffect, Ask, Command, DecisionAsk, Entry, Rejected, Resolution};
use super::state::{Approval, StageState, Verdict};
use super::step::Step;

/// Confidence from which a change of form is approved by itself (engine.md, "Decisions"). All other
/// categories always need a person.
const REFACTOR_CONFIDENCE: f64 = 0.85;

impl Step<'_> {
    pub fn decision_opened(&mut self, name: &str, decision_id: DecisionId) -> Result<(), Rejected> {
        let index = self.index(name)?;
        match &mut self.state.stages[index].question {
            Some(question) if question.asked && question.decision_id.is_none() => {
                question.decision_id = Some(decision_id);
            }
            Some(_) => return Err(self.stage_state(index, "its decision is open already")),
            None => return Err(self.stage_state(index, "it asked for no decision")),
        }
        self.record(Entry::DecisionAsked {
            stage: name.to_owned(),
            decision_id,
        });
        Ok(())
    }

    pub fn decision_resolved(
        &mut self,
        name: &str,
        decision_id: DecisionId,
        resolution: Resolution,
        actor: &str,
    ) -> Result<(), Rejected> {
        let index = self.index(name)?;
        let question = self.state.stages[index].question;
        let Some(question) = question.filter(|open| open.decision_id == Some(decision_id)) else {
            return Err(Rejected::DecisionNotOpen {
                stage: name.to_owned(),
                decision_id,
            });
        };
        if question.after_run.is_none() && resolution == Resolution::Revise {
            return Err(self.stage_state(
                index,
                "it has not run, so there is nothing to revise: approve or reject",
            ));
        }
        // Answered, so there is nothing to close.
        self.stage(index).question = None;
        self.record(Entry::DecisionResolved {
            stage: name.to_owned(),
            decision_id,
            resolution,
        });
        match question.after_run {
            None => self.resolve_before_run(index, resolution, actor),
            Some(ask) => self.resolve_after_run(index, ask, resolution, actor),
        }
        Ok(())
    }

    fn resolve_before_run(&mut self, index: usize, resolution: Resolution, actor: &str) {
        match resolution {
            Resolution::Approve => {
                let stage = self.stage(index);
                if let Approval::Needed(category) = stage.approval {
                    stage.approval = Approval::Given(category);
                }
                stage.state = StageState::Blocked;
            }
            Resolution::Revise | Resolution::Reject => {
                let summary = format!("it was not allowed to run: rejected by {actor}");
                self.fail(index, Verdict::NotProven, summary);
            }
        }
    }

    fn resolve_after_run(
        &mut self,
        index: usize,
        ask: DecisionAsk,
        resolution: Resolution,
        actor: &str,
    ) {
        match (resolution, ask.on_approval) {
            (Resolution::Approve, ApprovalEffect::Accept) => {
                let stage = self.stage(index);
                stage.waived = stage.verdict != Some(Verdict::Passed);
                self.succeed(index);
            }
            (Resolution::Approve, ApprovalEffect::Rerun) | (Resolution::Revise, _) => {
                self.rerun(index);
            }
            (Resolution::Reject, _) => {
                let stage = &self.state.stages[index];
                let verdict = match stage.verdict {
                    Some(Verdict::Failed) => Verdict::Failed,
                    Some(Verdict::Passed | Verdict::NotProven) | None => Verdict::NotProven,
                };
                let summary = format!("{}; rejected by {actor}", stage.summary);
                self.fail(index, verdict, summary);
            }
        }
    }

    /// Asks for the decisions that stages wait for and that were not asked for yet.
    pub fn ask_decisions(&mut self) {
        for index in 0..self.state.stages.len() {
            let stage = &mut self.state.stages[index];
            let Some(question) = stage.question.as_mut().filter(|question| !question.asked) else {
                continue;
            };
            question.asked = true;
            let (ask, automatic) = match (question.after_run, stage.approval) {
                (Some(ask), _) => (Ask::AfterRun(ask), stage.answers_itself(&ask)),
                (None, Approval::Needed(category) | Approval::Given(category)) => {
                    (Ask::BeforeRun(category), false)
                }
                (None, Approval::NotNeeded) => {
                    (Ask::BeforeRun(DecisionCategory::Unspecified), false)
                }
            };
            if automatic
                && matches!(ask, Ask::AfterRun(ask) if ask.on_approval == ApprovalEffect::Rerun)
            {
                stage.rerun_by_itself = true;
            }
            let stage = stage.name.clone();
            self.command(Command::AskDecision {
                stage,
                ask,
                automatic,
            });
        }
    }
}

impl super::state::Stage {
    /// Whether nobody needs to be asked. Never where a yes would waive a verdict, nor a second time
    /// in a row: both are for people.
    fn answers_itself(&self, ask: &DecisionAsk) -> bool {
        let harmless = match ask.on_approval {
            ApprovalEffect::Accept => self.verdict == Some(Verdict::Passed),
            ApprovalEffect::Rerun => !self.rerun_by_itself,
        };
        harmless
            && ask.category == DecisionCategory::TechnicalRefactor
            && (REFACTOR_CONFIDENCE..=1.0).contains(&ask.confidence)
            && !ask.has_choices
    }
}
