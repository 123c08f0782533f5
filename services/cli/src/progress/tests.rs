//! The fold over events, in and out of order, whole and from the middle.

use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{
    ArtifactStored, DecisionAsked, DecisionResolved, LeaseChanged, RetryScheduled, Stage,
    StageFinished, StageProgressed, StageQueued, StageStarted, StageState, Workflow,
    WorkflowCreated, WorkflowEvent, WorkflowFinished, WorkflowRetried, WorkflowState,
};
use contracts::task::{Artifact, DecisionRequest, ResolvedDecision, Verdict};

use super::{Applied, Progress};

fn event(sequence: i64, stage: &str, payload: Payload) -> WorkflowEvent {
    WorkflowEvent {
        workflow_id: "w".into(),
        sequence,
        stage: stage.into(),
        state: WorkflowState::Running.into(),
        payload: Some(payload),
        ..WorkflowEvent::default()
    }
}

fn stage(name: &str, state: StageState) -> Stage {
    Stage {
        name: name.into(),
        state: state.into(),
        ..Stage::default()
    }
}

fn created() -> Payload {
    Payload::Created(WorkflowCreated {
        workflow: Some(Workflow {
            workflow_id: "w".into(),
            name: "shop".into(),
            stages: vec![
                stage("scaffold", StageState::Ready),
                stage("validation", StageState::Blocked),
            ],
            ..Workflow::default()
        }),
    })
}

fn started(attempt: i32) -> Payload {
    Payload::StageStarted(StageStarted {
        attempt,
        ..StageStarted::default()
    })
}

fn progressed(percent: f64) -> Payload {
    Payload::StageProgressed(StageProgressed {
        progress: Some(contracts::task::Progress {
            percent,
            phase: "tests".into(),
            ..contracts::task::Progress::default()
        }),
    })
}

fn finished(state: StageState, verdict: Verdict) -> Payload {
    let mut ended = stage("", state);
    ended.set_verdict(verdict);
    Payload::StageFinished(StageFinished { stage: Some(ended) })
}

#[test]
fn stages_keep_the_order_of_the_plan() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    progress.apply(&event(2, "scaffold", started(1)));
    progress.apply(&event(3, "scaffold", progressed(40.0)));
    let names: Vec<_> = progress
        .stages
        .iter()
        .map(super::StageProgress::name)
        .collect();
    assert_eq!(names, ["scaffold", "validation"]);
    assert!((progress.stages[0].stage.percent - 40.0).abs() < 1e-9);
    assert_eq!(progress.stages[0].stage.state(), StageState::Running);
    assert_eq!(progress.workflow.name, "shop");
}

#[test]
fn repeated_and_missing_events_change_nothing() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    assert_eq!(progress.apply(&event(1, "", created())), Applied::Repeated);
    assert_eq!(
        progress.apply(&event(3, "scaffold", started(1))),
        Applied::Gap
    );
    assert_eq!(progress.sequence, 1);
    assert_eq!(progress.stages[0].stage.state(), StageState::Ready);
    assert_eq!(
        progress.apply(&event(-7, "scaffold", started(1))),
        Applied::Repeated
    );
}

#[test]
fn a_watch_from_the_middle_learns_stages_as_they_come() {
    let mut progress = Progress::after(7);
    assert_eq!(progress.apply(&event(8, "e2e", started(2))), Applied::New);
    assert_eq!(progress.stages[0].name(), "e2e");
    assert_eq!(progress.stages[0].attempt, 2);
}

