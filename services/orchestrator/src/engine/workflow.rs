//! A workflow in memory: what was asked, the pipeline it follows, and where it stands. Reads rows
//! and draws the picture that clients see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use prost::Message;

use contracts::id::WorkflowId;
use contracts::orchestrator::{
    self as wire, CreateWorkflowRequest, StageResult, StageState, WorkflowOutcome, WorkflowState,
};
use contracts::task::{Budget, Verdict};
use contracts::{trace, wire_time};

use super::live::{BudgetFacts, Live, Millis, UsageFacts};
use crate::plan::pipeline::Pipeline;
use crate::store::workflows::{ListedWorkflow, LoadedWorkflow};
use crate::store::{StoreError, malformed};

/// What never changes.
#[derive(Debug)]
pub struct Submission {
    /// Workflow.
    pub workflow_id: WorkflowId,
    /// Namespace.
    pub namespace: String,
    /// What was asked.
    pub request: CreateWorkflowRequest,
    /// The pipeline, as it is stored.
    pub wire_pipeline: wire::Pipeline,
    /// The pipeline, as the plan reads it.
    pub pipeline: Pipeline,
    /// When it was taken in.
    pub create_time: SystemTime,
    /// Trace of the call that created it.
    pub traceparent: String,
}

/// A workflow.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// What never changes.
    pub submission: Arc<Submission>,
    /// Row version.
    pub version: i64,
    /// When it ended.
    pub end_time: Option<SystemTime>,
    /// When it is given up.
    pub deadline: SystemTime,
    /// Sequence of its newest event.
    pub last_sequence: i64,
    /// What changes.
    pub live: Live,
    /// Last results by stage.
    pub results: HashMap<String, Arc<StageResult>>,
}

impl Workflow {
    /// From its rows.
    pub fn read(workflow_id: WorkflowId, row: LoadedWorkflow) -> Result<Self, StoreError> {
        let submission = read_submission(
            workflow_id,
            row.namespace,
            &row.request,
            &row.pipeline,
            row.create_time,
            row.traceparent,
        )?;
        let results = row
            .results
            .into_iter()
            .map(|(stage, bytes)| {
                let result = StageResult::decode(bytes.as_slice())
                    .map_err(|error| malformed("results", &error))?;
                Ok((stage, Arc::new(result)))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            submission: Arc::new(submission),
            version: row.version,
            end_time: row.end_time,
            deadline: row.deadline,
            last_sequence: row.last_sequence,
            live: read_live(&row.live)?,
            results,
        })
    }

    /// From a row of a list; without results.
    pub fn read_listed(row: ListedWorkflow) -> Result<Self, StoreError> {
        let submission = read_submission(
            row.workflow_id,
            row.namespace,
            &row.request,
            &row.pipeline,
            row.create_time,
            row.traceparent,
        )?;
        Ok(Self {
            submission: Arc::new(submission),
            version: 0,
            end_time: row.end_time,
            deadline: row.create_time,
            last_sequence: row.last_sequence,
            live: read_live(&row.live)?,
            results: HashMap::new(),
        })
    }

    /// Its id.
    pub fn id(&self) -> WorkflowId {
        self.submission.workflow_id
    }

    /// Number of a stage.
    pub fn stage_number(&self, name: &str) -> Option<usize> {
        self.live
            .plan
            .stages
            .iter()
            .position(|stage| stage.name == name)
    }

    /// State, as clients see it.
    pub fn state(&self) -> WorkflowState {
        self.live.plan.workflow.into()
    }

    /// 0 to 100.
    pub fn percent(&self) -> f64 {
        self.live.plan.percent(&self.submission.pipeline, |name| {
            self.stage_number(name)
                .map_or(0.0, |number| self.live.stages[number].percent)
        })
    }

    /// What may be spent. `None`: whatever it takes.
    pub fn budget(&self) -> Option<BudgetFacts> {
        let first = self.submission.request.budget.as_ref();
        self.live.budget.or_else(|| first.map(BudgetFacts::from))
    }

    /// What was spent, by attempts that still run, too.
    pub fn spent(&self) -> UsageFacts {
        let mut spent = self.live.usage;
        for facts in &self.live.stages {
            spent.add(&facts.spent);
        }
        spent
    }

    /// The requirements, with what was answered since.
    pub fn requirements(&self) -> String {
        let mut text = self.submission.request.requirements.clone();
        for answered in &self.live.answers {
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            for part in [answered.question.as_str(), "\n", answered.answer.as_str()] {
                text.push_str(part);
            }
        }
        text
    }

    /// Concurrency key of a stage's task, as far as is known now. Empty: none.
    pub fn concurrency_key(&self, number: usize) -> String {
        let template = &self.submission.pipeline.stages[number].concurrency_key;
        if template.is_empty() {
            return String::new();
        }
        let (request, repository) = (&self.submission.request, &self.live.repository);
        let url = repository.url.trim_end_matches('/');
        let url = if url.is_empty() { &request.name } else { url };
        template
            .replace("{repository}", url)
            .replace("{target_branch}", &repository.target_branch)
            .replace("{environment}", &request.environment)
            .replace("{name}", &request.name)
    }

