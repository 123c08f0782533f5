//! What a task judges and by what: the project on both sides, the policy that holds, and the parts of the base
//! that judge. Reads the repository; decides nothing about the change.

use std::collections::BTreeSet;

use agent_runtime::{
    project::{
        Content, DESCRIPTION_FILE, DescriptionOrigin, GATES_FILE, GatePolicy, GitTree, Project,
        ProjectError, Source as _, StartBy,
    },
    repository::{CommitId, Repository},
};
use contracts::error::Error;

use crate::{
    dependencies::{Inventory, inventory},
    gates::Policy,
    judge::{BaseJudge, files_named_by},
    refs::Commits,
    verdict::Judgement,
};

/// Manifests and scripts larger than this are not read.
const MAXIMUM_FILE_BYTES: usize = 4 * 1024 * 1024;

/// What is judged, and by what.
pub struct Subject {
    /// The base as it stands alone.
    pub base: Option<Project>,
    /// The head, read with the base's description.
    pub head: Project,
    /// The policy that holds.
    pub policy: Policy,
    /// Where it came from: `base`, `head`, `built-in` or a commit.
    pub policy_source: String,
    /// What of the base judges.
    pub judge: BaseJudge,
    /// Remarks for people.
    pub notes: Vec<String>,
}

/// The subject, or why it cannot be read.
pub enum Reading {
    /// It was read.
    Subject(Box<Subject>),
    /// A description or policy is refused.
    Refused(Judgement),
}

impl Subject {
    /// Whether the project starts and serves: what the base is, a change cannot undo.
    pub fn is_app(&self) -> bool {
        self.head.is_app() || self.base.as_ref().is_some_and(Project::is_app)
    }

    /// How it starts; empty: nobody knows.
    pub fn start_command(&self) -> Vec<String> {
        let start = self.head.app.as_ref().and_then(|app| app.start.as_ref());
        match start.map(|start| &start.value.by) {
            Some(StartBy::Command(argv)) => argv.as_slice().to_vec(),
            Some(StartBy::Image(_) | StartBy::Compose(_) | StartBy::Url(_)) | None => Vec::new(),
        }
    }
}

/// Reads both sides and the policy.
pub async fn read(repository: &Repository, commits: &Commits) -> Result<Reading, Error> {
    let mut notes = Vec::new();
    let base = match commits.base {
        None => None,
        Some(base) => match Project::of_commits(repository, None, base).await {
            Ok(project) => Some(project),
            Err(error) => return refused(error, "base", true),
        },
    };
    let head = match Project::of_commits(repository, commits.base, commits.head).await {
        Ok(project) => project,
        // The base was read just now: what is wrong is the change's own.
        Err(error) => return refused(error, "head", false),
    };
    let has_checks = base.as_ref().is_some_and(|base| !base.checks.is_empty());
    let own = match own_policy(repository, commits, has_checks).await {
        Ok(own) => own,
        Err((error, is_protected)) => return refused(error, "policy", is_protected),
    };
    let has_policy = own.as_ref().is_some_and(|own| own.source == "base");
    let (own, policy_source) = match own {
        Some(own) => (own.policy, own.source),
        None => (GatePolicy::default(), "built-in".to_owned()),
    };
    if policy_source == "head" && commits.base.is_some() {
        notes.push(format!(
            "the base commit has no project yet: the change's own {GATES_FILE} holds"
        ));
    }
    let policy = match Policy::merge(own) {
        Ok(policy) => policy,
        Err(error) => {
            let reason = format!("the policy is refused: {GATES_FILE}: {error}");
            return Ok(Reading::Refused(Judgement::not_proven(reason)));
        }
    };
    let named_files = match (&base, commits.base) {
        (Some(project), Some(commit)) => named_files(repository, commit, project).await?,
        _ => BTreeSet::new(),
    };
    let judge = BaseJudge {
        named_files,
        has_checks,
        has_policy,
    };
    Ok(Reading::Subject(Box::new(Subject {
        base,
        head,
        policy,
        policy_source,
        judge,
        notes,
    })))
}

