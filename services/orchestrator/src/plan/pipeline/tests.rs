//! Pipelines that are refused, and how their problems are told.

use std::time::Duration;

use contracts::deployment::DeploymentTask;
use contracts::integration::IntegrationTask;
use contracts::orchestrator::{
    Need, NeedCondition, Pipeline as Proto, RepairPolicy, RetryPolicy, StageDefinition, StageTask,
    stage_task::Task,
};
use contracts::task::AgentType;
use contracts::wire_time::wire_duration;

use super::{Condition, Pipeline, Repair, When};
use crate::plan::built_in::built_in;
use crate::plan::tests::build::{But, need, proto, stage, task};

/// The fields that are wrong, with what is wrong about them.
#[track_caller]
fn problems(proto: &Proto) -> Vec<(String, String)> {
    Pipeline::parse(proto).unwrap_err().fields
}

#[track_caller]
fn only_problem(stages: Vec<StageDefinition>) -> (String, String) {
    let problems = problems(&proto(stages));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[track_caller]
fn field_of(stage: StageDefinition) -> String {
    only_problem(vec![stage]).0
}

#[test]
fn the_built_in_pipelines_are_right() {
    let names: Vec<_> = built_in()
        .iter()
        .map(|proto| {
            let parsed = Pipeline::parse(proto).unwrap();
            assert_eq!(
                (proto.pipeline_id.as_str(), proto.version),
                (parsed.name.as_str(), 1)
            );
            assert!(proto.built_in);
            assert_eq!(
                parsed.stages.iter().map(|stage| stage.weight).sum::<u32>(),
                if parsed.name == "change" { 80 } else { 100 }
            );
            let stages: Vec<_> = parsed
                .stages
                .iter()
                .map(|stage| stage.name.as_str())
                .collect();
            let all = ["scaffold", "validation", "e2e", "integration", "deployment"];
            assert_eq!(stages, all[all.len() - stages.len()..]);
            for stage in &parsed.stages {
                let for_apps = matches!(stage.agent_type, AgentType::E2e | AgentType::Deployment);
                assert_eq!(stage.when == When::ProjectIsApp, for_apps, "{}", stage.name);
                let judges = matches!(stage.agent_type, AgentType::E2e | AgentType::Validation);
                let repair = (judges && stages.len() == 5).then_some(Repair {
                    stage: 0,
                    max_rounds: 3,
                });
                assert_eq!(stage.repair, repair, "{}", stage.name);
                assert!(!stage.optional);
            }
            parsed.name
        })
        .collect();
    assert_eq!(names, ["app", "feature", "bugfix", "change"]);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let parsed = Pipeline::parse(&proto(vec![
        stage("scaffold", &[]),
        stage("validation", &["scaffold"]).repaired_by("scaffold", 0),
    ]))
    .unwrap();
    assert_eq!(parsed.version, 1);
    let stage = &parsed.stages[1];
    assert_eq!(stage.schedule_timeout, Duration::from_hours(1));
    assert_eq!(stage.timeout, Duration::from_mins(30));
    assert_eq!(stage.progress_timeout, Duration::from_mins(10));
    assert_eq!((stage.retry.max_attempts, stage.retry.max_lost), (3, 5));
    assert_eq!(stage.retry.initial_backoff, Duration::from_secs(1));
    assert_eq!(stage.retry.max_backoff, Duration::from_mins(1));
    assert_eq!(
        (stage.weight, stage.decision, stage.when),
        (1, None, When::Always)
    );
    assert_eq!(
        stage.repair,
        Some(Repair {
            stage: 0,
            max_rounds: 3
        })
    );
    assert_eq!(stage.needs[0].condition, Condition::Succeeded);
}

#[test]
fn stages_come_in_an_order_in_which_they_can_run() {
    let parsed = Pipeline::parse(&proto(vec![
        stage("d", &["c", "b"]).repaired_by("s", 1),
        stage("b", &["s"]),
        stage("c", &["s"]),
        stage("s", &[]),
    ]))
    .unwrap();
    let names: Vec<_> = parsed
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(names, ["s", "b", "c", "d"]);
    let needs: Vec<_> = parsed.stages[3]
        .needs
        .iter()
        .map(|need| need.stage)
        .collect();
    assert_eq!(needs, [2, 1]);
    assert_eq!(
        parsed.stages[3].repair,
        Some(Repair {
            stage: 0,
            max_rounds: 1
        })
    );
    assert_eq!(parsed.stages[3].ancestors, 0b111);
    assert_eq!(parsed.stages[0].descendants, 0b1110);
    assert_eq!(parsed.index("c"), Some(2));
}

#[test]
fn cycles_are_told_with_their_path() {
    let (field, problem) = only_problem(vec![stage("alpha", &["beta"]), stage("beta", &["alpha"])]);
    assert_eq!(field, "pipeline.stages[0].needs[0].stage");
    assert_eq!(problem, "is part of a cycle: alpha -> beta -> alpha");

    let (field, problem) = only_problem(vec![stage("a", &[]), stage("b", &["a", "b"])]);
    assert_eq!(field, "pipeline.stages[1].needs[1].stage");
    assert_eq!(problem, "is part of a cycle: b -> b");
}

#[test]
fn stages_behind_a_cycle_are_told_as_unreachable() {
    let problems = problems(&proto(vec![
        stage("a", &["b"]),
        stage("b", &["a"]),
        stage("c", &["a"]),
        stage("fine", &[]),
    ]));
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[1].0, "pipeline.stages[2].needs[0].stage");
    assert_eq!(
        problems[1].1,
        "can never be reached: \"a\" depends on a cycle"
    );
}

