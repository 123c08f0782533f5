//! One table or story per rule.

use super::Run;
use crate::plan::event::Entry;
use crate::plan::state::{StageState, Verdict, WorkflowState};

#[test]
fn the_built_in_app_pipeline_runs_to_its_end() {
    let mut run = Run::built_in("app");
    run.is(WorkflowState::Pending, &[("scaffold", StageState::Ready)]);
    run.pass(&["scaffold", "validation", "e2e", "integration"]);
    run.is(WorkflowState::Running, &[("deployment", StageState::Ready)]);
    run.pass(&["deployment"]);
    assert!(run.recorded(|entry| *entry == Entry::Finished));
    let outcome = run.state.outcome.unwrap();
    assert_eq!(outcome.verdict, Verdict::Passed);
    assert_eq!(outcome.reason, "5 stages passed");
}
