//! What the end of an undo changes of what is known. The stage keeps the result of its run: that is
//! what was done, and what a further undo would have to take back.

use contracts::orchestrator::StageResult;
use contracts::task::{AgentType, Verdict};

use super::Step;
use crate::engine::live::RepositoryFacts;
use crate::plan::state::TaskKind;

impl Step<'_> {
    pub(super) fn is_undo(&self, stage: &str) -> bool {
        let planned = self.next.live.plan.stage(stage);
        planned.is_some_and(|planned| planned.kind == TaskKind::Undo)
    }

    // What was merged is merged no more, and what is live is what the undo says.
    pub(super) fn undone(&mut self, stage: &str, result: &StageResult) {
        let Some((number, outcome)) = self.next.stage_number(stage).zip(result.outcome()) else {
            return;
        };
        let done = outcome.verdict() == Verdict::Passed;
        let agent_type = self.next.submission.pipeline.stages[number].agent_type;
        match agent_type {
            AgentType::Integration if done => self.forget_merge(number),
            AgentType::Deployment => {
                for (known, now) in [
                    (&mut self.next.live.revision, &outcome.revision),
                    (&mut self.next.live.endpoint, &outcome.endpoint),
                ] {
                    if done || !now.is_empty() {
                        known.clone_from(now);
                    }
                }
            }
            AgentType::Integration
            | AgentType::Unspecified
            | AgentType::Scaffold
            | AgentType::Validation
            | AgentType::E2e => {}
        }
    }

    // The repository as the stages that still stand left it.
    fn forget_merge(&mut self, undone: usize) {
        let workflow = &mut self.next;
        let request = &workflow.submission.request;
        let asked = request.repository.clone();
        workflow.live.repository = asked.map_or_else(RepositoryFacts::default, Into::into);
        workflow.live.merged_commit.clear();
        let standing = workflow.live.plan.effects.clone();
        for number in standing.into_iter().filter(|&number| number != undone) {
            let name = &workflow.live.plan.stages[number].name;
            let outcome = workflow
                .results
                .get(name)
                .and_then(|result| result.outcome());
            if let Some(outcome) = outcome {
                workflow.live.learn_source(outcome);
            }
        }
    }
}
