//! Reads tasks that take a merge back: which commit, and what the target was before, from the task itself or
//! from what the context tells of the stage that merged.

use agent_runtime::repository::CommitId;
use contracts::{
    error::Error,
    integration::{MergeReport, MergeStrategy, Revert},
    parse::{Fields, URL_BYTES},
    task::TaskContext,
};

use super::{Request, approvals, branch, first, limit, required, short, time_of, url};
use crate::{integrate::Order, ladder::Verdict, resolution::Choices, strategy::Strategy};

/// Longest reason, in bytes.
const REASON_BYTES: usize = 1000;

/// What is to be taken back.
enum Subject {
    /// A commit.
    Commit {
        commit: CommitId,
        before: Option<CommitId>,
    },
    /// The stage published nothing, or nobody knows what.
    Nothing { verdict: Verdict, reason: String },
}

/// Reads a task.
pub(super) fn parse(context: &TaskContext, revert: &Revert) -> Result<Request, Error> {
    let mut fields = Fields::new();
    let repository = context.repository.clone().unwrap_or_default();
    fields.text("task.revert.target", &revert.target, URL_BYTES);
    fields.text("task.revert.reason", &revert.reason, REASON_BYTES);
    let check_timeout = limit(
        &mut fields,
        "task.revert.check_timeout",
        revert.check_timeout,
    );
    let merged = merged(context);
    let subject = match (&*revert.commit, &merged) {
        ("", Some(report)) => subject(report),
        ("", None) => {
            fields.wrong(
                "task.revert.commit",
                "is required, or the result of an integration stage among context.inputs",
            );
            None
        }
        (text, _) => {
            let before = match &*revert.before {
                "" => None,
                text => commit(&mut fields, "task.revert.before", text),
            };
            commit(&mut fields, "task.revert.commit", text)
                .map(|commit| Subject::Commit { commit, before })
        }
    };
    let told = merged.as_ref().map_or("", |report| &*report.target);
    let target = first(&[&revert.target, told, &repository.target_branch]);
    let target = branch(&mut fields, "task.revert.target", target);
    let url = url(&mut fields, &repository);
    let (url, subject) = fields.finish((url, subject))?;
    let (commit, before) = match subject {
        Some(Subject::Commit { commit, before }) => (commit, before),
        Some(Subject::Nothing { verdict, reason }) => {
            return Ok(Request::Nothing { verdict, reason });
        }
        None => {
            let problem = "names no commit that could be taken back";
            return Err(Error::invalid_field("context.inputs", problem));
        }
    };
    Ok(Request::Merge(Box::new(Order {
        url: required(url)?,
        source: commit.to_string(),
        source_name: format!("the state before {}", short(&commit.to_string())),
        target,
        strategy: Strategy::Revert { before },
        choices: Choices::None,
        by_hand: match &merged {
            Some(report) if report.merge_commit == commit.to_string() => report.rollback.clone(),
            Some(_) | None => format!("git revert {commit}"),
        },
        run_checks: revert.run_checks.unwrap_or(true),
        check_timeout,
        title: first(&[&revert.reason, &context.workflow_name]).to_owned(),
        task_id: context.task_id.clone(),
        workflow_id: context.workflow_id.clone(),
        task_time: time_of(&context.task_id),
        approvals: approvals(context),
        validated: Vec::new(),
    })))
}

fn commit(fields: &mut Fields, field: &str, text: &str) -> Option<CommitId> {
    let commit = text.parse().ok();
    if commit.is_none() {
        fields.wrong(field, "must be a commit: 40 hexadecimal digits");
    }
    commit
}

/// What the stage that is undone says it merged, else the last one that merged.
fn merged(context: &TaskContext) -> Option<MergeReport> {
    let own = context
        .inputs
        .iter()
        .filter(|input| input.stage == context.stage);
    own.chain(context.inputs.iter().rev())
        .filter_map(|input| input.integration()?.merge)
        .find(|report| report.strategy() != MergeStrategy::Revert)
}

/// None: the report is of nobody who keeps to the contract.
fn subject(report: &MergeReport) -> Option<Subject> {
    let (source, target) = (short(&report.source_commit), &report.target);
    // These leave no commit behind that tells who made it.
    let is_silent = match report.strategy() {
        MergeStrategy::Rebase | MergeStrategy::FastForward => true,
        MergeStrategy::Unspecified
        | MergeStrategy::Merge
        | MergeStrategy::Squash
        | MergeStrategy::Revert => false,
    };
    let nothing = |verdict, reason| Some(Subject::Nothing { verdict, reason });
    if report.merge_commit.is_empty() {
        return if is_silent || report.target_before == report.source_commit {
            let reason = format!(
                "{source} was in {target} when the stage looked, and whether an earlier attempt of it put it \
                 there is not known: nothing was taken back"
            );
            nothing(Verdict::NotProven, reason)
        } else {
            let reason = format!(
                "{source} was in {target} before the stage ran: there is nothing to take back"
            );
            nothing(Verdict::Passed, reason)
        };
    }
    if report.target_before.is_empty() {
        let reason = format!("{target} began with {source}: there is nothing before it");
        return nothing(Verdict::NotProven, reason);
    }
    Some(Subject::Commit {
        commit: report.merge_commit.parse().ok()?,
        before: if is_silent {
            Some(report.target_before.parse().ok()?)
        } else {
            None
        },
    })
}
