//! Stories that the scripted orchestrator tells: a workflow and its events.

use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{
    DecisionAsked, DecisionResolved, Pipeline, Stage, StageDefinition, StageFinished,
    StageProgressed, StageQueued, StageResult, StageStarted, StageState, StageTask, Workflow,
    WorkflowCreated, WorkflowEvent, WorkflowFinished, WorkflowOutcome, WorkflowState, WorkflowType,
    stage_result, stage_task,
};
use contracts::task::{
    AgentType, DecisionCategory, DecisionRequest, Finding, Outcome, Progress, Resolution,
    ResolvedDecision, Severity, Verdict,
};
use prost_types::Timestamp;

const START: i64 = 1_750_000_000;

/// A workflow and its events.
#[derive(Debug, Clone)]
pub struct Story {
    /// The workflow, as it is after the events.
    pub workflow: Workflow,
    /// The events.
    pub events: Vec<WorkflowEvent>,
}

impl Story {
    /// A workflow that was taken in.
    pub fn begin() -> Self {
        let id = contracts::id::WorkflowId::new().to_string();
        let mut workflow = Workflow {
            workflow_id: id,
            name: "shop".into(),
            create_time: at(0),
            start_time: at(0),
            pipeline_id: "change".into(),
            pipeline_version: 1,
            stages: vec![
                stage("validation", AgentType::Validation),
                stage("integration", AgentType::Integration),
            ],
            ..Workflow::default()
        };
        workflow.set_type(WorkflowType::Change);
        workflow.set_state(WorkflowState::Running);
        let created = Payload::Created(WorkflowCreated {
            workflow: Some(workflow.clone()),
        });
        Self {
            workflow,
            events: Vec::new(),
        }
        .then("", created)
    }

    /// One more event.
    pub fn then(mut self, stage: &str, payload: Payload) -> Self {
        self.events.push(self.event(stage, payload));
        self.workflow.last_sequence = self.events.len() as i64;
        self
    }

    /// What the next event would be.
    pub fn event(&self, stage: &str, payload: Payload) -> WorkflowEvent {
        let sequence = self.events.len() as i64 + 1;
        WorkflowEvent {
            workflow_id: self.workflow.workflow_id.clone(),
            sequence,
            time: at(sequence),
            stage: stage.into(),
            state: self.workflow.state,
            payload: Some(payload),
            ..WorkflowEvent::default()
        }
    }

    /// A stage runs, tells its progress, and ends with a verdict.
    pub fn stage(self, name: &str, verdict: Verdict) -> Self {
        let mut stage = stage(name, AgentType::Validation);
        stage.start_time = at(2);
        stage.end_time = at(4);
        stage.attempt_count = 1;
        stage.set_verdict(verdict);
        stage.set_state(if verdict == Verdict::Passed {
            StageState::Succeeded
        } else {
            StageState::Failed
        });
        stage.result = Some(StageResult {
            result: Some(stage_result::Result::Validation(
                contracts::validation::ValidationResult {
                    outcome: Some(outcome(verdict)),
                    ..Default::default()
                },
            )),
        });
        let mut story = self.running(name).then(
            name,
            Payload::StageFinished(StageFinished {
                stage: Some(stage.clone()),
            }),
        );
        for known in &mut story.workflow.stages {
            if known.name == name {
                *known = stage.clone();
            }
        }
        story
    }

    /// A stage runs and tells its progress.
    pub fn running(self, name: &str) -> Self {
        let progress = Progress {
            percent: 50.0,
            phase: "tests".into(),
            ..Progress::default()
        };
        self.then(
            name,
            Payload::StageQueued(StageQueued {
                attempt: 1,
                ..StageQueued::default()
            }),
        )
        .then(
            name,
            Payload::StageStarted(StageStarted {
                attempt: 1,
                ..StageStarted::default()
            }),
        )
        .then(
            name,
            Payload::StageProgressed(StageProgressed {
                progress: Some(progress),
            }),
        )
    }

