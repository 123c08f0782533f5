//! From the wire to a checked pipeline, stage by stage. Names every problem with its field; never
//! repeats more of the input than a person wants to read.

mod graph;

use std::collections::HashMap;
use std::time::Duration;

use contracts::error::Error;
use contracts::orchestrator::{
    self, NeedCondition, RepairPolicy, StageCondition, StageTask, stage_task,
};
use contracts::parse::{Fields, is_slug};
use contracts::task::{AgentType, DecisionCategory};

use super::{Condition, Pipeline, RetryPolicy, STAGE_COUNT, StageDefinition, When};
use crate::plan::order;

// An answer's headers hold 16 KiB, and each problem is in them three times.
const PROBLEMS_MOST: usize = 20;
const NAME_SHOWN_BYTES: usize = 80;

const DESCRIPTION_BYTES: usize = 1024;
const KEY_BYTES: usize = 200;
const KEY_PARTS: [&str; 4] = ["{repository}", "{target_branch}", "{environment}", "{name}"];
const WEIGHT_MOST: i32 = 100;
const ROUNDS: i32 = 3;
const ROUNDS_MOST: i32 = 10;
const ATTEMPTS: i32 = 3;
const ATTEMPTS_MOST: i32 = 20;
const LOST: i32 = 5;
const LOST_MOST: i32 = 100;

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);
const BACKOFF_LEAST: Duration = Duration::from_millis(1);
const BACKOFF_MOST: Duration = Duration::from_hours(1);
const SCHEDULE_TIMEOUT: Duration = Duration::from_hours(1);
// No workflow may last longer.
const SCHEDULE_TIMEOUT_MOST: Duration = Duration::from_hours(30 * 24);
const TIMEOUT: Duration = Duration::from_mins(30);
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(10);
const TIMEOUT_LEAST: Duration = Duration::from_secs(1);
const TIMEOUT_MOST: Duration = Duration::from_hours(24);

/// A stage whose needs and repair are still names.
struct Draft {
    definition: StageDefinition,
    needs: Vec<(String, Condition)>,
    repair: Option<(String, u32)>,
}

pub(super) fn pipeline(proto: &orchestrator::Pipeline) -> Result<Pipeline, Error> {
    let mut fields = Fields::new();
    slug(&mut fields, "pipeline.name", &proto.name);
    fields.text(
        "pipeline.description",
        &proto.description,
        DESCRIPTION_BYTES,
    );
    if proto.version < 0 {
        fields.wrong("pipeline.version", "is negative");
    }
    let count = proto.stages.len();
    if !(1..=STAGE_COUNT).contains(&count) {
        fields.wrong(
            "pipeline.stages",
            format!("has {count} entries; at least 1, at most {STAGE_COUNT}"),
        );
        return Err(told(fields));
    }

    let drafts: Vec<Draft> = proto
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| draft(&mut fields, &stage_field(index), stage))
        .collect();
    let names = graph::names(&mut fields, &drafts);
    let needs = graph::resolve_needs(&mut fields, &drafts, &names);
    let order = match order::topological(&needs) {
        Ok(order) => order,
        Err(tangle) => {
            graph::tell_tangle(&mut fields, &drafts, &needs, &tangle);
            return Err(told(fields));
        }
    };
    let stages = graph::in_order(&mut fields, drafts, &names, &needs, &order);
    if fields.any_wrong() {
        return Err(told(fields));
    }
    Ok(Pipeline {
        name: proto.name.clone(),
        version: proto.version.max(1),
        stages,
    })
}

/// What is wrong, as much of it as fits into the headers of an answer.
fn told(fields: Fields) -> Error {
    let Err(error) = fields.finish(()) else {
        return Error::internal();
    };
    let mut wrong = error.fields;
    let more = wrong.len().saturating_sub(PROBLEMS_MOST);
    if more > 0 {
        wrong.truncate(PROBLEMS_MOST);
        wrong.push(("pipeline".to_owned(), format!("has {more} more problems")));
    }
    Error::invalid_fields(wrong)
}

fn stage_field(index: usize) -> String {
    format!("pipeline.stages[{index}]")
}

