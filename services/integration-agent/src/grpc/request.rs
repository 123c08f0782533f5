//! Reads tasks. Every wrong field is named at once; what this agent cannot do is refused, never replaced by
//! something that it can.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use agent_runtime::{
    project::ConfinedPath,
    repository::{CommitId, RepositoryUrl},
};
use contracts::{
    error::Error,
    error_reason::ErrorReason,
    integration::{self as proto, ConflictStrategy, MergeStrategy, integration_task::Action},
    parse::{Fields, URL_BYTES},
    task::{AgentType, DecisionCategory, Repository, Resolution, TaskContext, Verdict},
    wire_time,
};
use uuid::Uuid;

use crate::{
    conflict::{Author, Choice},
    decision::Approval,
    integrate::{Order, Validated},
    ladder,
    resolution::Choices,
    strategy::Strategy,
};

mod revert;

/// Limit of one check when the task names none.
const CHECK_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest limit of one check.
const CHECK_TIMEOUT_MOST: Duration = Duration::from_hours(6);
/// Most choices in one task.
const RESOLUTIONS_MOST: usize = 1000;

/// What is asked for.
#[derive(Debug)]
pub enum Request {
    /// A merge, or to take one back.
    Merge(Box<Order>),
    /// To take back what the stage did not put there, as far as is known.
    Nothing {
        /// Whether that is known.
        verdict: ladder::Verdict,
        /// One sentence.
        reason: String,
    },
    /// The checks of a commit.
    Checks {
        /// The repository.
        url: RepositoryUrl,
        /// Branch, tag or commit.
        revision: String,
    },
}

/// Reads a task.
pub fn parse(context: &TaskContext, task: proto::IntegrationTask) -> Result<Request, Error> {
    let action = task.action.ok_or_else(|| {
        Error::invalid_field(
            "task.action",
            "is required: merge, resolve_conflicts, update_dependencies, run_integration_tests or revert",
        )
    })?;
    match action {
        Action::Merge(merge) => {
            let choices = strategy_choices(&merge, "task.merge")?;
            order(context, &merge, "task.merge", choices)
                .map(|order| Request::Merge(Box::new(order)))
        }
        Action::ResolveConflicts(resolve) => {
            let field = "task.resolve_conflicts";
            let merge = resolve.merge.unwrap_or_default();
            let choices = path_choices(context, &resolve.resolutions, field)?;
            order(context, &merge, &format!("{field}.merge"), choices)
                .map(|order| Request::Merge(Box::new(order)))
        }
        Action::RunIntegrationTests(run) => {
            let mut fields = Fields::new();
            let repository = context.repository.clone().unwrap_or_default();
            fields.text(
                "task.run_integration_tests.revision",
                &run.revision,
                URL_BYTES,
            );
            let revision = first(&[&run.revision, &repository.head_commit, &repository.branch]);
            if revision.is_empty() {
                fields.wrong(
                    "task.run_integration_tests.revision",
                    "is required, or context.repository.head_commit, or context.repository.branch",
                );
            }
            let url = url(&mut fields, &repository);
            let (url, revision) = fields.finish((url, revision.to_owned()))?;
            Ok(Request::Checks {
                url: required(url)?,
                revision,
            })
        }
        Action::Revert(revert) => revert::parse(context, &revert),
        Action::UpdateDependencies(_) => Err(Error::new(
            ErrorReason::CapabilityMissing,
            "this agent does not update dependencies: run the ecosystem's own tool on a branch, and \
             integrate that branch",
        )),
    }
}

fn first<'a>(texts: &[&'a str]) -> &'a str {
    texts
        .iter()
        .copied()
        .find(|text| !text.is_empty())
        .unwrap_or("")
}

/// The URL was found wrong, and said so, unless there is one.
fn required(url: Option<RepositoryUrl>) -> Result<RepositoryUrl, Error> {
    url.ok_or_else(|| Error::invalid_field("context.repository.url", "is required"))
}