    /// It ends.
    pub fn end(mut self, state: WorkflowState, verdict: Verdict) -> Self {
        self.workflow.set_state(state);
        self.workflow.end_time = at(60);
        self.workflow.percent = 100.0;
        self.workflow.outcome = Some(WorkflowOutcome {
            verdict: verdict.into(),
            reason: "2 of 14 tests failed".into(),
            stage: if verdict == Verdict::Passed {
                ""
            } else {
                "validation"
            }
            .into(),
            ..WorkflowOutcome::default()
        });
        let finished = Payload::Finished(WorkflowFinished {
            workflow: Some(self.workflow.clone()),
        });
        self.then("", finished)
    }

    /// A change that was merged.
    pub fn success() -> Self {
        Self::begin()
            .stage("validation", Verdict::Passed)
            .stage("integration", Verdict::Passed)
            .end(WorkflowState::Succeeded, Verdict::Passed)
    }

    /// A change whose tests fail, or prove nothing.
    pub fn failure(verdict: Verdict) -> Self {
        Self::begin()
            .stage("validation", verdict)
            .end(WorkflowState::Failed, verdict)
    }

    /// A change that waits for a decision.
    pub fn waiting(decision_id: &str) -> Self {
        let mut story = Self::begin().stage("validation", Verdict::Passed);
        story.workflow.set_state(WorkflowState::AwaitingDecision);
        story.then("integration", asked(decision_id))
    }
}

/// A decision is asked.
pub fn asked(decision_id: &str) -> Payload {
    let mut request = DecisionRequest {
        question: "Merge without proof?".into(),
        subject_digest: "sha256:abc".into(),
        detail: "Both sides changed `shop.py`.".into(),
        ..DecisionRequest::default()
    };
    request.set_category(DecisionCategory::Merge);
    Payload::DecisionAsked(DecisionAsked {
        decision_id: decision_id.into(),
        request: Some(request),
        expire_time: at(86_400),
    })
}

/// A decision is made.
pub fn resolved(decision_id: &str, resolution: Resolution) -> Payload {
    Payload::DecisionResolved(DecisionResolved {
        decision: Some(ResolvedDecision {
            decision_id: decision_id.into(),
            resolution: resolution.into(),
            actor: "somebody".into(),
            ..ResolvedDecision::default()
        }),
    })
}

/// What a stage says at its end.
pub fn outcome(verdict: Verdict) -> Outcome {
    let finding = Finding {
        rule: "pytest".into(),
        severity: Severity::Error.into(),
        message: "expected 2, got 3".into(),
        path: "shop.py".into(),
        line: 12,
        ..Finding::default()
    };
    Outcome {
        verdict: verdict.into(),
        findings: if verdict == Verdict::Passed {
            Vec::new()
        } else {
            vec![finding]
        },
        ..Outcome::default()
    }
}

/// The pipelines that `--set` is checked against.
pub fn pipelines() -> Vec<Pipeline> {
    let definition = |name: &str, task| StageDefinition {
        name: name.into(),
        task: Some(StageTask { task: Some(task) }),
        ..StageDefinition::default()
    };
    ["app", "change"]
        .map(|name| Pipeline {
            pipeline_id: name.into(),
            name: name.into(),
            version: 1,
            built_in: true,
            stages: vec![
                definition("scaffold", stage_task::Task::Scaffold(Default::default())),
                definition(
                    "validation",
                    stage_task::Task::Validation(Default::default()),
                ),
            ],
            ..Pipeline::default()
        })
        .to_vec()
}

fn stage(name: &str, agent_type: AgentType) -> Stage {
    let mut stage = Stage {
        name: name.into(),
        ..Stage::default()
    };
    stage.set_agent_type(agent_type);
    stage.set_state(StageState::Blocked);
    stage
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the wire's times are all optional"
)]
fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: START + seconds,
        nanos: 0,
    })
}