/// What is wrong with a description: of the base it proves nothing, of the change it is the change's fault.
fn refused(error: ProjectError, side: &str, is_protected: bool) -> Result<Reading, Error> {
    match error {
        ProjectError::Description(error) if is_protected => Ok(Reading::Refused(
            Judgement::not_proven(format!("the {side} commit is refused: {error}")),
        )),
        ProjectError::Description(error) => Ok(Reading::Refused(Judgement::failed(format!(
            "the change is refused: {error}"
        )))),
        ProjectError::Repository(error) => Err(error.into()),
        error @ (ProjectError::Commit { .. } | ProjectError::Unreadable { .. }) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the project cannot be read"
            );
            Err(Error::internal())
        }
    }
}

struct OwnPolicy {
    policy: GatePolicy,
    source: String,
}

/// The project's own policy; with an error, whether it is out of the change's reach.
async fn own_policy(
    repository: &Repository,
    commits: &Commits,
    base_has_checks: bool,
) -> Result<Option<OwnPolicy>, (ProjectError, bool)> {
    let read = async |commit: CommitId, is_protected: bool| {
        GatePolicy::of_commits(repository, None, commit)
            .await
            .map(|(policy, _)| policy)
            .map_err(|error| (error, is_protected))
    };
    let own = |source: String| move |policy| OwnPolicy { policy, source };
    if let Some(commit) = commits.policy {
        return Ok(read(commit, true).await?.map(own(commit.to_string())));
    }
    if let Some(base) = commits.base {
        if let Some(policy) = read(base, true).await? {
            return Ok(Some(own("base".to_owned())(policy)));
        }
        if base_has_checks {
            return Ok(None);
        }
    }
    Ok(read(commits.head, false).await?.map(own("head".to_owned())))
}

async fn named_files(
    repository: &Repository,
    base: CommitId,
    project: &Project,
) -> Result<BTreeSet<String>, Error> {
    let commands: Vec<Vec<String>> = project
        .checks
        .iter()
        .map(|check| check.step.command.as_slice().to_vec())
        .collect();
    repository
        .with_objects("read the check commands", move |objects, _| {
            let tree = match GitTree::of_commit(objects, base.oid()) {
                Ok(tree) => tree,
                Err(source) => {
                    let action = "read the check commands";
                    return Err(agent_runtime::repository::Error::Object { action, source });
                }
            };
            let read = |path: &str| match tree.read(path, MAXIMUM_FILE_BYTES) {
                Ok(Content::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                Ok(Content::Absent | Content::Irregular | Content::TooLarge) | Err(_) => None,
            };
            Ok(files_named_by(
                commands.iter().map(Vec::as_slice),
                tree.files(),
                read,
            ))
        })
        .await
        .map_err(Error::from)
}

/// The third-party packages of a commit.
pub async fn third_party(repository: &Repository, commit: CommitId) -> Result<Inventory, Error> {
    repository
        .with_objects("read the dependencies", move |objects, _| {
            let tree = match GitTree::of_commit(objects, commit.oid()) {
                Ok(tree) => tree,
                Err(source) => {
                    let action = "read the dependencies";
                    return Err(agent_runtime::repository::Error::Object { action, source });
                }
            };
            Ok(inventory(
                tree.files().iter().map(String::as_str),
                |path| match tree.read(path, MAXIMUM_FILE_BYTES) {
                    Ok(Content::Bytes(bytes)) => String::from_utf8(bytes).ok(),
                    Ok(Content::Absent | Content::Irregular | Content::TooLarge) | Err(_) => None,
                },
            ))
        })
        .await
        .map_err(Error::from)
}

/// Where the checks came from, as results carry it.
pub fn description_source(subject: &Subject) -> String {
    match (subject.head.description_origin, &subject.base) {
        (DescriptionOrigin::Base, _) => format!("{DESCRIPTION_FILE} of the base"),
        (DescriptionOrigin::Head, _) => format!("{DESCRIPTION_FILE} of the head"),
        (DescriptionOrigin::Detected, _) => "detection".to_owned(),
    }
}
