//! What a new budget must be: larger than what was spent, or nothing would go on.

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::parse::Fields;
use contracts::task::Budget;

use crate::engine::live::BudgetFacts;
use crate::engine::submit::check_budget;
use crate::engine::workflow::Workflow;

/// Checks the budget with which a workflow is to be resumed.
pub fn check(workflow: &Workflow, budget: Option<&Budget>) -> Result<(), Error> {
    let Some(budget) = budget else {
        if !workflow.live.plan.awaiting_budget {
            return Ok(());
        }
        let id = workflow.id();
        let what = "its budget ran out; resume it with a larger one";
        return Err(
            Error::new(ErrorReason::WorkflowState, format!("workflow {id}: {what}"))
                .precondition(format!("workflow/{id}"), what),
        );
    };
    let mut fields = Fields::new();
    check_budget(&mut fields, budget);
    let limits = BudgetFacts::from(budget);
    let spent = workflow.spent();
    for (field, limit, spent, unit) in [
        (
            "budget.token_count",
            limits.token_count,
            spent.token_count(),
            "tokens",
        ),
        (
            "budget.cost_micros",
            limits.cost_micros,
            spent.cost_micros,
            "millionths of a US dollar",
        ),
        (
            "budget.wall_time",
            limits.wall_millis,
            workflow.live.wall_millis,
            "ms",
        ),
    ] {
        if limit > 0 && limit <= spent {
            fields.wrong(
                field,
                format!("is not more than what was spent already: {spent} {unit}"),
            );
        }
    }
    fields.finish(())
}
