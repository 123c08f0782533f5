//! Everything of a workflow that changes, in one value: where the plan stands, and the facts that
//! stages brought. Stored as it is with every step.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use contracts::id::{ClarificationId, DecisionId, WorkflowId};
use contracts::task::{
    AnsweredClarification, Budget, Outcome, Repository, ResolvedDecision, Usage,
};
use contracts::wire_time::{self, from_unix_millis, unix_millis};

use crate::plan::state::{State, is_default};

mod stored;

/// What changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Live {
    /// Where the plan stands.
    pub plan: State,
    /// The repository, as exact as it is known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repository: RepositoryFacts,
    /// Commit that the target branch got.
    #[serde(default, skip_serializing_if = "is_default")]
    pub merged_commit: String,
    /// Revision that is live.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: String,
    /// Where the app answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub endpoint: String,
    /// What was spent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usage: UsageFacts,
    /// Wall time of all attempts, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wall_millis: i64,
    /// What may be spent, since somebody changed it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Option<BudgetFacts>,
    /// Answers to clarifications, oldest first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub answers: Vec<AnswerFacts>,
    /// When the first stage started.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: Option<Millis>,
    /// By stage, in the order of the pipeline.
    pub stages: Vec<StageFacts>,
}

/// A repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct RepositoryFacts {
    #[serde(default, skip_serializing_if = "is_default")]
    pub url: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub base_commit: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub head_commit: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub branch: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_branch: String,
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct UsageFacts {
    pub input_token_count: i64,
    pub output_token_count: i64,
    pub cached_token_count: i64,
    pub cost_micros: i64,
    pub call_count: i32,
}

/// What may be spent; zero: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct BudgetFacts {
    pub token_count: i64,
    pub cost_micros: i64,
    pub wall_millis: i64,
}

/// An answered clarification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct AnswerFacts {
    pub clarification_id: ClarificationId,
    pub stage: String,
    pub question: String,
    pub answer: String,
    pub actor: String,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// Of a time.
    pub fn of(time: SystemTime) -> Self {
        Self(unix_millis(time))
    }

    /// As a time.
    pub fn time(self) -> SystemTime {
        from_unix_millis(self.0)
    }
}

/// What is known of a stage beyond the plan.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StageFacts {
    /// Its task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task_id: Option<Uuid>,
    /// Instance that has or had it last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub instance_id: Option<Uuid>,
    /// Where that instance is called.
    #[serde(default, skip_serializing_if = "is_default")]
    pub address: String,
    /// Replica that drives it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub owner: String,
    /// When it became ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready: Option<Millis>,
    /// When waiting for a slot is given up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start_deadline: Option<Millis>,
    /// When the last attempt started.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: Option<Millis>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub end: Option<Millis>,
    /// How far the running attempt is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub percent: f64,
    /// What is being done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: String,
    /// Where the last attempt stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checkpoint: Vec<u8>,
    /// What the running attempt has spent so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: UsageFacts,
    /// Sequence of the last event of the running attempt that is safe.
    #[serde(default, skip_serializing_if = "is_default")]
    pub event_sequence: i64,
    /// The decision that is open.
    #[serde(default, skip_serializing_if = "is_default")]
    pub open_decision: Option<DecisionId>,
    /// Decisions made, oldest first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decisions: Vec<DecisionFacts>,
    /// Whether a result of its last run is stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub has_result: bool,
    /// Concurrency key of its task. Empty: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub concurrency_key: String,
}

/// A decision that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct DecisionFacts {
    pub decision_id: DecisionId,
    pub category: i32,
    pub subject_digest: String,
    pub resolution: i32,
    pub choice: String,
    pub rationale: String,
    pub actor: String,
}

impl Live {
    /// Takes over what a stage found out.
    pub fn learn(&mut self, outcome: &Outcome) {
        self.learn_source(outcome);
        for (known, new) in [
            (&mut self.revision, &outcome.revision),
            (&mut self.endpoint, &outcome.endpoint),
        ] {
            if !new.is_empty() {
                known.clone_from(new);
            }
        }
    }

    /// The same of the source alone: repository and merge.
    pub fn learn_source(&mut self, outcome: &Outcome) {
        if let Some(repository) = &outcome.repository {
            let known = &mut self.repository;
            for (known, new) in [
                (&mut known.url, &repository.url),
                (&mut known.base_commit, &repository.base_commit),
                (&mut known.head_commit, &repository.head_commit),
                (&mut known.branch, &repository.branch),
                (&mut known.target_branch, &repository.target_branch),
            ] {
                if !new.is_empty() {
                    known.clone_from(new);
                }
            }
        }
        if !outcome.merged_commit.is_empty() {
            self.merged_commit.clone_from(&outcome.merged_commit);
        }
    }
}

impl UsageFacts {
    /// Adds what was spent elsewhere.
    pub fn add(&mut self, other: &Self) {
        let Self {
            input_token_count,
            output_token_count,
            cached_token_count,
            cost_micros,
            call_count,
        } = self;
        for (sum, more) in [
            (input_token_count, other.input_token_count),
            (output_token_count, other.output_token_count),
            (cached_token_count, other.cached_token_count),
            (cost_micros, other.cost_micros),
        ] {
            *sum = sum.saturating_add(more);
        }
        *call_count = call_count.saturating_add(other.call_count);
    }

    /// Tokens that count against a budget.
    pub fn token_count(&self) -> i64 {
        self.input_token_count
            .saturating_add(self.output_token_count)
    }
}

