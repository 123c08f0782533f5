//! Decisions before and after a stage runs, and who may give them.

use contracts::id::DecisionId;
use contracts::task::DecisionCategory;

use super::build::{But, pipeline, run, stage};
use super::{Run, asking, resolved};
use crate::plan::event::ApprovalEffect::{Accept, Rerun};
use crate::plan::event::Resolution::{Approve, Reject, Revise};
use crate::plan::event::{ApprovalEffect, Ask, Command, DecisionAsk, Entry, Rejected, Resolution};
use crate::plan::state::{StageState, Verdict, WorkflowState};

const ASK: DecisionAsk = DecisionAsk {
    category: DecisionCategory::Waiver,
    on_approval: Accept,
    confidence: 0.0,
    has_choices: false,
};

fn after_run(verdict: Verdict, on_approval: ApprovalEffect) -> Run {
    let mut run = run(vec![
        stage("validation", &[]),
        stage("integration", &["validation"]),
    ]);
    let ask = DecisionAsk { on_approval, ..ASK };
    run.finish_with("validation", asking(verdict, ask));
    run
}

fn before_run() -> Run {
    run(vec![
        stage("validation", &[]).approved(DecisionCategory::CostImpacting),
        stage("integration", &["validation"]),
    ])
}

#[test]
fn an_answer_after_the_run_decides_what_the_verdict_could_not() {
    use StageState::{Failed, Ready, Succeeded};
    use Verdict::{NotProven, Passed};
    // Verdict, meaning of a yes, answer; state of the stage, its verdict, whether it was waived.
    let table = [
        (NotProven, Accept, Approve, Succeeded, Some(NotProven), true),
        (NotProven, Rerun, Approve, Ready, Some(NotProven), false),
        (NotProven, Accept, Revise, Ready, Some(NotProven), false),
        (NotProven, Rerun, Revise, Ready, Some(NotProven), false),
        (NotProven, Accept, Reject, Failed, Some(NotProven), false),
        (NotProven, Rerun, Reject, Failed, Some(NotProven), false),
        (
            Verdict::Failed,
            Accept,
            Approve,
            Succeeded,
            Some(Verdict::Failed),
            true,
        ),
        (
            Verdict::Failed,
            Rerun,
            Approve,
            Ready,
            Some(Verdict::Failed),
            false,
        ),
        (
            Verdict::Failed,
            Accept,
            Revise,
            Ready,
            Some(Verdict::Failed),
            false,
        ),
        (
            Verdict::Failed,
            Accept,
            Reject,
            Failed,
            Some(Verdict::Failed),
            false,
        ),
        (Passed, Accept, Approve, Succeeded, Some(Passed), false),
        (Passed, Rerun, Approve, Ready, Some(Passed), false),
        (Passed, Accept, Revise, Ready, Some(Passed), false),
        (Passed, Accept, Reject, Failed, Some(NotProven), false),
    ];
    for (verdict, on_approval, answer, state, shown, waived) in table {
        let mut run = after_run(verdict, on_approval);
        run.is(
            WorkflowState::AwaitingDecision,
            &[
                ("validation", StageState::AwaitingDecision),
                ("integration", StageState::Blocked),
            ],
        );
        run.decide("validation", answer);
        let stage = run.state.stage("validation").unwrap();
        assert_eq!(
            (stage.state, stage.verdict, stage.waived),
            (state, shown, waived),
            "{verdict:?} {on_approval:?} {answer:?}"
        );
        match state {
            Ready => assert_eq!((stage.generation, run.waiting()), (2, vec!["validation"])),
            Succeeded => assert_eq!(run.waiting(), ["integration"]),
            _ => assert_eq!(run.ended(), (shown.unwrap(), "validation")),
        }
    }
}

#[test]
fn a_waived_verdict_is_named_at_the_end() {
    let mut run = after_run(Verdict::NotProven, Accept);
    run.decide("validation", Approve);
    run.pass(&["integration"]);
    assert_eq!(run.ended(), (Verdict::Passed, ""));
    assert_eq!(
        run.outcome().reason,
        "1 stage passed; accepted in spite of their verdict: `validation`"
    );
}

