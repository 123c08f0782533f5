//! The actions that make and hand out images.

use std::collections::HashMap;

use agent_runtime::{
    Assignment,
    repository::{CheckoutSettings, Repository},
};
use contracts::{
    deployment::{self as wire_type, DeploymentResult, DeploymentTask},
    error::Error,
    error_reason::ErrorReason,
};

use super::{
    DeploymentAgent, bounds,
    deploying::{tell, watched},
    subject::Subject,
};
use crate::{
    engine::{BuildOrder, Engine, PushError},
    name::Name,
    task::Task,
    verdict::Verdict,
    wire,
};

impl DeploymentAgent {
    pub(super) async fn build(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
        wish: &wire_type::Build,
    ) -> Result<DeploymentResult, Error> {
        let Assignment {
            context,
            reporter,
            folder,
            ..
        } = assignment;
        let engine = self.engine()?;
        let subject = Subject::open(&self.cache, context).await?;
        let commit = subject.commit.to_string();
        let checkout = subject
            .repository
            .checkout(subject.commit, folder, CheckoutSettings::default())
            .await?;
        let order = BuildOrder {
            folder: checkout.path().to_owned(),
            dockerfile: match wish.dockerfile.as_str() {
                "" => "Dockerfile".to_owned(),
                path => confined(path)?,
            },
            arguments: wish.arguments.clone(),
            tag: match wish.tag.as_str() {
                "" => tag(&task.app, &commit),
                tag => tag.to_owned(),
            },
            labels: labels(&subject.repository, &commit),
        };
        let bounds = bounds(assignment);
        let (mut journal, notes) = watched();
        let building = async {
            let built = tokio::select! {
                biased;
                failure = bounds.passed() => Err(failure),
                built = engine.build(order, &mut journal) => Ok(built),
            };
            drop(journal);
            built
        };
        reporter.progress(10.0, "build", "building the image");
        let (built, ()) = tokio::join!(building, tell(notes, reporter));
        let repository = Some(subject.wire);
        Ok(match built {
            Err(failure) => wire::plain(failure.verdict(), failure.reason, repository),
            Ok(Err(error)) => {
                let of_the_project = error.is_of_the_project();
                let verdict = if of_the_project {
                    Verdict::Failed
                } else {
                    Verdict::NotProven
                };
                wire::plain(verdict, error.to_string(), repository)
            }
            Ok(Ok(built)) => wire::built(&built, repository),
        })
    }

    pub(super) async fn push(
        &self,
        assignment: &Assignment<DeploymentTask>,
        wish: &wire_type::Push,
    ) -> Result<DeploymentResult, Error> {
        let Assignment {
            context, reporter, ..
        } = assignment;
        let engine = self.engine()?;
        let bounds = bounds(assignment);
        let (mut journal, notes) = watched();
        let pushing = async {
            let pushed = tokio::select! {
                biased;
                failure = bounds.passed() => Err(failure),
                pushed = engine.push(&wish.image, &wish.repository, &mut journal) => Ok(pushed),
            };
            drop(journal);
            pushed
        };
        reporter.progress(10.0, "push", format!("pushing to {}", wish.repository));
        let (pushed, ()) = tokio::join!(pushing, tell(notes, reporter));
        let repository = context.repository.clone();
        Ok(match pushed {
            Err(failure) => wire::plain(failure.verdict(), failure.reason, repository),
            Ok(Err(error)) => {
                let verdict = match error {
                    PushError::Refused { .. } => Verdict::Failed,
                    PushError::Engine(_) | PushError::Credentials(_) | PushError::NoDigest(_) => {
                        Verdict::NotProven
                    }
                };
                wire::plain(verdict, error.to_string(), repository)
            }
            Ok(Ok(pushed)) => wire::pushed(&pushed, repository),
        })
    }

    pub(super) fn engine(&self) -> Result<std::sync::Arc<Engine>, Error> {
        let engine = self.sites.targets().engine();
        engine.map_err(|missing| Error::new(ErrorReason::CapabilityMissing, missing))
    }
}

fn confined(path: &str) -> Result<String, Error> {
    let confined = agent_runtime::project::ConfinedPath::parse(path);
    confined
        .map(|path| path.as_str().to_owned())
        .map_err(|problem| Error::invalid_field("task.wish.dockerfile", problem))
}

/// Tag of an image of a commit.
pub(super) fn tag(app: &Name, commit: &str) -> String {
    format!("agentic/{app}:{}", commit.get(..12).unwrap_or(commit))
}

/// Labels by the OCI's names, so that an image tells where it comes from.
pub(super) fn labels(repository: &Repository, commit: &str) -> HashMap<String, String> {
    crate::engine::labels(&[
        ("org.opencontainers.image.revision", commit),
        (
            "org.opencontainers.image.source",
            &repository.url().to_string(),
        ),
    ])
}
