//! Decisions in a step: asked, made, void.

use prost::Message;

use contracts::id::DecisionId;
use contracts::task::DecisionRequest;

use super::{DECISION_PATIENCE, Step};
use crate::engine::live::DecisionFacts;
use crate::engine::record;
use crate::plan::event::{Ask, Event, Rejected, Resolution};
use crate::store::decisions;

impl Step<'_> {
    pub(super) fn ask(&mut self, stage: &str, ask: Ask, automatic: bool) -> Result<(), Rejected> {
        let decision_id = DecisionId::new();
        let request = match ask {
            Ask::BeforeRun(category) => record::before_run(&self.next, stage, category),
            Ask::AfterRun(_) => self
                .next
                .results
                .get(stage)
                .and_then(|result| result.outcome())
                .and_then(|outcome| outcome.decision.clone())
                .unwrap_or_default(),
        };
        let now = self.setting.now;
        self.decisions
            .push(decisions::Change::Ask(decisions::StoredDecision {
                decision_id,
                namespace: self.next.submission.namespace.clone(),
                workflow_id: self.next.id(),
                stage: stage.to_owned(),
                request: request.encode_to_vec(),
                create_time: now,
                expire_time: now + DECISION_PATIENCE,
                resolve_time: None,
                resolution: 0,
                choice: String::new(),
                rationale: String::new(),
                actor: String::new(),
            }));
        if let Some(number) = self.next.stage_number(stage) {
            self.next.live.stages[number].open_decision = Some(decision_id);
        }
        self.tell_opened(stage, decision_id, request, automatic)
    }

    pub(super) fn tell_opened(
        &mut self,
        stage: &str,
        decision_id: DecisionId,
        request: DecisionRequest,
        automatic: bool,
    ) -> Result<(), Rejected> {
        self.tell(&Event::DecisionOpened {
            stage: stage.to_owned(),
            decision_id,
        })?;
        if !automatic {
            return Ok(());
        }
        self.decided(DecisionFacts {
            decision_id,
            category: request.category,
            subject_digest: request.subject_digest,
            resolution: contracts::task::Resolution::Approve.into(),
            choice: String::new(),
            rationale: format!(
                "confidence {:.2} suffices for the category",
                request.confidence
            ),
            actor: "automatic".to_owned(),
        });
        self.tell(&Event::DecisionResolved {
            stage: stage.to_owned(),
            decision_id,
            resolution: Resolution::Approve,
            actor: "automatic".to_owned(),
        })
    }

    pub(super) fn decided(&mut self, decided: DecisionFacts) {
        self.decisions.push(decisions::Change::Resolve {
            decision_id: decided.decision_id,
            time: self.setting.now,
            resolution: i16::try_from(decided.resolution).unwrap_or(0),
            choice: decided.choice.clone(),
            rationale: decided.rationale.clone(),
            actor: decided.actor.clone(),
        });
        let open = self
            .next
            .live
            .stages
            .iter_mut()
            .find(|facts| facts.open_decision == Some(decided.decision_id));
        if let Some(facts) = open {
            facts.open_decision = None;
            facts.decisions.push(decided);
        }
    }

    // Nobody needs the answer any more.
    pub(super) fn void(&mut self, stage: &str) {
        let Some(number) = self.next.stage_number(stage) else {
            return;
        };
        let Some(decision_id) = self.next.live.stages[number].open_decision.take() else {
            return;
        };
        self.decisions.push(decisions::Change::Resolve {
            decision_id,
            time: self.setting.now,
            resolution: contracts::task::Resolution::Reject as i16,
            choice: String::new(),
            rationale: "void: the workflow went on without it".to_owned(),
            actor: "orchestrator".to_owned(),
        });
    }
}
