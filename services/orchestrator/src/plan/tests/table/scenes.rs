//! A workflow in every state, and a stage in every state, to try all events on.

use std::collections::BTreeSet;

use contracts::id::{ClarificationId, DecisionId};
use contracts::orchestrator::StageDefinition;
use contracts::task::DecisionCategory;

use super::{ASK, T};
use crate::plan::event::{Event, StageOutcome};
use crate::plan::state::{State, Verdict};
use crate::plan::tests::build::{But, pipeline, stage};
use crate::plan::tests::{Run, asking, outcome};

/// What events may refer to.
#[derive(Clone, Copy)]
pub struct Refer {
    pub decision_id: DecisionId,
    pub clarification_id: ClarificationId,
}

pub struct Scene {
    pub name: &'static str,
    pub run: Run,
    pub refer: Refer,
}

fn scene(name: &'static str, make: impl FnOnce(&mut Refer) -> Run) -> Scene {
    let mut refer = Refer {
        decision_id: DecisionId::new(),
        clarification_id: ClarificationId::new(),
    };
    let run = make(&mut refer);
    Scene { name, run, refer }
}

/// `s`, then `t`, then `v`; beside them `keep`, which runs and so keeps the workflow going, and
/// `w`, which waits.
fn kept(change: impl Fn(StageDefinition) -> StageDefinition) -> Run {
    let mut run = Run::of(pipeline(vec![
        stage("s", &[]),
        change(stage(T, &["s"]).repaired_by("s", 3)),
        stage("v", &[T]),
        stage("keep", &[]),
        stage("w", &[]),
    ]));
    run.lease("keep");
    run
}

pub fn plain() -> Run {
    kept(|stage| stage)
}

fn after_s() -> Run {
    let mut run = plain();
    run.pass(&["s"]);
    run
}

fn running() -> Run {
    let mut run = after_s();
    run.lease(T);
    run
}

fn ended(verdict: Verdict) -> Run {
    let mut run = running();
    run.result(T, verdict);
    run
}

pub fn stage_scenes() -> Vec<Scene> {
    vec![
        scene("blocked", |_| plain()),
        scene("ready", |_| after_s()),
        scene("running", |_| running()),
        scene("stopping", |_| {
            let mut run = running();
            run.cancel();
            run
        }),
        scene("succeeded", |_| ended(Verdict::Passed)),
        scene("failed", |_| ended(Verdict::NotProven)),
        scene("skipped", |_| {
            let mut run = kept(But::only_for_apps);
            let library = StageOutcome {
                project_is_app: Some(false),
                ..outcome(Verdict::Passed)
            };
            run.finish_with("s", library);
            run
        }),
        scene("cancelled", |_| {
            let mut run = plain();
            run.finish("w", Verdict::Failed);
            run
        }),
        scene("ask-before", |refer| {
            let mut run = kept(|stage| stage.approved(DecisionCategory::CostImpacting));
            run.pass(&["s"]);
            refer.decision_id = run.open(T);
            run
        }),
        scene("ask-after", |refer| {
            let mut run = running();
            run.result_with(T, asking(Verdict::NotProven, ASK));
            refer.decision_id = run.open(T);
            run
        }),
        scene("repairing", |_| ended(Verdict::Failed)),
    ]
}

fn alone(change: impl Fn(StageDefinition) -> StageDefinition) -> Run {
    Run::of(pipeline(vec![change(stage(T, &[]))]))
}

pub fn workflow_scenes() -> Vec<Scene> {
    let leased = || {
        let mut run = alone(|stage| stage);
        run.lease(T);
        run
    };
    vec![
        scene("new", |_| {
            let pipeline = pipeline(vec![stage(T, &[])]);
            Run {
                state: State::new(&pipeline, &BTreeSet::new()),
                pipeline,
                commands: Vec::new(),
            }
        }),
        scene("pending", |_| alone(|stage| stage)),
        scene("running", |_| leased()),
        scene("asking", |refer| {
            let mut run = leased();
            run.result_with(T, asking(Verdict::NotProven, ASK));
            refer.decision_id = run.open(T);
            run
        }),
        scene("unclear", |refer| {
            let mut run = alone(|stage| stage);
            run.tell(&Event::ClarificationAsked {
                stage: None,
                epoch: None,
                clarification_id: refer.clarification_id,
            });
            run
        }),
        scene("broke", |_| {
            let mut run = leased();
            run.tell(&Event::BudgetExhausted {
                stage: T.into(),
                epoch: 1,
                reason: "the tokens ran out".into(),
            });
            run
        }),
        scene("paused", |_| {
            let mut run = leased();
            run.pause();
            run
        }),
        scene("undoing", |_| {
            let mut run = Run::of(pipeline(vec![stage(T, &[]).undone(), stage("v", &[T])]));
            run.pass(&[T]);
            run.finish("v", Verdict::Failed);
            run.lease(T);
            run
        }),
        scene("succeeded", |_| {
            let mut run = alone(|stage| stage);
            run.pass(&[T]);
            run
        }),
        scene("failed", |_| {
            let mut run = alone(|stage| stage);
            run.finish(T, Verdict::Failed);
            run
        }),
        scene("cancelled", |_| {
            let mut run = alone(|stage| stage);
            run.cancel();
            run
        }),
    ]
}