#[test]
fn a_rejection_names_who_and_why() {
    let mut run = after_run(Verdict::NotProven, Accept);
    run.decide("validation", Reject);
    assert_eq!(run.outcome().reason, "NotProven; rejected by kim");
}

#[test]
fn a_stage_that_needs_approval_runs_only_after_it() {
    let mut run = before_run();
    run.is(
        WorkflowState::AwaitingDecision,
        &[("validation", StageState::AwaitingDecision)],
    );
    let asked = Command::AskDecision {
        stage: "validation".into(),
        ask: Ask::BeforeRun(DecisionCategory::CostImpacting),
        automatic: false,
    };
    assert!(run.commanded(|command| *command == asked));
    assert!(run.waiting().is_empty());
    run.decide("validation", Approve);
    assert_eq!(run.waiting(), ["validation"]);
    // A retry needs no second yes.
    run.lose("validation");
    assert_eq!(run.waiting(), ["validation"]);
}

#[test]
fn a_rejection_before_the_run_is_not_proven() {
    let mut run = before_run();
    run.decide("validation", Reject);
    assert_eq!(run.ended(), (Verdict::NotProven, "validation"));
    assert_eq!(
        run.outcome().reason,
        "it was not allowed to run: rejected by kim"
    );
    assert_eq!(run.state.stages[0].attempt, 0);
}

#[test]
fn there_is_nothing_to_revise_before_the_run() {
    let mut run = before_run();
    let id = run.open("validation");
    assert!(matches!(
        run.try_tell(&resolved("validation", id, Revise)),
        Err(Rejected::StageState { .. })
    ));
    run.resolve("validation", id, Approve);
    assert_eq!(run.waiting(), ["validation"]);
}

#[test]
fn a_protected_environment_asks_before_its_deployment() {
    let pipeline = pipeline(vec![
        stage("validation", &[]),
        stage("deployment", &["validation"]).approved(DecisionCategory::CostImpacting),
    ]);
    let mut run = Run::protected(pipeline, &["deployment"]);
    run.pass(&["validation"]);
    let asked = Command::AskDecision {
        stage: "deployment".into(),
        ask: Ask::BeforeRun(DecisionCategory::Deployment),
        automatic: false,
    };
    assert!(run.commanded(|command| *command == asked));
    run.decide("deployment", Approve);
    run.pass(&["deployment"]);
    assert_eq!(run.state.workflow, WorkflowState::Succeeded);
}

#[test]
fn only_the_open_decision_can_be_answered_and_only_once() {
    let mut run = after_run(Verdict::NotProven, Rerun);
    let not_open = |stage: &str, decision_id| {
        Err(Rejected::DecisionNotOpen {
            stage: stage.into(),
            decision_id,
        })
    };
    let other = DecisionId::new();
    // Nobody knows its id yet.
    assert_eq!(
        run.try_tell(&resolved("validation", other, Approve)),
        not_open("validation", other)
    );
    let id = run.open("validation");
    for (stage, id) in [("validation", other), ("integration", id)] {
        assert_eq!(
            run.try_tell(&resolved(stage, id, Approve)),
            not_open(stage, id)
        );
    }
    run.resolve("validation", id, Approve);
    assert_eq!(
        run.try_tell(&resolved("validation", id, Reject)),
        not_open("validation", id)
    );
}

#[test]
fn opening_and_answering_are_on_record_in_this_order() {
    let mut run = after_run(Verdict::NotProven, Accept);
    let decision_id = run.open("validation");
    assert_eq!(
        run.commands,
        [Command::Record(Entry::DecisionAsked {
            stage: "validation".into(),
            decision_id,
        })]
    );
    run.resolve("validation", decision_id, Approve);
    assert_eq!(
        run.commands[0],
        Command::Record(Entry::DecisionResolved {
            stage: "validation".into(),
            decision_id,
            resolution: Approve,
        })
    );
}

#[test]
fn other_stages_go_on_while_one_waits_for_a_person() {
    let mut run = run(vec![stage("validation", &[]), stage("v2", &[])]);
    run.finish_with("validation", asking(Verdict::NotProven, ASK));
    run.is(WorkflowState::Running, &[("v2", StageState::Ready)]);
    run.pass(&["v2"]);
    assert_eq!(run.state.workflow, WorkflowState::AwaitingDecision);
}

