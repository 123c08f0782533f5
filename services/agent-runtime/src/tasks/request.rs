//! What callers may ask of an agent, whatever its type.

use std::time::SystemTime;

use tokio::time::Instant;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::task::TaskContext;
use contracts::wire_time;

use super::DEFAULT_DEADLINE;
use super::table::Table;

/// An older lease than the newest one.
pub(super) fn stale(task_id: &str, epoch: i64, newest: i64) -> Error {
    Error::new(
        ErrorReason::StaleLease,
        format!("lease epoch {epoch} of the task is over; the newest is {newest}"),
    )
    .precondition(
        format!("task/{task_id}"),
        "a newer lease holds the task, or ended it",
    )
}

/// Nothing runs here.
pub(super) fn unknown(task_id: &str) -> Error {
    Error::new(
        ErrorReason::TaskNotFound,
        format!("this agent does not run task {task_id}"),
    )
}

/// Whether a task that is not here may begin. Who asks for one that should be here is told that it is
/// not, and may have it run elsewhere: then an older call, which was under way for long, must not
/// begin it here.
pub(super) fn is_new<R>(table: &mut Table<R>, context: &TaskContext) -> Result<(), Error> {
    let (task_id, epoch) = (context.task_id.as_str(), context.lease_epoch);
    let spent = table.spent(task_id);
    if context.reattach_only && epoch >= spent {
        table.spend(task_id, epoch);
        return Err(unknown(task_id));
    }
    if epoch > 0 && epoch <= spent {
        return Err(stale(task_id, epoch, spent));
    }
    Ok(())
}

/// Checks what every task is told; answers when the work must be over.
pub(super) fn check(context: &TaskContext, instance_id: &str) -> Result<Instant, Error> {
    let mut fields = contracts::parse::Fields::new();
    fields.text("context.task_id", &context.task_id, 128);
    fields.text("context.workflow_id", &context.workflow_id, 64);
    fields.text("context.stage", &context.stage, 64);
    fields.labels("context.labels", &context.labels);
    if context.lease_epoch < 0 {
        fields.wrong("context.lease_epoch", "is negative");
    }
    if context.lease_epoch > 0 && context.task_id.is_empty() {
        fields.wrong("context.task_id", "is required with a lease epoch");
    }
    if context.resume_after_sequence < 0 {
        fields.wrong("context.resume_after_sequence", "is negative");
    }
    if let Some(repository) = &context.repository {
        fields.text(
            "context.repository.url",
            &repository.url,
            contracts::parse::URL_BYTES,
        );
        fields.commit("context.repository.base_commit", &repository.base_commit);
        fields.commit("context.repository.head_commit", &repository.head_commit);
        fields.git_ref("context.repository.branch", &repository.branch);
        fields.git_ref(
            "context.repository.target_branch",
            &repository.target_branch,
        );
    }
    let left = match (context.time_left, context.deadline) {
        // Two clocks are never compared where the sender did it already.
        (Some(left), _) => wire_time::duration(left),
        (None, None) => Some(DEFAULT_DEADLINE),
        (None, Some(deadline)) => wire_time::system_time(deadline)
            .and_then(|deadline| deadline.duration_since(SystemTime::now()).ok()),
    };
    if left.is_none() {
        fields.wrong("context.deadline", "has passed, or is no time");
    }
    let left = fields.finish(left.unwrap_or_default())?;
    if !context.agent_instance_id.is_empty() && context.agent_instance_id != instance_id {
        return Err(Error::new(
            ErrorReason::WrongInstance,
            format!(
                "this is agent {instance_id}, not {}",
                context.agent_instance_id
            ),
        ));
    }
    Ok(Instant::now() + left)
}