fn draft(fields: &mut Fields, field: &str, stage: &orchestrator::StageDefinition) -> Draft {
    slug(fields, &format!("{field}.name"), &stage.name);
    let task = stage.task.clone().unwrap_or_default();
    require_action(fields, &format!("{field}.task"), &task);
    if let Some(undo) = &stage.undo {
        check_undo(fields, &format!("{field}.undo"), undo, task.agent_type());
    }
    let when = match fields.known_enum(&format!("{field}.when"), stage.when) {
        StageCondition::Unspecified => When::Always,
        StageCondition::ProjectIsApp => When::ProjectIsApp,
    };
    let decision = fields.known_enum(&format!("{field}.decision"), stage.decision);
    let repair = stage.repair.as_ref().map(|repair| {
        if stage.optional {
            fields.wrong(
                format!("{field}.repair"),
                "does not go with `optional`: an optional stage blocks nothing, so nothing waits for its repair",
            );
        }
        draft_repair(fields, &format!("{field}.repair"), repair)
    });
    let mut duration = |name: &str, wire, least, most, default| {
        fields
            .duration(&format!("{field}.{name}"), wire, least, most)
            .unwrap_or(default)
    };
    let schedule_timeout = duration(
        "schedule_timeout",
        stage.schedule_timeout,
        TIMEOUT_LEAST,
        SCHEDULE_TIMEOUT_MOST,
        SCHEDULE_TIMEOUT,
    );
    let timeout = duration(
        "timeout",
        stage.timeout,
        TIMEOUT_LEAST,
        TIMEOUT_MOST,
        TIMEOUT,
    );
    let progress_timeout = duration(
        "progress_timeout",
        stage.progress_timeout,
        TIMEOUT_LEAST,
        TIMEOUT_MOST,
        PROGRESS_TIMEOUT,
    );
    let retry = retry(fields, &format!("{field}.retry"), stage.retry.as_ref());
    let weight = number(
        fields,
        &format!("{field}.weight"),
        stage.weight,
        1,
        WEIGHT_MOST,
    );
    Draft {
        definition: StageDefinition {
            name: stage.name.clone(),
            agent_type: task.agent_type(),
            task,
            needs: Vec::new(),
            when,
            schedule_timeout,
            timeout,
            progress_timeout,
            retry,
            decision: Some(decision).filter(|decision| *decision != DecisionCategory::Unspecified),
            undo: stage.undo.clone(),
            weight,
            repair: None,
            optional: stage.optional,
            concurrency_key: concurrency_key(fields, field, stage),
            ancestors: 0,
            descendants: 0,
        },
        needs: draft_needs(fields, field, stage),
        repair,
    }
}

/// The template of the key; what it stands for is known when the stage is ready.
fn concurrency_key(
    fields: &mut Fields,
    field: &str,
    stage: &orchestrator::StageDefinition,
) -> String {
    let Some(template) = &stage.concurrency_key else {
        let task = stage.task.as_ref().map(StageTask::agent_type);
        return match task {
            Some(AgentType::Integration) => "{repository}#{target_branch}",
            Some(AgentType::Deployment) => "{environment}/{repository}",
            _ => "",
        }
        .to_owned();
    };
    let field = format!("{field}.concurrency_key");
    fields.text(&field, template, KEY_BYTES);
    let mut rest = template.as_str();
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        match KEY_PARTS.iter().find(|part| rest.starts_with(**part)) {
            Some(part) => rest = &rest[part.len()..],
            None => {
                let parts = KEY_PARTS.join(", ");
                let start: String = rest.chars().take(20).collect();
                fields.wrong(&field, format!("{} is none of {parts}", clip(&start)));
                break;
            }
        }
    }
    template.clone()
}