#[test]
fn an_optional_stage_asks_nobody_to_waive_its_verdict() {
    let mut run = run(vec![
        stage("validation", &[]).optional(),
        stage("integration", &["validation"]),
    ]);
    run.finish_with("validation", asking(Verdict::NotProven, ASK));
    run.is(
        WorkflowState::Running,
        &[
            ("validation", StageState::Failed),
            ("integration", StageState::Ready),
        ],
    );
}

#[test]
fn repair_comes_before_a_decision_on_a_failure() {
    let mut run = run(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 1),
    ]);
    run.pass(&["scaffold"]);
    run.finish_with("validation", asking(Verdict::Failed, ASK));
    assert_eq!(
        run.state.stage("validation").unwrap().state,
        StageState::Repairing
    );
    run.pass(&["scaffold"]);
    run.finish_with("validation", asking(Verdict::Failed, ASK));
    assert_eq!(run.state.workflow, WorkflowState::AwaitingDecision);
}

#[test]
fn a_failure_elsewhere_voids_the_question() {
    let mut run = run(vec![stage("validation", &[]), stage("v2", &[])]);
    run.finish_with("validation", asking(Verdict::NotProven, ASK));
    let id = run.open("validation");
    run.finish("v2", Verdict::Failed);
    let closed = Command::CloseDecision {
        stage: "validation".into(),
    };
    assert!(run.commanded(|command| *command == closed));
    run.is(
        WorkflowState::Failed,
        &[("validation", StageState::Cancelled)],
    );
    assert!(run.try_tell(&resolved("validation", id, Approve)).is_err());
}

/// Whether the question would be answered without a person.
fn answers_itself(verdict: Verdict, ask: DecisionAsk) -> bool {
    let mut run = run(vec![stage("validation", &[])]);
    run.finish_with("validation", asking(verdict, ask));
    run.commanded(|command| {
        matches!(
            command,
            Command::AskDecision {
                automatic: true,
                ..
            }
        )
    })
}

#[test]
fn only_a_confident_change_of_form_is_approved_by_itself() {
    use DecisionCategory as C;
    let every = [
        C::Unspecified,
        C::TechnicalRefactor,
        C::CostImpacting,
        C::ArchitecturalChange,
        C::DataMigration,
        C::SecurityAffecting,
        C::Deployment,
        C::Merge,
        C::Waiver,
    ];
    let grades = [
        0.0,
        0.79,
        0.84,
        0.85,
        0.9,
        1.0,
        1.01,
        f64::NAN,
        f64::INFINITY,
    ];
    for category in every {
        for confidence in grades {
            let ask = DecisionAsk {
                category,
                confidence,
                ..ASK
            };
            let expected = category == C::TechnicalRefactor && (0.85..=1.0).contains(&confidence);
            assert_eq!(
                answers_itself(Verdict::Passed, ask),
                expected,
                "{category:?} {confidence}"
            );
        }
    }
}

#[test]
fn nothing_waives_a_verdict_or_chooses_without_a_person() {
    let sure = DecisionAsk {
        category: DecisionCategory::TechnicalRefactor,
        confidence: 1.0,
        ..ASK
    };
    assert!(answers_itself(Verdict::Passed, sure));
    assert!(!answers_itself(Verdict::NotProven, sure));
    assert!(!answers_itself(Verdict::Failed, sure));
    let choices = DecisionAsk {
        has_choices: true,
        ..sure
    };
    assert!(!answers_itself(Verdict::Passed, choices));
}

#[test]
fn a_stage_runs_again_by_itself_only_once() {
    let ask = DecisionAsk {
        category: DecisionCategory::TechnicalRefactor,
        confidence: 0.9,
        on_approval: Rerun,
        has_choices: false,
    };
    let mut run = run(vec![stage("validation", &[])]);
    for automatic in [true, false, false] {
        run.finish_with("validation", asking(Verdict::NotProven, ask));
        let asked = Command::AskDecision {
            stage: "validation".into(),
            ask: Ask::AfterRun(ask),
            automatic,
        };
        assert!(run.commanded(|command| *command == asked), "{automatic}");
        run.decide("validation", Resolution::Approve);
    }
}