#[test]
fn unknown_needs_are_told_with_the_nearest_name() {
    let (field, problem) =
        only_problem(vec![stage("validation", &[]), stage("e2e", &["validaton"])]);
    assert_eq!(field, "pipeline.stages[1].needs[0].stage");
    assert_eq!(
        problem,
        "\"validaton\" is not a stage of this pipeline; did you mean \"validation\"?"
    );
    let (_, problem) = only_problem(vec![stage("e2e", &["xyz"])]);
    assert_eq!(problem, "\"xyz\" is not a stage of this pipeline");
    let (_, problem) = only_problem(vec![stage("e2e", &[""])]);
    assert_eq!(problem, "is required");
}

#[test]
fn names_are_unique_and_so_are_needs() {
    let (field, problem) = only_problem(vec![stage("a", &[]), stage("a", &[])]);
    assert_eq!(field, "pipeline.stages[1].name");
    assert_eq!(problem, "\"a\" is the name of stages[0] already");
    let (field, problem) = only_problem(vec![stage("a", &[]), stage("b", &["a", "a"])]);
    assert_eq!(field, "pipeline.stages[1].needs[1].stage");
    assert_eq!(problem, "\"a\" is needed already by needs[0]");
}

#[test]
fn only_a_scaffold_stage_before_it_can_repair_a_stage() {
    let judged = |by: &str| {
        only_problem(vec![
            stage("scaffold", &[]),
            stage("validation", &["scaffold"]),
            stage("s-other", &[]),
            stage("e2e", &["validation"]).repaired_by(by, 1),
        ])
    };
    for (by, why) in [
        (
            "validation",
            "\"validation\" is not a scaffold stage: it cannot repair",
        ),
        ("s-other", "\"s-other\" is not a stage that this one needs"),
        ("e2e", "\"e2e\" is not a stage that this one needs"),
        (
            "scafold",
            "\"scafold\" is not a stage of this pipeline; did you mean \"scaffold\"?",
        ),
        ("", "is required"),
    ] {
        let (field, problem) = judged(by);
        assert_eq!(
            (field.as_str(), problem.as_str()),
            ("pipeline.stages[3].repair.stage", why)
        );
    }
    let (field, _) = only_problem(vec![
        stage("scaffold", &[]),
        stage("e2e", &["scaffold"])
            .repaired_by("scaffold", 1)
            .optional(),
    ]);
    assert_eq!(field, "pipeline.stages[1].repair");
}

