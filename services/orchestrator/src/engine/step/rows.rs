//! What a step leaves to be committed: the rows that differ from before.

use std::sync::Arc;

use prost::Message;
use uuid::Uuid;

use super::{Effect, LEASE, Step, Stepped};
use crate::engine::live::{self, Millis};
use crate::engine::workflow::Workflow;
use crate::plan::state::TaskState;
use crate::store::commit::{EventRow, TaskRow, Transition, WorkflowRow};

impl Step<'_> {
    pub(super) fn finish(mut self, before: &Workflow) -> Stepped {
        let (tasks, gone_tasks) = self.tasks(before);
        self.freed(before);
        self.forget_holders();
        self.next.version = before.version + 1;
        let submission = &self.next.submission;
        let request = &submission.request;
        let labels = request
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let transition = Transition {
            workflow: WorkflowRow {
                workflow_id: submission.workflow_id,
                namespace: submission.namespace.clone(),
                expected_version: before.version,
                state: self.next.state() as i16,
                workflow_type: i16::try_from(request.r#type).unwrap_or(0),
                name: request.name.clone(),
                priority: i16::try_from(request.priority).unwrap_or(0),
                labels: serde_json::Value::Object(labels),
                environment: request.environment.clone(),
                create_time: submission.create_time,
                end_time: self.next.end_time,
                deadline: self.next.deadline,
                last_sequence: self.next.last_sequence,
                live: self.next.live.store(),
            },
            submission: None,
            quota: None,
            events: self
                .events
                .iter()
                .map(|event| EventRow {
                    sequence: event.sequence,
                    time: self.setting.now,
                    stage: event.stage.clone(),
                    event: event.encode_to_vec(),
                })
                .collect(),
            tasks,
            gone_tasks,
            results: self.results,
            attempts: self.attempts,
            decisions: self.decisions,
            clarifications: self.clarifications,
            request: self.request,
        };
        Stepped {
            workflow: self.next,
            transition,
            events: self.events.into_iter().map(Arc::new).collect(),
            effects: self.effects,
        }
    }

    // Rows of tasks, from what the plan says there is.
    pub(super) fn tasks(&self, before: &Workflow) -> (Vec<TaskRow>, Vec<Uuid>) {
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        let next = &self.next;
        for (number, planned) in next.live.plan.stages.iter().enumerate() {
            let was = &before.live.plan.stages[number];
            let facts = &next.live.stages[number];
            let old_task = before.live.stages[number].task_id;
            let there = planned.task != TaskState::Absent;
            if was.task != TaskState::Absent
                && let Some(old_task) = old_task
                && (!there || facts.task_id != Some(old_task))
            {
                gone.push(old_task);
            }
            let changed = planned.task != was.task
                || planned.lease_epoch != was.lease_epoch
                || planned.generation != was.generation
                || self.ready.contains_key(&planned.name);
            if there
                && changed
                && let Some(task_id) = facts.task_id
            {
                rows.push(self.task_row(number, task_id));
            }
        }
        (rows, gone)
    }

    // Who drives a task where is stored only while somebody does.
    fn forget_holders(&mut self) {
        let live = &mut self.next.live;
        for (planned, facts) in live.plan.stages.iter().zip(&mut live.stages) {
            if planned.task != TaskState::Leased {
                facts.address.clear();
                facts.owner.clear();
            }
        }
    }

    // Keys that others may have now: of tasks that ended, went back to waiting, or are gone.
    fn freed(&mut self, before: &Workflow) {
        for (number, planned) in self.next.live.plan.stages.iter().enumerate() {
            let was = before.live.plan.stages[number].task;
            let concurrency_key = &before.live.stages[number].concurrency_key;
            let over = match was {
                TaskState::Absent => false,
                TaskState::Waiting => planned.task == TaskState::Absent,
                TaskState::Leased => planned.task != TaskState::Leased,
            };
            if over && !concurrency_key.is_empty() {
                self.effects.push(Effect::Freed {
                    concurrency_key: concurrency_key.clone(),
                });
            }
        }
    }

    pub(super) fn task_row(&self, number: usize, task_id: Uuid) -> TaskRow {
        let planned = &self.next.live.plan.stages[number];
        let facts = &self.next.live.stages[number];
        let definition = &self.next.submission.pipeline.stages[number];
        let leased = planned.task == TaskState::Leased;
        let ready = facts.ready.map_or(self.setting.now, Millis::time);
        TaskRow {
            task_id,
            stage: planned.name.clone(),
            agent_type: definition.agent_type as i16,
            leased,
            lease_epoch: planned.lease_epoch,
            owner: if leased {
                facts.owner.clone()
            } else {
                String::new()
            },
            instance_id: facts.instance_id.filter(|_| leased),
            address: if leased {
                facts.address.clone()
            } else {
                String::new()
            },
            lease_expires: leased.then(|| self.setting.now + LEASE),
            ready_time: ready,
            order_time: live::order_time(ready, self.next.submission.request.priority),
            start_deadline: facts
                .start_deadline
                .map_or(ready + definition.schedule_timeout, Millis::time),
            concurrency_key: facts.concurrency_key.clone(),
        }
    }
}
