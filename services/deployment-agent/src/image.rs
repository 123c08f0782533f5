//! Makes a release of an image: built from the commit, or brought by somebody and pinned to what it is
//! now, so that going back to the revision runs the same bytes.

use std::{collections::HashMap, path::Path, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    checkout::CommitSource,
    engine::{BuildOrder, Engine},
    journal::Journal,
    site::{Bounds, CHECKOUT_FOLDER, Source},
    spec::Spec,
    strategy::{Failure, FailureKind},
};

/// An image to make releases of.
pub struct ImageSource {
    engine: Arc<Engine>,
    origin: Origin,
}

/// Where the image comes from.
pub enum Origin {
    /// Built from a commit, under this tag.
    Commit {
        /// The commit.
        code: CommitSource,
        /// Name and tag of the image.
        tag: String,
        /// Labels of the image.
        labels: HashMap<String, String>,
    },
    /// It is there, or can be pulled.
    Name(String),
}

impl ImageSource {
    /// An image of an engine.
    pub fn new(engine: Arc<Engine>, origin: Origin) -> Self {
        Self { engine, origin }
    }

    async fn make(
        &self,
        folder: &Path,
        spec: &mut Spec,
        journal: &mut Journal,
    ) -> Result<String, Failure> {
        let unseen = |reason: String| Failure {
            kind: FailureKind::Inconclusive,
            reason,
        };
        match &self.origin {
            Origin::Name(name) => {
                let image = self
                    .engine
                    .image(name)
                    .await
                    .map_err(|e| unseen(e.to_string()))?;
                let id = image
                    .id
                    .ok_or_else(|| unseen(format!("image {name} has no id")))?;
                spec.image = Some(id.clone());
                Ok(format!("{name} is {id}"))
            }
            Origin::Commit { code, tag, labels } => {
                code.check_out(folder, journal).await?;
                let order = BuildOrder {
                    folder: folder.join(CHECKOUT_FOLDER),
                    dockerfile: "Dockerfile".to_owned(),
                    arguments: HashMap::new(),
                    tag: tag.clone(),
                    labels: labels.clone(),
                };
                let built = self.engine.build(order, journal).await.map_err(|error| {
                    let reason = error.to_string();
                    if error.is_of_the_project() {
                        Failure::sick(reason)
                    } else {
                        unseen(reason)
                    }
                })?;
                for warning in &built.warnings {
                    journal.event(format!("the builder warns: {warning}")).await;
                }
                let told = format!(
                    "built {} in {:.1} s",
                    built.image_id,
                    built.duration.as_secs_f64()
                );
                spec.image = Some(built.image_id);
                Ok(told)
            }
        }
    }
}

impl Source for ImageSource {
    fn prepare<'a>(
        &'a self,
        folder: &'a Path,
        spec: &'a mut Spec,
        journal: &'a mut Journal,
        bounds: &'a Bounds,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                failure = bounds.passed() => Err(failure),
                made = self.make(folder, spec, journal) => made,
            }
        })
    }
}