#[test]
fn an_undo_is_of_the_same_type_or_one_that_works_outside() {
    let undone_by = |of: AgentType, by: AgentType| {
        let stage = StageDefinition {
            task: Some(task(of)),
            undo: Some(task(by)),
            ..stage("a", &[])
        };
        Pipeline::parse(&proto(vec![stage])).is_ok()
    };
    let types = contracts::agent::AGENT_TYPES;
    for of in types {
        for by in types {
            let right = of == by || matches!(by, AgentType::Integration | AgentType::Deployment);
            assert_eq!(undone_by(of, by), right, "{of:?} {by:?}");
        }
    }
    assert!(!undone_by(AgentType::E2e, AgentType::Unspecified));
}

#[test]
fn numbers_and_durations_have_bounds() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let with = |change: &dyn Fn(&mut StageDefinition)| {
        let mut stage = stage("a", &[]);
        change(&mut stage);
        field_of(stage)
    };
    let retry = |policy: RetryPolicy| {
        field_of(StageDefinition {
            retry: Some(policy),
            ..stage("a", &[])
        })
    };
    let none = RetryPolicy::default;
    for (found, field) in [
        (with(&|stage| stage.weight = 101), "weight"),
        (with(&|stage| stage.weight = -1), "weight"),
        (with(&|stage| stage.weight = i32::MIN), "weight"),
        (with(&|stage| stage.timeout = seconds(0)), "timeout"),
        (
            with(&|stage| stage.timeout = seconds(24 * 3600 + 1)),
            "timeout",
        ),
        (with(&|stage| stage.timeout = seconds(-5)), "timeout"),
        (
            with(&|stage| stage.schedule_timeout = seconds(i64::MAX)),
            "schedule_timeout",
        ),
        (
            with(&|stage| stage.progress_timeout = seconds(24 * 3600 + 1)),
            "progress_timeout",
        ),
        (with(&|stage| stage.when = 9), "when"),
        (with(&|stage| stage.decision = 99), "decision"),
        (with(&|stage| stage.name = "A".into()), "name"),
        (with(&|stage| stage.name = String::new()), "name"),
        (with(&|stage| stage.task = None), "task"),
        (
            with(&|stage| stage.task = Some(StageTask::default())),
            "task",
        ),
        (
            retry(RetryPolicy {
                max_attempts: 21,
                ..none()
            }),
            "retry.max_attempts",
        ),
        (
            retry(RetryPolicy {
                max_attempts: -1,
                ..none()
            }),
            "retry.max_attempts",
        ),
        (
            retry(RetryPolicy {
                max_lost: 101,
                ..none()
            }),
            "retry.max_lost",
        ),
        (
            retry(RetryPolicy {
                initial_backoff: seconds(0),
                ..none()
            }),
            "retry.initial_backoff",
        ),
        (
            retry(RetryPolicy {
                max_backoff: seconds(3601),
                ..none()
            }),
            "retry.max_backoff",
        ),
        (
            retry(RetryPolicy {
                initial_backoff: seconds(10),
                max_backoff: Some(wire_duration(Duration::from_secs(9))),
                ..none()
            }),
            "retry.max_backoff",
        ),
    ] {
        assert_eq!(found, format!("pipeline.stages[0].{field}"));
    }
}

#[test]
fn rounds_and_conditions_have_bounds() {
    let (field, _) = only_problem(vec![
        stage("scaffold", &[]),
        stage("e2e", &["scaffold"]).repaired_by("scaffold", 11),
    ]);
    assert_eq!(field, "pipeline.stages[1].repair.max_rounds");
    let (field, _) = only_problem(vec![
        stage("a", &[]),
        StageDefinition {
            needs: vec![Need {
                stage: "a".into(),
                condition: 4,
            }],
            ..stage("b", &[])
        },
    ]);
    assert_eq!(field, "pipeline.stages[1].needs[0].condition");
}

#[test]
fn a_long_first_delay_raises_the_longest() {
    let stage = StageDefinition {
        retry: Some(RetryPolicy {
            initial_backoff: Some(wire_duration(Duration::from_mins(5))),
            ..RetryPolicy::default()
        }),
        ..stage("a", &[])
    };
    let parsed = Pipeline::parse(&proto(vec![stage])).unwrap();
    assert_eq!(parsed.stages[0].retry.max_backoff, Duration::from_mins(5));
}

