//! Takes a change into its target: prepare, prove, publish, and again when the target moved meanwhile. What
//! cannot be proven stays unmerged, with a question for a person. Knows nothing of how it was asked.

use std::{path::PathBuf, time::Duration};

use agent_runtime::{
    Reporter,
    process::{Finished, ProcessError},
    project::ProjectError,
    repository::{self, CommitId, Expectation, Repository, RepositoryCache},
};

use crate::{
    checks::{CheckRun, Running},
    commit::{Identity, Purpose},
    conflict::Conflict,
    decision::{Approval, Question},
    ladder::{Name, Rung, Verdict},
    merge,
    resolution::Choices,
    strategy::{Integration, Strategy},
};

mod attempt;

use self::attempt::{Attempt, Next};

/// How often a merge is made anew because the target moved.
const MOST_REMERGES: u32 = 5;
/// Pause before a merge is made anew, so that two agents do not chase each other.
const REMERGE_PAUSE: Duration = Duration::from_millis(200);
/// Most of the proposal that a person is shown, in bytes.
const PATCH_LIMIT: usize = 40 * 1024;

/// Why nothing can be said about an integration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The merge.
    #[error(transparent)]
    Merge(#[from] merge::Error),
    /// The project's description.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A check could not even be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// The repository.
    pub url: repository::RepositoryUrl,
    /// The change: a branch, tag or commit.
    pub source: String,
    /// What the change is called.
    pub source_name: String,
    /// The target branch; none: the default branch.
    pub target: Option<String>,
    /// How.
    pub strategy: Strategy,
    /// What the task says about conflicts.
    pub choices: Choices,
    /// What a person can do where this cannot. Empty: nothing is known.
    pub by_hand: String,
    /// Whether the checks must pass.
    pub run_checks: bool,
    /// Limit of one check.
    pub check_timeout: Duration,
    /// The work's name.
    pub title: String,
    /// The task.
    pub task_id: String,
    /// The workflow.
    pub workflow_id: String,
    /// When the task was made, in seconds since 1970.
    pub task_time: i64,
    /// What people answered.
    pub approvals: Vec<Approval>,
    /// Commits that an earlier stage found good, judged against a base.
    pub validated: Vec<Validated>,
}

/// A commit that an earlier stage found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The commit.
    pub commit: CommitId,
    /// What it was judged against.
    pub base: CommitId,
    /// Which stage it was.
    pub stage: String,
}

/// What came of an integration.
#[derive(Debug)]
pub struct Report {
    /// The target branch.
    pub target: String,
    /// Where the target was; none when it did not exist yet.
    pub target_before: Option<CommitId>,
    /// The change.
    pub source: CommitId,
    /// How it ended.
    pub end: End,
    /// Every conflict.
    pub conflicts: Vec<Conflict>,
    /// The ladder.
    pub rungs: Vec<Rung>,
    /// Checks that ran.
    pub checks: Vec<CheckRun>,
    /// Programs that ran.
    pub programs: Vec<Finished>,
    /// Paths that the target got anew.
    pub changed: Vec<PathBuf>,
    /// How often the merge was made anew.
    pub remerge_count: u32,
}

/// How an integration ended.
#[derive(Debug)]
pub enum End {
    /// The target has it now.
    Merged {
        /// The target's new tip.
        commit: CommitId,
        /// Who took it although something was not proven.
        waived_by: Option<String>,
    },
    /// The target had it already.
    AlreadyContained {
        /// The commit by which it came there.
        commit: Option<CommitId>,
    },
    /// The target is as it was.
    Unmerged {
        /// Not proven, or seen not to hold.
        verdict: Verdict,
        /// Why, in one sentence.
        reason: String,
        /// What a person could say.
        question: Option<Question>,
        /// The commit of the source at which a rebase stopped.
        stopped_at: Option<CommitId>,
    },
}

/// What integrations are made with.
#[derive(Clone)]
pub struct Integrator {
    /// Our copies of repositories.
    pub cache: RepositoryCache,
    /// Who commits.
    pub committer: Identity,
}

/// What one task brings along.
#[derive(Clone)]
pub struct Workplace {
    /// How checks are run.
    pub running: Running,
    /// Hears how far it is.
    pub reporter: Reporter,
}

impl Workplace {
    fn says(&self, percent: f64, phase: &str, message: impl Into<String>) {
        self.reporter.progress(percent, phase, message);
    }
}

impl Integrator {
    /// Does it.
    pub async fn integrate(&self, order: &Order, place: &Workplace) -> Result<Report, Error> {
        place.says(2.0, "fetch", format!("reading {}", order.url));
        let repository = self.cache.open_url(order.url.clone()).await?;
        let source = repository.resolve(&order.source).await?;
        let target = match &order.target {
            Some(target) => target.clone(),
            None => repository.default_branch().await?,
        };
        let mut report = Report::new(target.clone(), source);
        let tip = match repository.resolve(&reference_of(&target)).await {
            Err(repository::Error::RefNotFound { .. })
                if is_unborn(&repository, &target).await? =>
            {
                begin(&repository, &mut report).await?;
                return Ok(report);
            }
            tip => tip?,
        };
        report.target_before = Some(tip);
        let mut attempt = Attempt {
            order,
            repository,
            work: Integration {
                source,
                target: tip,
                strategy: order.strategy,
                choices: order.choices.clone(),
                purpose: Purpose {
                    source_name: order.source_name.clone(),
                    target_name: target,
                    title: order.title.clone(),
                    task_id: order.task_id.clone(),
                    workflow_id: order.workflow_id.clone(),
                    task_time: order.task_time,
                },
                committer: self.committer.clone(),
            },
            report,
        };
        loop {
            match attempt.once(place).await? {
                Next::Done(end) => {
                    attempt.report.end = end;
                    return Ok(attempt.report);
                }
                Next::Again => attempt.follow_target(place).await?,
            }
        }
    }
}

/// Whether `branch` is the default branch of a repository in which it has no commit yet.
async fn is_unborn(repository: &Repository, branch: &str) -> Result<bool, Error> {
    match repository.default_branch().await {
        Ok(default) => Ok(default == branch),
        Err(repository::Error::NoDefaultBranch { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The first commit of a default branch: there is nothing to merge with.
async fn begin(repository: &Repository, report: &mut Report) -> Result<(), Error> {
    let commit = report.source;
    let reference = reference_of(&report.target);
    repository
        .push(commit, &reference, Expectation::Absent)
        .await?;
    report.changed = repository
        .changed_paths(None, commit)
        .await?
        .into_iter()
        .map(|change| change.path)
        .collect();
    let reason = format!("{} did not exist and begins here", report.target);
    report.rungs.push(Rung::passed(Name::Publish, reason));
    report.end = End::Merged {
        commit,
        waived_by: None,
    };
    Ok(())
}

impl Report {
    fn new(target: String, source: CommitId) -> Self {
        Self {
            target,
            target_before: None,
            source,
            end: End::AlreadyContained { commit: None },
            conflicts: Vec::new(),
            rungs: Vec::new(),
            checks: Vec::new(),
            programs: Vec::new(),
            changed: Vec::new(),
            remerge_count: 0,
        }
    }
}

fn reference_of(branch: &str) -> String {
    format!("refs/heads/{branch}")
}
