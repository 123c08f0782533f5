//! The columns of a group commit, one vector each, in the order of its parameters.

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::commit::Transition;

/// One vector per parameter.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    workflow_id: Vec<Uuid>,
    workflow_namespace: Vec<&'a str>,
    workflow_expected: Vec<i64>,
    workflow_state: Vec<i16>,
    workflow_kind: Vec<i16>,
    workflow_name: Vec<&'a str>,
    workflow_priority: Vec<i16>,
    workflow_labels: Vec<&'a Value>,
    workflow_environment: Vec<&'a str>,
    workflow_create_time: Vec<SystemTime>,
    workflow_end_time: Vec<Option<SystemTime>>,
    workflow_deadline: Vec<SystemTime>,
    workflow_last_sequence: Vec<i64>,
    workflow_live: Vec<&'a [u8]>,
    submission_workflow_id: Vec<Uuid>,
    submission_request: Vec<&'a [u8]>,
    submission_pipeline: Vec<&'a [u8]>,
    submission_traceparent: Vec<&'a str>,
    event_workflow_id: Vec<Uuid>,
    event_sequence: Vec<i64>,
    event_time: Vec<SystemTime>,
    event_stage: Vec<&'a str>,
    event_event: Vec<&'a [u8]>,
    task_task_id: Vec<Uuid>,
    task_namespace: Vec<&'a str>,
    task_workflow_id: Vec<Uuid>,
    task_stage: Vec<&'a str>,
    task_agent_type: Vec<i16>,
    task_leased: Vec<bool>,
    task_lease_epoch: Vec<i64>,
    task_owner: Vec<&'a str>,
    task_instance_id: Vec<Option<Uuid>>,
    task_address: Vec<&'a str>,
    task_lease_expires: Vec<Option<SystemTime>>,
    task_ready_time: Vec<SystemTime>,
    task_order_time: Vec<SystemTime>,
    task_start_deadline: Vec<SystemTime>,
    task_concurrency_key: Vec<&'a str>,
    gone_workflow_id: Vec<Uuid>,
    gone_task_id: Vec<Uuid>,
    result_workflow_id: Vec<Uuid>,
    result_stage: Vec<&'a str>,
    result_result: Vec<&'a [u8]>,
    attempt_workflow_id: Vec<Uuid>,
    attempt_stage: Vec<&'a str>,
    attempt_attempt: Vec<i32>,
    attempt_task_id: Vec<Uuid>,
    attempt_lease_epoch: Vec<i64>,
    attempt_instance_id: Vec<Option<Uuid>>,
    attempt_ending: Vec<&'a str>,
    attempt_reason: Vec<&'a str>,
    attempt_start_time: Vec<Option<SystemTime>>,
    attempt_end_time: Vec<SystemTime>,
    workflow_requested: Vec<bool>,
    request_workflow_id: Vec<Uuid>,
    request_namespace: Vec<&'a str>,
    request_request_id: Vec<&'a str>,
    request_method: Vec<&'a str>,
    request_content: Vec<&'a [u8]>,
    request_subject: Vec<&'a str>,
    request_create_time: Vec<SystemTime>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(transitions: &[&'a Transition]) -> Self {
        let mut c = Self::default();
        for t in transitions {
            let w = t.workflow.workflow_id.0;
            c.workflow_id.push(t.workflow.workflow_id.0);
            c.workflow_namespace.push(t.workflow.namespace.as_str());
            c.workflow_expected.push(t.workflow.expected_version);
            c.workflow_state.push(t.workflow.state);
            c.workflow_kind.push(t.workflow.workflow_type);
            c.workflow_name.push(t.workflow.name.as_str());
            c.workflow_priority.push(t.workflow.priority);
            c.workflow_labels.push(&t.workflow.labels);
            c.workflow_environment.push(t.workflow.environment.as_str());
            c.workflow_create_time.push(t.workflow.create_time);
            c.workflow_end_time.push(t.workflow.end_time);
            c.workflow_deadline.push(t.workflow.deadline);
            c.workflow_last_sequence.push(t.workflow.last_sequence);
            c.workflow_live.push(t.workflow.live.as_slice());
            if let Some(r) = &t.submission {
                c.submission_workflow_id.push(w);
                c.submission_request.push(r.request.as_slice());
                c.submission_pipeline.push(r.pipeline.as_slice());
                c.submission_traceparent.push(r.traceparent.as_str());
            }
            for r in &t.events {
                c.event_workflow_id.push(w);
                c.event_sequence.push(r.sequence);
                c.event_time.push(r.time);
                c.event_stage.push(r.stage.as_str());
                c.event_event.push(r.event.as_slice());
            }
            for r in &t.tasks {
                c.task_task_id.push(r.task_id);
                c.task_namespace.push(t.workflow.namespace.as_str());
                c.task_workflow_id.push(w);
                c.task_stage.push(r.stage.as_str());
                c.task_agent_type.push(r.agent_type);
                c.task_leased.push(r.leased);
                c.task_lease_epoch.push(r.lease_epoch);
                c.task_owner.push(r.owner.as_str());
                c.task_instance_id.push(r.instance_id);
                c.task_address.push(r.address.as_str());
                c.task_lease_expires.push(r.lease_expires);
                c.task_ready_time.push(r.ready_time);
                c.task_order_time.push(r.order_time);
                c.task_start_deadline.push(r.start_deadline);
                c.task_concurrency_key.push(r.concurrency_key.as_str());
            }
            for r in &t.gone_tasks {
                c.gone_workflow_id.push(w);
                c.gone_task_id.push(*r);
            }
            for r in &t.results {
                c.result_workflow_id.push(w);
                c.result_stage.push(r.0.as_str());
                c.result_result.push(r.1.as_slice());
            }
            for r in &t.attempts {
                c.attempt_workflow_id.push(w);
                c.attempt_stage.push(r.stage.as_str());
                c.attempt_attempt.push(r.attempt);
                c.attempt_task_id.push(r.task_id);
                c.attempt_lease_epoch.push(r.lease_epoch);
                c.attempt_instance_id.push(r.instance_id);
                c.attempt_ending.push(r.ending.as_str());
                c.attempt_reason.push(r.reason.as_str());
                c.attempt_start_time.push(r.start_time);
                c.attempt_end_time.push(r.end_time);
            }
            c.workflow_requested.push(t.request.is_some());
            if let Some(r) = &t.request {
                c.request_workflow_id.push(w);
                c.request_namespace.push(t.workflow.namespace.as_str());
                c.request_request_id.push(r.request_id.as_str());
                c.request_method.push(r.method);
                c.request_content.push(r.content.as_slice());
                c.request_subject.push(r.subject.as_str());
                c.request_create_time.push(r.create_time);
            }
        }
        c
    }

    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 61] {
        [
            &self.workflow_id,
            &self.workflow_namespace,
            &self.workflow_expected,
            &self.workflow_state,
            &self.workflow_kind,
            &self.workflow_name,
            &self.workflow_priority,
            &self.workflow_labels,
            &self.workflow_environment,
            &self.workflow_create_time,
            &self.workflow_end_time,
            &self.workflow_deadline,
            &self.workflow_last_sequence,
            &self.workflow_live,
            &self.submission_workflow_id,
            &self.submission_request,
            &self.submission_pipeline,
            &self.submission_traceparent,
            &self.event_workflow_id,
            &self.event_sequence,
            &self.event_time,
            &self.event_stage,
            &self.event_event,
            &self.task_task_id,
            &self.task_namespace,
            &self.task_workflow_id,
            &self.task_stage,
            &self.task_agent_type,
            &self.task_leased,
            &self.task_lease_epoch,
            &self.task_owner,
            &self.task_instance_id,
            &self.task_address,
            &self.task_lease_expires,
            &self.task_ready_time,
            &self.task_order_time,
            &self.task_start_deadline,
            &self.gone_workflow_id,
            &self.gone_task_id,
            &self.result_workflow_id,
            &self.result_stage,
            &self.result_result,
            &self.attempt_workflow_id,
            &self.attempt_stage,
            &self.attempt_attempt,
            &self.attempt_task_id,
            &self.attempt_lease_epoch,
            &self.attempt_instance_id,
            &self.attempt_ending,
            &self.attempt_reason,
            &self.attempt_start_time,
            &self.attempt_end_time,
            &self.workflow_requested,
            &self.request_workflow_id,
            &self.request_namespace,
            &self.request_request_id,
            &self.request_method,
            &self.request_content,
            &self.request_subject,
            &self.request_create_time,
            &self.task_concurrency_key,
        ]
    }
}
