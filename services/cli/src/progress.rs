//! What is known about a workflow from its events alone: a pure fold, the same for bars, lines and
//! tests. Refuses to know clocks, terminals and calls.

use std::collections::BTreeMap;

use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{Stage, StageState, Workflow, WorkflowEvent, WorkflowState};
use contracts::task::{Artifact, DecisionRequest, Verdict};
use prost_types::Timestamp;

/// What came of looking at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is new, and follows the last one.
    New,
    /// It was seen before.
    Repeated,
    /// Events are missing before it.
    Gap,
}

/// One stage.
#[derive(Debug, Clone, Default)]
pub struct StageProgress {
    /// As the mesh last told it in full, kept up to date by the events since.
    pub stage: Stage,
    /// Which attempt is on, or was.
    pub attempt: i32,
    /// What it is doing, for people.
    pub message: String,
    /// When another attempt is due.
    pub retry_time: Option<Timestamp>,
}

impl StageProgress {
    /// Name.
    pub fn name(&self) -> &str {
        &self.stage.name
    }
}

/// A decision that nobody made yet.
#[derive(Debug, Clone)]
pub struct OpenDecision {
    /// Stage that asks.
    pub stage: String,
    /// What is asked.
    pub request: DecisionRequest,
}

/// What is known about a workflow.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// As the mesh last told it in full.
    pub workflow: Workflow,
    /// Stages, in the order that the mesh gave them.
    pub stages: Vec<StageProgress>,
    /// Open decisions by id, oldest first (ids are sorted by time).
    pub decisions: BTreeMap<String, OpenDecision>,
    /// Open clarifications by id: the question.
    pub clarifications: BTreeMap<String, String>,
    /// Artifacts stored so far, with their stages.
    pub artifacts: Vec<(String, Artifact)>,
    /// Sequence of the newest event seen.
    pub sequence: i64,
    /// The newest event ended the workflow.
    pub finished: bool,
}

// A hostile log must not grow without bound: as many stages as a pipeline may have, and more
// artifacts and questions than any run of them has.
const STAGE_LIMIT: usize = 64;
const ARTIFACT_LIMIT: usize = 4096;
const QUESTION_LIMIT: usize = 256;

impl Progress {
    /// Nothing is known but where to begin.
    pub fn after(sequence: i64) -> Self {
        Self {
            sequence,
            ..Self::default()
        }
    }

    /// Takes over what the mesh tells about the whole workflow.
    pub fn take_workflow(&mut self, workflow: &Workflow) {
        for stage in workflow.stages.iter().take(STAGE_LIMIT) {
            if let Some(known) = self.stage(&stage.name) {
                let result = known.stage.result.take();
                known.stage = stage.clone();
                known.stage.result = stage.result.clone().or(result);
                known.attempt = known.attempt.max(stage.attempt_count);
            } else {
                self.stages.push(StageProgress {
                    stage: stage.clone(),
                    attempt: stage.attempt_count,
                    ..StageProgress::default()
                });
            }
        }
        self.workflow = Workflow {
            stages: Vec::new(),
            ..workflow.clone()
        };
    }

    /// Takes one event in.
    pub fn apply(&mut self, event: &WorkflowEvent) -> Applied {
        if event.sequence <= self.sequence {
            return Applied::Repeated;
        }
        if event.sequence != self.sequence + 1 {
            return Applied::Gap;
        }
        self.sequence = event.sequence;
        self.finished = false;
        if self.workflow.workflow_id.is_empty() {
            self.workflow.workflow_id.clone_from(&event.workflow_id);
        }
        if let Some(payload) = &event.payload {
            self.apply_payload(event, payload);
        }
        self.workflow.state = event.state;
        if event.percent.is_finite() {
            self.workflow.percent = event.percent.clamp(0.0, 100.0);
        }
        Applied::New
    }

    fn apply_payload(&mut self, event: &WorkflowEvent, payload: &Payload) {
        match payload {
            Payload::Created(created) => {
                if let Some(workflow) = &created.workflow {
                    self.take_workflow(workflow);
                }
            }
            Payload::Finished(finished) => {
                if let Some(workflow) = &finished.workflow {
                    self.take_workflow(workflow);
                }
                self.finished = true;
                self.decisions.clear();
                self.clarifications.clear();
            }
            Payload::DecisionAsked(asked) if self.decisions.len() < QUESTION_LIMIT => {
                let open = OpenDecision {
                    stage: event.stage.clone(),
                    request: asked.request.clone().unwrap_or_default(),
                };
                self.decisions.insert(asked.decision_id.clone(), open);
                self.on_stage(event, |stage| {
                    stage.stage.set_state(StageState::AwaitingDecision);
                });
            }
            Payload::DecisionResolved(resolved) => {
                if let Some(decision) = &resolved.decision {
                    self.decisions.remove(&decision.decision_id);
                }
            }
            Payload::ClarificationAsked(asked) if self.clarifications.len() < QUESTION_LIMIT => {
                self.clarifications
                    .insert(asked.clarification_id.clone(), asked.question.clone());
            }
            Payload::ClarificationAnswered(answered) => {
                self.clarifications.remove(&answered.clarification_id);
            }
            Payload::ArtifactStored(stored) if self.artifacts.len() < ARTIFACT_LIMIT => {
                if let Some(artifact) = &stored.artifact {
                    self.artifacts.push((event.stage.clone(), artifact.clone()));
                }
            }
            Payload::Retried(_) => {
                self.workflow.outcome = None;
                self.workflow.end_time = None;
            }
            Payload::Resumed(resumed) => {
                self.workflow.budget = resumed.budget.or(self.workflow.budget);
            }
            Payload::DecisionAsked(_)
            | Payload::ClarificationAsked(_)
            | Payload::ArtifactStored(_)
            | Payload::Paused(_)
            | Payload::CancelRequested(_) => {}
            Payload::StageQueued(_)
            | Payload::StageStarted(_)
            | Payload::StageProgressed(_)
            | Payload::StageFinished(_)
            | Payload::RetryScheduled(_)
            | Payload::LeaseChanged(_)
            | Payload::RepairRequested(_)
            | Payload::StageCompensated(_) => self.on_stage(event, |stage| stage.apply(event)),
        }
    }

