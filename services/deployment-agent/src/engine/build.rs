//! Builds an image from a checkout, and tells what the builder says while it does.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use bollard::{
    body_try_stream,
    models::{BuildInfo, BuildInfoAux},
    query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion},
};
use futures::StreamExt as _;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::{Engine, Error, context};
use crate::journal::Journal;

/// Warnings of a builder that are kept.
const MAX_WARNINGS: usize = 50;

/// Which builder of the engine is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Builder {
    /// BuildKit where the engine builds with it by itself (from Docker 23), else the first one.
    #[default]
    Automatic,
    /// The engine's first builder.
    Legacy,
    /// BuildKit.
    BuildKit,
}

/// What is to be built.
#[derive(Debug, Clone)]
pub struct BuildOrder {
    /// The checkout.
    pub folder: PathBuf,
    /// Dockerfile, relative to the checkout.
    pub dockerfile: String,
    /// Build arguments.
    pub arguments: HashMap<String, String>,
    /// Name and tag of the image.
    pub tag: String,
    /// Labels of the image.
    pub labels: HashMap<String, String>,
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its id, which is a digest of what is in it.
    pub image_id: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// Layers.
    pub layer_count: usize,
    /// Wall time.
    pub duration: Duration,
    /// What the builder warned about.
    pub warnings: Vec<String>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine cannot be used.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The checkout has no such file.
    #[error("there is no {0} in the commit: add one, or deploy to the target `process`")]
    NoDockerfile(String),
    /// The checkout cannot be read.
    #[error("cannot pack the build context")]
    Context(#[source] std::io::Error),
    /// A base image cannot be had; nothing is known about the project.
    #[error("a base image cannot be had: {0}")]
    BaseImage(String),
    /// A step of the Dockerfile failed.
    #[error("the build failed: {0}")]
    Failed(String),
}

impl BuildError {
    /// Whether it says something about the project, rather than about this machine.
    pub fn is_of_the_project(&self) -> bool {
        match self {
            Self::NoDockerfile(_) | Self::Failed(_) => true,
            Self::Engine(_) | Self::Context(_) | Self::BaseImage(_) => false,
        }
    }
}

impl Engine {
    /// Builds an image. Dropping the future stops the build.
    pub async fn build(
        &self,
        order: BuildOrder,
        journal: &mut Journal,
    ) -> Result<Built, BuildError> {
        let started = Instant::now();
        if !order.folder.join(&order.dockerfile).is_file() {
            return Err(BuildError::NoDockerfile(order.dockerfile));
        }
        let docker = self.connect().await?;
        let (folder, dockerfile) = (order.folder.clone(), order.dockerfile.clone());
        let packing = tokio::task::spawn_blocking(move || context::pack(&folder, &dockerfile));
        let packed = packing
            .await
            .map_err(std::io::Error::other)
            .and_then(|packed| packed);
        let packed = packed.map_err(BuildError::Context)?;
        let file = tokio::fs::File::open(packed.path())
            .await
            .map_err(BuildError::Context)?;
        let body = body_try_stream(ReaderStream::new(file));

        let uses_buildkit = self.uses_buildkit(&docker);
        let mut progress = Progress::default();
        let credentials = Some(self.credentials.all()).filter(|all| !all.is_empty());
        let mut steps = docker.build_image(options(&order, uses_buildkit), credentials, Some(body));
        while let Some(step) = steps.next().await {
            match step {
                Ok(step) => {
                    for line in progress.take(step) {
                        journal.output(line).await;
                    }
                }
                Err(error) => return Err(progress.failed(&error.to_string())),
            }
        }
        drop(steps);
        let image_id = match progress.image_id.take() {
            Some(id) => id,
            None => order.tag.clone(),
        };
        let image = docker.inspect_image(&image_id).await;
        let image = image.map_err(Error::refused("find the image that was built"))?;
        Ok(Built {
            image_id: image.id.unwrap_or(image_id),
            size_bytes: u64::try_from(image.size.unwrap_or_default()).unwrap_or_default(),
            layer_count: image
                .root_fs
                .and_then(|fs| fs.layers)
                .map_or(0, |layers| layers.len()),
            duration: started.elapsed(),
            warnings: progress.warnings,
        })
    }
}

fn options(order: &BuildOrder, uses_buildkit: bool) -> BuildImageOptions {
    let mut options = BuildImageOptionsBuilder::default()
        .dockerfile(&order.dockerfile)
        .t(&order.tag)
        .buildargs(&order.arguments)
        .labels(&order.labels)
        .rm(true)
        .forcerm(true)
        .build();
    if uses_buildkit {
        options.version = BuilderVersion::BuilderBuildKit;
        options.session = Some(Uuid::now_v7().to_string());
    }
    options
}

/// What the builder said so far.
#[derive(Debug, Default)]
struct Progress {
    image_id: Option<String>,
    /// The step that it is at, such as `Step 1/7 : FROM debian`.
    step: String,
    warnings: Vec<String>,
    /// Steps that were told, by digest.
    told: HashSet<String>,
    partial: String,
}

impl Progress {
    /// Takes in a piece and gives the lines that it completes.
    fn take(&mut self, piece: BuildInfo) -> Vec<String> {
        let mut lines = Vec::new();
        match piece.aux {
            // The last one is the image; earlier ones are of earlier stages.
            Some(BuildInfoAux::Default(id)) => self.image_id = id.id.or(self.image_id.take()),
            Some(BuildInfoAux::BuildKit(status)) => {
                for vertex in status.vertexes {
                    let runs = vertex.started.is_some() && vertex.completed.is_none();
                    if runs {
                        self.step.clone_from(&vertex.name);
                    }
                    // A cached step is told as it is; each step is told once.
                    let begun = vertex.started.is_some() || vertex.cached;
                    if begun && self.told.insert(vertex.digest) {
                        let cached = if vertex.cached { "cached: " } else { "" };
                        lines.push(format!("{cached}{}", vertex.name));
                    }
                }
                for log in status.logs {
                    self.partial.push_str(&String::from_utf8_lossy(&log.msg));
                    lines.extend(self.complete_lines());
                }
                for warning in status.warnings {
                    self.warn(&String::from_utf8_lossy(&warning.short));
                }
            }
            None => {}
        }
        if let Some(text) = piece.stream {
            self.partial.push_str(&text);
            lines.extend(self.complete_lines());
        }
        for line in &lines {
            if line.starts_with("Step ") {
                self.step.clone_from(line);
            }
            if line.contains("[Warning]") || line.starts_with("WARNING:") {
                self.warn(line);
            }
        }
        lines
    }

