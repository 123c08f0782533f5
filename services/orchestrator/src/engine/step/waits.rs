//! What attempts leave behind: their history, what was spent, where the next one can go on, and the
//! question for which they wait.

use contracts::orchestrator::StageResult;
use contracts::task::Usage;

use super::{Asked, CLARIFICATION_PATIENCE, Step};
use crate::engine::live::{AnswerFacts, Millis, UsageFacts};
use crate::store::clarifications::{Change, StoredClarification};
use crate::store::commit::AttemptRow;

impl Step<'_> {
    // What a result says about the workflow.
    pub(super) fn learn(&mut self, stage: &str, result: &StageResult) {
        let Some(outcome) = result.outcome() else {
            return;
        };
        self.next.live.learn(outcome);
        let Some(number) = self.next.stage_number(stage) else {
            return;
        };
        let facts = &mut self.next.live.stages[number];
        facts.has_result = true;
        facts.checkpoint.clone_from(&outcome.checkpoint);
        if let Some(usage) = &outcome.usage {
            // The last word, whatever was said on the way.
            facts.spent = UsageFacts::from(usage);
        }
    }

    // What a running attempt has spent so far.
    pub(super) fn spent(&mut self, stage: &str, usage: &Usage) {
        if let Some(number) = self.next.stage_number(stage) {
            self.next.live.stages[number].spent = UsageFacts::from(usage);
        }
    }

    // An attempt is over, for the history.
    pub(super) fn ended(&mut self, stage: &str, ending: &str, reason: String) {
        let Some(number) = self.next.stage_number(stage) else {
            return;
        };
        let planned = &self.next.live.plan.stages[number];
        let facts = &self.next.live.stages[number];
        let Some(task_id) = facts.task_id else { return };
        self.attempts.push(AttemptRow {
            stage: stage.to_owned(),
            attempt: i32::try_from(planned.attempt).unwrap_or(i32::MAX),
            task_id,
            lease_epoch: planned.lease_epoch,
            instance_id: facts.instance_id,
            ending: ending.to_owned(),
            reason,
            start_time: facts.start.map(Millis::time),
            end_time: self.setting.now,
        });
        self.settle(number);
    }

    // What it spent is spent, however it ended.
    fn settle(&mut self, number: usize) {
        let facts = &mut self.next.live.stages[number];
        let spent = std::mem::take(&mut facts.spent);
        let wall = facts.start.map_or(0, |start| {
            let now = Millis::of(self.setting.now);
            now.0.saturating_sub(start.0).max(0)
        });
        self.next.live.usage.add(&spent);
        self.next.live.wall_millis = self.next.live.wall_millis.saturating_add(wall);
    }

    // The plan waits for the answer: the question is open.
    pub(super) fn open_question(&mut self) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let Asked {
            clarification_id,
            stage,
            request,
        } = asked;
        let now = self.setting.now;
        let round = self.next.live.plan.clarification_count;
        self.clarifications.push(Change::Ask(StoredClarification {
            clarification_id,
            namespace: self.next.submission.namespace.clone(),
            workflow_id: self.next.id(),
            stage,
            kind: i16::try_from(request.kind).unwrap_or(0),
            question: request.question,
            choices: request.choices,
            round: i32::try_from(round).unwrap_or(i32::MAX),
            create_time: now,
            expire_time: now + CLARIFICATION_PATIENCE,
            answer_time: None,
            answer: String::new(),
            actor: String::new(),
        }));
    }

    // Somebody answered, or nobody did in time: then the answer is empty.
    pub(super) fn answered(&mut self, answered: AnswerFacts) {
        self.clarifications.push(Change::Answer {
            clarification_id: answered.clarification_id,
            time: self.setting.now,
            answer: answered.answer.clone(),
            actor: self.actor.clone(),
        });
        if !answered.answer.is_empty() {
            self.next.live.answers.push(AnswerFacts {
                actor: self.actor.clone(),
                ..answered
            });
        }
    }
}