#[test]
fn tasks_with_several_actions_name_one() {
    for (task, field) in [
        (Task::Integration(IntegrationTask::default()), "integration"),
        (Task::Deployment(DeploymentTask::default()), "deployment"),
    ] {
        let empty = StageTask { task: Some(task) };
        let of_task = StageDefinition {
            task: Some(empty.clone()),
            ..stage("a", &[])
        };
        assert_eq!(
            field_of(of_task),
            format!("pipeline.stages[0].task.{field}.action")
        );
        let of_undo = StageDefinition {
            undo: Some(empty),
            ..stage("a", &[])
        };
        assert_eq!(
            field_of(of_undo),
            format!("pipeline.stages[0].undo.{field}.action")
        );
    }
}

#[test]
fn a_pipeline_has_a_name_and_between_one_and_64_stages() {
    assert_eq!(problems(&Proto::default()).len(), 2);
    let many = |count: usize| (0..count).map(|n| stage(&format!("v{n}"), &[])).collect();
    assert!(Pipeline::parse(&proto(many(64))).is_ok());
    let (field, problem) = only_problem(many(65));
    assert_eq!(field, "pipeline.stages");
    assert_eq!(problem, "has 65 entries; at least 1, at most 64");
    assert_eq!(
        problems(&Proto {
            version: -1,
            ..proto(many(1))
        })[0]
            .0,
        "pipeline.version"
    );
    let description = "x".repeat(1025);
    assert_eq!(
        problems(&Proto {
            description,
            ..proto(many(1))
        })[0]
            .0,
        "pipeline.description"
    );
}

#[test]
fn a_chain_of_64_runs_and_its_cycle_is_told() {
    let chain = |closed: bool| {
        let name = |n: usize| format!("v{n}");
        let stages = (0..64).map(|n| match n {
            0 if closed => stage(&name(0), &[&name(63)]),
            0 => stage(&name(0), &[]),
            n => stage(&name(n), &[&name(n - 1)]),
        });
        proto(stages.collect())
    };
    let parsed = Pipeline::parse(&chain(false)).unwrap();
    assert_eq!(parsed.stages[63].ancestors, u64::MAX >> 1);
    assert_eq!(parsed.stages[0].descendants, u64::MAX << 1);
    let problems = problems(&chain(true));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .1
            .starts_with("is part of a cycle: v0 -> v63 -> v62")
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let mut wrong = proto(vec![
        StageDefinition {
            weight: 1000,
            timeout: wire_duration(Duration::ZERO).into(),
            ..stage("X", &["nope"])
        },
        StageDefinition {
            repair: Some(RepairPolicy {
                stage: "X".into(),
                max_rounds: 50,
            }),
            ..stage("b", &["X"])
        },
    ]);
    wrong.name = "-".into();
    let fields: Vec<_> = problems(&wrong)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(
        fields,
        [
            "pipeline.name",
            "pipeline.stages[0].name",
            "pipeline.stages[0].timeout",
            "pipeline.stages[0].weight",
            "pipeline.stages[1].repair.max_rounds",
            "pipeline.stages[0].needs[0].stage",
            "pipeline.stages[1].repair.stage",
        ]
    );
}

#[test]
fn hostile_input_is_refused_briefly() {
    let long = "x".repeat(1 << 20);
    let needs = |count: usize| (0..count).map(|_| need(&long[..100], NeedCondition::Always));
    let hostile = proto(vec![
        stage(&long, &[&long]),
        StageDefinition {
            needs: needs(64).collect(),
            ..stage("b\u{0}\n", &[])
        },
        StageDefinition {
            needs: needs(100_000).collect(),
            ..stage("c", &[])
        },
        stage("d", &[&"\u{202e}".repeat(1 << 18)]).repaired_by(&long, 1),
    ]);
    let error = Pipeline::parse(&hostile).unwrap_err();
    assert!(error.message.len() < 8 * 1024, "{}", error.message.len());
    assert!(!error.message.contains('\u{0}'));
}