    /// As clients see it. Results only when asked for.
    pub fn to_wire(&self, with_results: bool) -> wire::Workflow {
        let submission = &self.submission;
        let request = &submission.request;
        wire::Workflow {
            workflow_id: submission.workflow_id.to_string(),
            namespace: submission.namespace.clone(),
            name: request.name.clone(),
            r#type: request.r#type,
            state: self.state().into(),
            priority: request.priority,
            requirements: if with_results {
                self.requirements()
            } else {
                String::new()
            },
            repository: Some((&self.live.repository).into()),
            environment: request.environment.clone(),
            labels: request.labels.clone(),
            pipeline_id: submission.wire_pipeline.pipeline_id.clone(),
            pipeline_version: submission.wire_pipeline.version,
            stages: (0..self.live.stages.len())
                .map(|number| self.stage_to_wire(number, with_results))
                .collect(),
            percent: self.percent(),
            outcome: self.outcome(),
            create_time: Some(wire_time::timestamp(submission.create_time)),
            start_time: self.live.start.map(stamp),
            end_time: self.end_time.map(wire_time::timestamp),
            trace_id: trace::trace_id(&submission.traceparent).to_owned(),
            last_sequence: self.last_sequence,
            budget: self.budget().map(Budget::from),
            usage: Some(self.spent().into()),
        }
    }

    /// A stage, as clients see it.
    pub fn stage_to_wire(&self, number: usize, with_result: bool) -> wire::Stage {
        let planned = &self.live.plan.stages[number];
        let facts = &self.live.stages[number];
        let definition = &self.submission.pipeline.stages[number];
        let state = StageState::from(planned.state);
        let verdict = planned.verdict.map_or(Verdict::Unspecified, Verdict::from);
        wire::Stage {
            name: planned.name.clone(),
            agent_type: definition.agent_type.into(),
            state: state.into(),
            verdict: verdict.into(),
            summary: planned.summary.clone(),
            attempt_count: i32::try_from(planned.attempt).unwrap_or(i32::MAX),
            lost_count: i32::try_from(planned.lost_count).unwrap_or(i32::MAX),
            repair_round_count: i32::try_from(planned.repair_round).unwrap_or(i32::MAX),
            percent: if state == StageState::Succeeded {
                100.0
            } else {
                facts.percent
            },
            phase: facts.phase.clone(),
            ready_time: facts.ready.map(stamp),
            start_time: facts.start.map(stamp),
            end_time: facts.end.map(stamp),
            needs: definition
                .needs
                .iter()
                .map(|need| self.live.plan.stages[need.stage].name.clone())
                .collect(),
            weight: i32::try_from(definition.weight).unwrap_or(i32::MAX),
            result: if with_result {
                self.results
                    .get(&planned.name)
                    .map(|result| (**result).clone())
            } else {
                None
            },
            waived: planned.waived,
            task_id: facts.task_id.map_or_else(String::new, |id| id.to_string()),
            agent_instance_id: facts
                .instance_id
                .map_or_else(String::new, |id| id.to_string()),
            concurrency_key: facts.concurrency_key.clone(),
            waits_for: String::new(),
        }
    }

    fn outcome(&self) -> Option<WorkflowOutcome> {
        let ended = self.live.plan.outcome.as_ref()?;
        Some(WorkflowOutcome {
            verdict: Verdict::from(ended.verdict).into(),
            reason: ended.reason.clone(),
            merged_commit: self.live.merged_commit.clone(),
            revision: self.live.revision.clone(),
            endpoint: self.live.endpoint.clone(),
            usage: Some(self.live.usage.into()),
            stage: ended.stage.clone(),
        })
    }
}

fn stamp(millis: Millis) -> prost_types::Timestamp {
    wire_time::timestamp(millis.time())
}

fn read_live(bytes: &[u8]) -> Result<Live, StoreError> {
    Live::read(bytes).map_err(|error| malformed("workflows", &error))
}

fn read_submission(
    workflow_id: WorkflowId,
    namespace: String,
    request: &[u8],
    pipeline: &[u8],
    create_time: SystemTime,
    traceparent: String,
) -> Result<Submission, StoreError> {
    let request =
        CreateWorkflowRequest::decode(request).map_err(|error| malformed("submissions", &error))?;
    let wire_pipeline =
        wire::Pipeline::decode(pipeline).map_err(|error| malformed("submissions", &error))?;
    let pipeline =
        Pipeline::parse(&wire_pipeline).map_err(|error| malformed("submissions", &error))?;
    Ok(Submission {
        workflow_id,
        namespace,
        request,
        wire_pipeline,
        pipeline,
        create_time,
        traceparent,
    })
}