    fn on_stage(&mut self, event: &WorkflowEvent, change: impl FnOnce(&mut StageProgress)) {
        if event.stage.is_empty() {
            return;
        }
        if self.stage(&event.stage).is_none() && self.stages.len() < STAGE_LIMIT {
            // The watch began after the event that told the stages.
            self.stages.push(StageProgress {
                stage: Stage {
                    name: event.stage.clone(),
                    ..Stage::default()
                },
                ..StageProgress::default()
            });
        }
        if let Some(stage) = self.stage(&event.stage) {
            change(stage);
        }
    }

    fn stage(&mut self, name: &str) -> Option<&mut StageProgress> {
        self.stages.iter_mut().find(|stage| stage.name() == name)
    }

    /// Whether a person must do something before the workflow goes on. A state says so a moment
    /// before the question that goes with it is told; only the question counts.
    pub fn needs_person(&self) -> bool {
        !self.decisions.is_empty() || !self.clarifications.is_empty() || self.is_held()
    }

    /// Whether it was paused, or has nothing left to spend.
    pub fn is_held(&self) -> bool {
        matches!(
            self.workflow.state(),
            WorkflowState::AwaitingBudget | WorkflowState::Paused
        )
    }
}

impl StageProgress {
    fn apply(&mut self, event: &WorkflowEvent) {
        match &event.payload {
            // Taking a stage and queueing it are one commit, and may be told in either order.
            Some(Payload::StageQueued(queued))
                if self.stage.state() == StageState::Running && queued.attempt == self.attempt => {}
            Some(Payload::StageQueued(queued)) => {
                self.begin(queued.attempt, StageState::Ready);
                self.retry_time = queued.ready_time;
                self.stage.ready_time = queued.ready_time.or(event.time);
            }
            Some(Payload::StageStarted(started)) => {
                self.begin(started.attempt, StageState::Running);
                self.retry_time = None;
                self.stage.start_time = event.time;
                self.stage
                    .agent_instance_id
                    .clone_from(&started.agent_instance_id);
                self.stage.task_id.clone_from(&started.task_id);
            }
            Some(Payload::StageProgressed(progressed)) => {
                if let Some(progress) = &progressed.progress {
                    if progress.percent.is_finite() {
                        self.stage.percent = progress.percent.clamp(0.0, 100.0);
                    }
                    self.stage.phase.clone_from(&progress.phase);
                    self.message.clone_from(&progress.message);
                }
            }
            Some(Payload::StageFinished(finished)) => {
                if let Some(stage) = &finished.stage {
                    let name = std::mem::take(&mut self.stage.name);
                    self.stage = stage.clone();
                    self.stage.name = name;
                    self.attempt = self.attempt.max(stage.attempt_count);
                }
                self.stage.end_time = self.stage.end_time.or(event.time);
                self.retry_time = None;
                self.message.clear();
            }
            Some(Payload::RetryScheduled(retry)) => {
                self.stage.set_state(StageState::Ready);
                self.stage.summary.clone_from(&retry.reason);
                self.retry_time = retry.ready_time;
            }
            Some(Payload::LeaseChanged(change)) if !change.adopted => {
                self.stage.lost_count = self.stage.lost_count.saturating_add(1);
                self.stage.set_state(StageState::Ready);
            }
            Some(Payload::RepairRequested(repair)) => {
                self.stage.set_state(StageState::Repairing);
                self.stage.repair_round_count = repair.round;
            }
            Some(Payload::StageCompensated(undone)) => {
                self.stage.summary = if undone.verdict() == Verdict::Passed {
                    format!("undone: {}", undone.summary)
                } else {
                    format!("undoing it did not succeed: {}", undone.summary)
                };
            }
            _ => {}
        }
    }

    fn begin(&mut self, attempt: i32, state: StageState) {
        self.attempt = attempt;
        self.stage.set_state(state);
        self.stage.set_verdict(Verdict::Unspecified);
        self.stage.percent = 0.0;
        self.stage.phase.clear();
        self.stage.end_time = None;
        self.stage.start_time = None;
        self.message.clear();
    }
}

#[cfg(test)]
mod tests;
