//! Names of span and log attributes, so that one idea has one name in every process.

/// Workflow.
pub const WORKFLOW_ID: &str = "agentic.workflow.id";
/// Stage.
pub const STAGE: &str = "agentic.stage";
/// Task.
pub const TASK_ID: &str = "agentic.task.id";
/// Attempt.
pub const ATTEMPT: &str = "agentic.attempt";
/// Agent instance.
pub const INSTANCE_ID: &str = "agentic.agent.instance_id";
/// Agent type.
pub const AGENT_TYPE: &str = "agentic.agent.type";