fn url(fields: &mut Fields, repository: &Repository) -> Option<RepositoryUrl> {
    let field = "context.repository.url";
    if repository.url.is_empty() {
        fields.wrong(field, "is required");
        return None;
    }
    match RepositoryUrl::parse(&repository.url) {
        Ok(url) => Some(url),
        Err(error) => {
            fields.wrong(field, error.to_string());
            None
        }
    }
}

fn order(
    context: &TaskContext,
    merge: &proto::Merge,
    field: &str,
    choices: Choices,
) -> Result<Order, Error> {
    let mut fields = Fields::new();
    let repository = context.repository.clone().unwrap_or_default();
    for (name, text) in [("source", &merge.source), ("target", &merge.target)] {
        fields.text(&format!("{field}.{name}"), text, URL_BYTES);
    }
    // The exact commit that earlier stages looked at, not what its branch has become.
    let source = first(&[&merge.source, &repository.head_commit, &repository.branch]);
    if source.is_empty() {
        fields.wrong(
            format!("{field}.source"),
            "is required, or context.repository.head_commit, or context.repository.branch",
        );
    }
    let named = first(&[&merge.source, &repository.branch, &repository.head_commit]);
    let target = first(&[&merge.target, &repository.target_branch]);
    let target = branch(&mut fields, &format!("{field}.target"), target);
    let strategy = match MergeStrategy::try_from(merge.strategy) {
        Ok(MergeStrategy::Unspecified | MergeStrategy::Merge) => Strategy::Merge,
        Ok(MergeStrategy::Squash) => Strategy::Squash,
        Ok(MergeStrategy::Rebase) => Strategy::Rebase,
        Ok(MergeStrategy::FastForward) => Strategy::FastForward,
        Ok(MergeStrategy::Revert) | Err(_) => {
            fields.wrong(format!("{field}.strategy"), "is not a strategy to merge by");
            Strategy::Merge
        }
    };
    let check_timeout = limit(
        &mut fields,
        &format!("{field}.check_timeout"),
        merge.check_timeout,
    );
    let url = url(&mut fields, &repository);
    let validated = validated(context);
    let url = fields.finish(url)?;
    Ok(Order {
        url: required(url)?,
        source: source.to_owned(),
        source_name: short(named),
        target,
        strategy,
        choices,
        by_hand: String::new(),
        run_checks: merge.run_checks.unwrap_or(true),
        check_timeout,
        title: context.workflow_name.chars().take(200).collect(),
        task_id: context.task_id.clone(),
        workflow_id: context.workflow_id.clone(),
        task_time: time_of(&context.task_id),
        approvals: approvals(context),
        validated,
    })
}

/// The branch that a target names. None: the default branch.
fn branch(fields: &mut Fields, field: &str, target: &str) -> Option<String> {
    let target = target.strip_prefix("refs/heads/").unwrap_or(target);
    if target.starts_with("refs/") {
        fields.wrong(field, "must be a branch");
    }
    (!target.is_empty()).then(|| target.to_owned())
}

/// The limit of one check.
fn limit(fields: &mut Fields, field: &str, asked: Option<prost_types::Duration>) -> Duration {
    asked
        .map_or(Some(CHECK_TIMEOUT), wire_time::duration)
        .filter(|limit| *limit > Duration::ZERO && *limit <= CHECK_TIMEOUT_MOST)
        .unwrap_or_else(|| {
            fields.wrong(field, "must be above 0 and at most 6h");
            CHECK_TIMEOUT
        })
}

/// A commit id is shown short; a branch as it is.
fn short(name: &str) -> String {
    let is_id = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        name[..12].to_owned()
    } else {
        name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()
    }
}

/// When a task was made: its id says so. Zero when it does not.
fn time_of(task_id: &str) -> i64 {
    Uuid::parse_str(task_id)
        .ok()
        .and_then(|id| id.get_timestamp())
        .and_then(|time| i64::try_from(time.to_unix().0).ok())
        .unwrap_or(0)
}