fn draft_needs(
    fields: &mut Fields,
    field: &str,
    stage: &orchestrator::StageDefinition,
) -> Vec<(String, Condition)> {
    if stage.needs.len() > STAGE_COUNT {
        fields.wrong(
            format!("{field}.needs"),
            format!("has {} entries, at most {STAGE_COUNT}", stage.needs.len()),
        );
        return Vec::new();
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut needs = Vec::with_capacity(stage.needs.len());
    for (number, need) in stage.needs.iter().enumerate() {
        let field = format!("{field}.needs[{number}]");
        let condition = match fields.known_enum(&format!("{field}.condition"), need.condition) {
            NeedCondition::Unspecified | NeedCondition::Succeeded => Condition::Succeeded,
            NeedCondition::Completed => Condition::Completed,
            NeedCondition::Always => Condition::Always,
        };
        if let Some(first) = seen.insert(&need.stage, number) {
            fields.wrong(
                format!("{field}.stage"),
                format!("{} is needed already by needs[{first}]", clip(&need.stage)),
            );
        }
        needs.push((need.stage.clone(), condition));
    }
    needs
}

fn draft_repair(fields: &mut Fields, field: &str, repair: &RepairPolicy) -> (String, u32) {
    let rounds = number(
        fields,
        &format!("{field}.max_rounds"),
        repair.max_rounds,
        ROUNDS,
        ROUNDS_MOST,
    );
    (repair.stage.clone(), rounds)
}

fn retry(
    fields: &mut Fields,
    field: &str,
    policy: Option<&orchestrator::RetryPolicy>,
) -> RetryPolicy {
    let policy = policy.copied().unwrap_or_default();
    let mut backoff = |name: &str, wire, default| {
        fields
            .duration(
                &format!("{field}.{name}"),
                wire,
                BACKOFF_LEAST,
                BACKOFF_MOST,
            )
            .unwrap_or(default)
    };
    let initial_backoff = backoff("initial_backoff", policy.initial_backoff, INITIAL_BACKOFF);
    let max_backoff = backoff(
        "max_backoff",
        policy.max_backoff,
        MAX_BACKOFF.max(initial_backoff),
    );
    if max_backoff < initial_backoff {
        fields.wrong(
            format!("{field}.max_backoff"),
            "is shorter than `initial_backoff`",
        );
    }
    RetryPolicy {
        max_attempts: number(
            fields,
            &format!("{field}.max_attempts"),
            policy.max_attempts,
            ATTEMPTS,
            ATTEMPTS_MOST,
        ),
        max_lost: number(
            fields,
            &format!("{field}.max_lost"),
            policy.max_lost,
            LOST,
            LOST_MOST,
        ),
        initial_backoff,
        max_backoff,
    }
}

/// A task names its agent type, and an action where its type has several.
fn require_action(fields: &mut Fields, field: &str, task: &StageTask) {
    match &task.task {
        None => fields.wrong(
            field,
            "is required: one of `scaffold`, `validation`, `e2e`, `integration`, `deployment`",
        ),
        Some(stage_task::Task::Integration(task)) if task.action.is_none() => fields.wrong(
            format!("{field}.integration.action"),
            "is required: one of `merge`, `resolve_conflicts`, `update_dependencies`, `run_integration_tests`, `revert`",
        ),
        Some(stage_task::Task::Deployment(task)) if task.action.is_none() => fields.wrong(
            format!("{field}.deployment.action"),
            "is required: one of `build`, `push`, `deploy`, `rollback`, `check_health`, `verify`, `diff`, `status`",
        ),
        Some(_) => {}
    }
}

fn check_undo(fields: &mut Fields, field: &str, undo: &StageTask, own: AgentType) {
    require_action(fields, field, undo);
    let allowed = match undo.agent_type() {
        // A missing type was told already.
        AgentType::Unspecified | AgentType::Integration | AgentType::Deployment => true,
        other @ (AgentType::Scaffold | AgentType::Validation | AgentType::E2e) => other == own,
    };
    if !allowed {
        fields.wrong(
            field,
            "is for another agent type than the stage; only `integration` and `deployment` may undo what others did",
        );
    }
}

fn number(fields: &mut Fields, field: &str, value: i32, default: i32, most: i32) -> u32 {
    let value = match value {
        0 => default,
        value if (1..=most).contains(&value) => value,
        value => {
            fields.wrong(field, format!("{value} is not between 1 and {most}"));
            default
        }
    };
    value.unsigned_abs()
}

fn slug(fields: &mut Fields, field: &str, name: &str) {
    if name.is_empty() {
        fields.wrong(field, "is required");
    } else if !is_slug(name) {
        fields.wrong(
            field,
            format!(
                "{} is not a lower-case letter followed by at most 62 letters, digits or '-'",
                clip(name)
            ),
        );
    }
}

/// The start of a name, quoted, so that a message stays short.
fn clip(name: &str) -> String {
    let mut shown = String::with_capacity(NAME_SHOWN_BYTES);
    for character in name.chars() {
        let escaped = character.escape_debug();
        if shown.len() + escaped.len() > NAME_SHOWN_BYTES {
            shown.push('…');
            break;
        }
        shown.extend(escaped);
    }
    format!("\"{shown}\"")
}