#[test]
fn a_new_attempt_forgets_the_old_verdict() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    progress.apply(&event(2, "scaffold", started(1)));
    progress.apply(&event(3, "scaffold", progressed(90.0)));
    let reason = "the agent went away".to_owned();
    progress.apply(&event(
        4,
        "scaffold",
        Payload::LeaseChanged(LeaseChanged::default()),
    ));
    progress.apply(&event(
        5,
        "scaffold",
        Payload::RetryScheduled(RetryScheduled {
            attempt: 1,
            reason: reason.clone(),
            ..RetryScheduled::default()
        }),
    ));
    assert_eq!(progress.stages[0].stage.summary, reason);
    assert_eq!(progress.stages[0].stage.lost_count, 1);
    progress.apply(&event(6, "scaffold", started(2)));
    assert_eq!(progress.stages[0].attempt, 2);
    assert!(progress.stages[0].stage.percent.abs() < 1e-9);
    assert_eq!(progress.stages[0].stage.verdict(), Verdict::Unspecified);
}

#[test]
fn a_stage_that_runs_is_not_queued_again_by_the_same_commit() {
    let queued = Payload::StageQueued(StageQueued {
        attempt: 1,
        ..StageQueued::default()
    });
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    progress.apply(&event(2, "scaffold", started(1)));
    progress.apply(&event(3, "scaffold", queued.clone()));
    assert_eq!(progress.stages[0].stage.state(), StageState::Running);
    progress.apply(&event(
        4,
        "scaffold",
        Payload::LeaseChanged(LeaseChanged::default()),
    ));
    progress.apply(&event(5, "scaffold", queued));
    assert_eq!(progress.stages[0].stage.state(), StageState::Ready);
}

#[test]
fn decisions_are_open_until_resolved() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    let mut asked = event(
        2,
        "scaffold",
        Payload::DecisionAsked(DecisionAsked {
            decision_id: "d".into(),
            request: Some(DecisionRequest {
                question: "really?".into(),
                ..DecisionRequest::default()
            }),
            expire_time: None,
        }),
    );
    asked.set_state(WorkflowState::AwaitingDecision);
    progress.apply(&asked);
    assert!(progress.needs_person());
    assert_eq!(progress.decisions["d"].request.question, "really?");
    progress.apply(&event(
        3,
        "scaffold",
        Payload::DecisionResolved(DecisionResolved {
            decision: Some(ResolvedDecision {
                decision_id: "d".into(),
                ..ResolvedDecision::default()
            }),
        }),
    ));
    assert!(progress.decisions.is_empty());
    assert!(!progress.needs_person());
}

#[test]
fn a_retried_workflow_is_not_finished() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    progress.apply(&event(2, "scaffold", started(1)));
    progress.apply(&event(
        3,
        "scaffold",
        finished(StageState::Failed, Verdict::Failed),
    ));
    progress.apply(&event(
        4,
        "",
        Payload::Finished(WorkflowFinished {
            workflow: Some(Workflow {
                workflow_id: "w".into(),
                outcome: Some(contracts::orchestrator::WorkflowOutcome::default()),
                ..Workflow::default()
            }),
        }),
    ));
    assert!(progress.finished);
    progress.apply(&event(
        5,
        "",
        Payload::Retried(WorkflowRetried {
            from_stage: "scaffold".into(),
        }),
    ));
    assert!(!progress.finished);
    assert_eq!(progress.workflow.outcome, None);
}

#[test]
fn hostile_numbers_and_crowds_are_bounded() {
    let mut progress = Progress::default();
    progress.apply(&event(1, "", created()));
    for (sequence, percent) in [(2, f64::NAN), (3, -1.0), (4, 1e300), (5, f64::INFINITY)] {
        progress.apply(&event(sequence, "scaffold", progressed(percent)));
        let shown = progress.stages[0].stage.percent;
        assert!((0.0..=100.0).contains(&shown), "{percent}: {shown}");
    }
    for sequence in 6..5000 {
        let name = format!("s{sequence}");
        let stored = Payload::ArtifactStored(ArtifactStored {
            artifact: Some(Artifact::default()),
        });
        progress.apply(&event(sequence, &name, stored));
    }
    for sequence in 5000..6000 {
        progress.apply(&event(sequence, &format!("s{sequence}"), started(1)));
    }
    assert!(progress.stages.len() <= 64);
    assert!(progress.artifacts.len() <= 4096);
    assert_eq!(progress.sequence, 5999);
}