fn strategy_choices(merge: &proto::Merge, field: &str) -> Result<Choices, Error> {
    let field = format!("{field}.conflict_strategy");
    match ConflictStrategy::try_from(merge.conflict_strategy) {
        Ok(ConflictStrategy::Unspecified | ConflictStrategy::Manual) => Ok(Choices::None),
        Ok(ConflictStrategy::Ours) => Ok(Choices::Everywhere(Choice::Ours, Author::Task)),
        Ok(ConflictStrategy::Theirs) => Ok(Choices::Everywhere(Choice::Theirs, Author::Task)),
        Ok(ConflictStrategy::Structural | ConflictStrategy::Model) => Err(Error::new(
            ErrorReason::CapabilityMissing,
            "structural and model resolution of conflicts are not available here: use manual, ours or theirs",
        )
        .precondition(field, "MANUAL, OURS and THEIRS are available")),
        Err(_) => Err(Error::invalid_field(field, "is not a known strategy")),
    }
}

fn path_choices(
    context: &TaskContext,
    resolutions: &[proto::PathResolution],
    field: &str,
) -> Result<Choices, Error> {
    let mut fields = Fields::new();
    let mut paths = BTreeMap::new();
    if resolutions.is_empty() || resolutions.len() > RESOLUTIONS_MOST {
        fields.wrong(
            format!("{field}.resolutions"),
            format!("must name 1 to {RESOLUTIONS_MOST} paths"),
        );
    }
    for (index, resolution) in resolutions.iter().enumerate() {
        let field = format!("{field}.resolutions[{index}]");
        if let Err(problem) = ConfinedPath::parse(&resolution.path) {
            fields.wrong(format!("{field}.path"), problem);
        }
        let choice = match ConflictStrategy::try_from(resolution.strategy) {
            Ok(ConflictStrategy::Ours) => Choice::Ours,
            Ok(ConflictStrategy::Theirs) => Choice::Theirs,
            Ok(
                ConflictStrategy::Unspecified
                | ConflictStrategy::Manual
                | ConflictStrategy::Structural
                | ConflictStrategy::Model,
            )
            | Err(_) => {
                fields.wrong(format!("{field}.strategy"), "must be OURS or THEIRS");
                continue;
            }
        };
        let path = PathBuf::from(&resolution.path);
        if paths
            .insert(path, choice)
            .is_some_and(|other| other != choice)
        {
            fields.wrong(format!("{field}.path"), "is there twice, with both sides");
        }
    }
    // Naming paths one by one is what a person does who saw them.
    let actor = context
        .decisions
        .last()
        .map_or("whoever asked for this task", |decision| {
            decision.actor.as_str()
        });
    let choices = Choices::ByPath(paths, Author::Person(actor.to_owned()));
    fields.finish(choices)
}

/// Decisions in favour of a merge.
fn approvals(context: &TaskContext) -> Vec<Approval> {
    context
        .decisions
        .iter()
        .filter(|decision| decision.category == i32::from(DecisionCategory::Merge))
        .filter(|decision| decision.resolution == i32::from(Resolution::Approve))
        .map(|decision| Approval {
            digest: decision.subject_digest.clone(),
            choice: decision.choice.clone(),
            actor: decision.actor.clone(),
        })
        .collect()
}

/// What earlier stages found good.
fn validated(context: &TaskContext) -> Vec<Validated> {
    context
        .inputs
        .iter()
        .filter(|input| input.agent_type == i32::from(AgentType::Validation))
        .filter_map(|input| {
            let outcome = input.outcome.as_ref()?;
            if outcome.verdict != i32::from(Verdict::Passed) {
                return None;
            }
            let repository = outcome.repository.as_ref()?;
            let commit: CommitId = repository.head_commit.parse().ok()?;
            let base: CommitId = repository.base_commit.parse().ok()?;
            Some(Validated {
                commit,
                base,
                stage: input.stage.clone(),
            })
        })
        .collect()
}