impl From<&Usage> for UsageFacts {
    /// What is negative is nothing: it cannot be earned back.
    fn from(usage: &Usage) -> Self {
        Self {
            input_token_count: usage.input_token_count.max(0),
            output_token_count: usage.output_token_count.max(0),
            cached_token_count: usage.cached_token_count.max(0),
            cost_micros: usage.cost_micros.max(0),
            call_count: usage.call_count.max(0),
        }
    }
}

impl From<&Budget> for BudgetFacts {
    fn from(budget: &Budget) -> Self {
        let wall = budget.wall_time.and_then(wire_time::duration);
        Self {
            token_count: budget.token_count,
            cost_micros: budget.cost_micros,
            wall_millis: wall.map_or(0, |wall| {
                i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }
}

impl From<BudgetFacts> for Budget {
    fn from(facts: BudgetFacts) -> Self {
        let wall = u64::try_from(facts.wall_millis).unwrap_or(0);
        Self {
            token_count: facts.token_count,
            cost_micros: facts.cost_micros,
            wall_time: (wall > 0).then(|| wire_time::wire_duration(Duration::from_millis(wall))),
        }
    }
}

impl From<&AnswerFacts> for AnsweredClarification {
    fn from(facts: &AnswerFacts) -> Self {
        Self {
            clarification_id: facts.clarification_id.to_string(),
            stage: facts.stage.clone(),
            question: facts.question.clone(),
            answer: facts.answer.clone(),
            actor: facts.actor.clone(),
        }
    }
}

impl From<&RepositoryFacts> for Repository {
    fn from(facts: &RepositoryFacts) -> Self {
        Self {
            url: facts.url.clone(),
            base_commit: facts.base_commit.clone(),
            head_commit: facts.head_commit.clone(),
            branch: facts.branch.clone(),
            target_branch: facts.target_branch.clone(),
        }
    }
}

impl From<Repository> for RepositoryFacts {
    fn from(repository: Repository) -> Self {
        Self {
            url: repository.url,
            base_commit: repository.base_commit,
            head_commit: repository.head_commit,
            branch: repository.branch,
            target_branch: repository.target_branch,
        }
    }
}

impl From<UsageFacts> for Usage {
    fn from(facts: UsageFacts) -> Self {
        Self {
            input_token_count: facts.input_token_count,
            output_token_count: facts.output_token_count,
            cached_token_count: facts.cached_token_count,
            cost_micros: facts.cost_micros,
            call_count: facts.call_count,
        }
    }
}

impl From<&DecisionFacts> for ResolvedDecision {
    fn from(facts: &DecisionFacts) -> Self {
        Self {
            decision_id: facts.decision_id.to_string(),
            category: facts.category,
            subject_digest: facts.subject_digest.clone(),
            resolution: facts.resolution,
            choice: facts.choice.clone(),
            rationale: facts.rationale.clone(),
            actor: facts.actor.clone(),
        }
    }
}

/// Identifies a task: the same for every attempt at the same piece of work, so that it can be the
/// key of outside effects.
pub fn task_id(workflow_id: WorkflowId, stage: &str, generation: u32, undo: bool) -> Uuid {
    use sha2::{Digest, Sha256};

    let kind = if undo { "undo" } else { "run" };
    let digest = Sha256::digest(format!("{workflow_id}/{stage}/{generation}/{kind}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Waiting raises the priority by one level in this time.
const AGEING: Duration = Duration::from_mins(10);

/// The time that waiting tasks are ordered by.
pub fn order_time(ready: SystemTime, priority: i32) -> SystemTime {
    ready - AGEING * u32::try_from(priority.max(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_keeps_its_id_over_attempts_and_gets_another_for_other_work() {
        let workflow = WorkflowId::new();
        let id = task_id(workflow, "deployment", 1, false);
        assert_eq!(id, task_id(workflow, "deployment", 1, false));
        let others = [
            task_id(workflow, "deployment", 2, false),
            task_id(workflow, "deployment", 1, true),
            task_id(workflow, "integration", 1, false),
            task_id(WorkflowId::new(), "deployment", 1, false),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn what_is_as_in_the_beginning_is_not_stored_and_is_read_whether_it_is_or_not() {
        let facts = StageFacts {
            task_id: Some(Uuid::nil()),
            percent: 50.0,
            ..StageFacts::default()
        };
        let stored = serde_json::to_string(&facts).unwrap();
        let id = Uuid::nil();
        assert_eq!(stored, format!(r#"{{"task_id":"{id}","percent":50.0}}"#));
        // As it was stored when everything was.
        let whole = format!(
            r#"{{"task_id":"{id}","instance_id":null,"address":"","owner":"","ready":null,
                "start_deadline":null,"start":null,"end":null,"percent":50.0,"phase":"",
                "checkpoint":[],"spent":{{"input_token_count":0,"output_token_count":0,
                "cached_token_count":0,"cost_micros":0,"call_count":0}},"event_sequence":0,
                "open_decision":null,"decisions":[],"has_result":false,"concurrency_key":""}}"#
        );
        for text in [&stored, &whole] {
            let read: StageFacts = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        }
    }

    #[test]
    fn waiting_ten_minutes_is_worth_one_level_of_priority() {
        let now = SystemTime::now();
        let waited = now - Duration::from_mins(10) - Duration::from_secs(1);
        assert!(order_time(now, 3) < order_time(now, 2));
        assert!(order_time(waited, 2) < order_time(now, 3));
    }
}