    fn complete_lines(&mut self) -> Vec<String> {
        let Some(end) = self.partial.rfind('\n') else {
            return Vec::new();
        };
        let rest = self.partial.split_off(end + 1);
        let text = std::mem::replace(&mut self.partial, rest);
        text.lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(Into::into)
            .collect()
    }

    fn warn(&mut self, warning: &str) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning.trim().to_owned());
        }
    }

    /// A `FROM` that fails says nothing about the project.
    fn failed(&self, error: &str) -> BuildError {
        let error = error.trim_start_matches("Docker stream error: ").trim();
        let words = || self.step.split_whitespace();
        let is_base = words().any(|word| word == "FROM") && self.step.starts_with("Step ")
            || self.step.contains("load metadata for");
        if is_base {
            return BuildError::BaseImage(error.to_owned());
        }
        BuildError::Failed(match self.step.as_str() {
            "" => error.to_owned(),
            step => format!("{step}: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageId;

    use super::*;

    fn said(text: &str) -> BuildInfo {
        BuildInfo {
            stream: Some(text.to_owned()),
            ..BuildInfo::default()
        }
    }

    #[test]
    fn the_last_image_id_wins_and_lines_may_come_in_pieces() {
        let mut progress = Progress::default();
        let id = |id: &str| BuildInfo {
            aux: Some(BuildInfoAux::Default(ImageId {
                id: Some(id.to_owned()),
            })),
            ..BuildInfo::default()
        };
        assert_eq!(progress.take(said("Step 1/2 : FR")), Vec::<String>::new());
        assert_eq!(
            progress.take(said("OM scratch\n\n")),
            ["Step 1/2 : FROM scratch"]
        );
        progress.take(id("sha256:1"));
        progress.take(id("sha256:2"));
        assert_eq!(progress.image_id.as_deref(), Some("sha256:2"));
    }

    #[test]
    fn a_missing_base_image_is_not_the_projects_fault_and_a_failing_step_is() {
        let mut progress = Progress::default();
        progress.take(said("Step 1/2 : FROM debian\n"));
        assert!(!progress.failed("no such host").is_of_the_project());
        progress.take(said("Step 2/2 : RUN make\n"));
        let failed = progress.failed("returned a non-zero code: 2");
        assert!(failed.is_of_the_project());
        assert!(failed.to_string().contains("RUN make"), "{failed}");
    }
}
