//! The Docker engine: reached when it is needed, so that an engine that comes up later is found. Knows
//! images and the connection, not deployments.

mod build;
mod context;
mod push;
mod registry;

use std::collections::HashMap;

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as DockerError,
    models::ImageInspect,
    query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder},
};
use futures::StreamExt as _;

pub use self::{
    build::{BuildError, BuildOrder, Builder, Built},
    push::{PushError, Pushed},
    registry::Credentials,
};

/// Seconds until an answer of the engine must have begun.
const ANSWER_SECONDS: u64 = 120;
/// Seconds until it must have said who it is.
const HELLO: std::time::Duration = std::time::Duration::from_secs(5);
/// First API version whose engines build with BuildKit unless they are told otherwise (Docker 23).
const BUILDKIT_API: (usize, usize) = (1, 42);

/// Where the engine is and how it is used.
#[derive(Debug, Clone)]
pub struct Engine {
    address: String,
    builder: Builder,
    credentials: Credentials,
}

/// The engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer.
    #[error("the container engine at {address} does not answer: {source}")]
    Away {
        /// Where it should be.
        address: String,
        /// What was seen.
        source: Box<DockerError>,
    },
    /// It takes too long to answer.
    #[error("the container engine at {address} did not answer within {} s", HELLO.as_secs())]
    Silent {
        /// Where it should be.
        address: String,
    },
    /// The address is none.
    #[error("{0:?} is no address of a container engine: unix:///path or tcp://host:port")]
    Address(String),
    /// An image is neither there nor to be had.
    #[error("image {image} is not on the engine and cannot be pulled: {reason}")]
    NoImage {
        /// Which one.
        image: String,
        /// Why.
        reason: String,
    },
    /// The engine refused.
    #[error("the container engine could not {action}: {source}")]
    Refused {
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        source: Box<DockerError>,
    },
}

impl Error {
    pub(crate) fn refused(action: &'static str) -> impl FnOnce(DockerError) -> Self {
        move |source| Self::Refused {
            action,
            source: Box::new(source),
        }
    }
}

impl Engine {
    /// An engine at `unix:///path` or `tcp://host:port`. Nothing is connected yet.
    pub fn new(address: impl Into<String>, builder: Builder, credentials: Credentials) -> Self {
        Self {
            address: address.into(),
            builder,
            credentials,
        }
    }

    /// A connection that is known to answer.
    pub async fn connect(&self) -> Result<Docker, Error> {
        let away = |source| Error::Away {
            address: self.address.clone(),
            source: Box::new(source),
        };
        let docker = if let Some(path) = self.address.strip_prefix("unix://") {
            Docker::connect_with_unix(path, ANSWER_SECONDS, API_DEFAULT_VERSION)
        } else if self.address.starts_with("tcp://") {
            Docker::connect_with_http(&self.address, ANSWER_SECONDS, API_DEFAULT_VERSION)
        } else {
            return Err(Error::Address(self.address.clone()));
        };
        let negotiated = tokio::time::timeout(HELLO, docker.map_err(away)?.negotiate_version());
        let silent = |_| Error::Silent {
            address: self.address.clone(),
        };
        negotiated.await.map_err(silent)?.map_err(away)
    }

    /// Its version, if it answers.
    pub async fn version(&self) -> Result<String, Error> {
        let docker = self.connect().await?;
        let version = docker
            .version()
            .await
            .map_err(Error::refused("tell its version"))?;
        Ok(version.version.unwrap_or_default())
    }

    /// What is known of an image; it is pulled when it is not there.
    pub async fn image(&self, name: &str) -> Result<ImageInspect, Error> {
        let docker = self.connect().await?;
        match docker.inspect_image(name).await {
            Ok(found) => return Ok(found),
            Err(DockerError::DockerResponseServerError {
                status_code: 404, ..
            }) => {}
            Err(error) => return Err(Error::refused("look at an image")(error)),
        }
        let missing = |reason: String| Error::NoImage {
            image: name.to_owned(),
            reason,
        };
        if name.starts_with("sha256:") {
            return Err(missing("an image id cannot be pulled".to_owned()));
        }
        let (host, _) = registry::split(name);
        let options = CreateImageOptionsBuilder::default()
            .from_image(name)
            .build();
        let credentials = self
            .credentials
            .of(&host)
            .map_err(|error| missing(error.to_string()))?;
        let mut pulling = docker.create_image(Some(options), None, credentials);
        while let Some(step) = pulling.next().await {
            let step = step.map_err(|error| missing(error.to_string()))?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(missing(error));
            }
        }
        docker
            .inspect_image(name)
            .await
            .map_err(Error::refused("look at a pulled image"))
    }

    /// Removes images that nobody needs any more, if they were built here. One that somebody brought,
    /// still uses or gave a further name stays.
    pub async fn forget(&self, images: &[String]) {
        if images.is_empty() {
            return;
        }
        let Ok(docker) = self.connect().await else {
            return;
        };
        for image in images {
            let Ok(found) = docker.inspect_image(image).await else {
                continue;
            };
            let labels = found
                .config
                .and_then(|config| config.labels)
                .unwrap_or_default();
            if !labels.contains_key(BUILT_LABEL) {
                continue;
            }
            let options = RemoveImageOptionsBuilder::default().build();
            if let Err(error) = docker.remove_image(image, Some(options), None).await {
                tracing::debug!(%image, %error, "an old image stays");
            }
        }
    }

    fn uses_buildkit(&self, docker: &Docker) -> bool {
        let version = docker.client_version();
        match self.builder {
            Builder::Legacy => false,
            Builder::BuildKit => true,
            Builder::Automatic => (version.major_version, version.minor_version) >= BUILDKIT_API,
        }
    }
}

/// Label of images that were built for a deployment, and may be removed with it.
pub(crate) const BUILT_LABEL: &str = "agentic.built";

/// A map of labels.
pub(crate) fn labels(own: &[(&str, &str)]) -> HashMap<String, String> {
    own.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
