//! Pushes an image to a registry. It counts as pushed only when the registry's digest of it is known.

use bollard::query_parameters::{PushImageOptionsBuilder, TagImageOptionsBuilder};
use futures::StreamExt as _;
use time::OffsetDateTime;

use super::{Engine, Error, registry};
use crate::journal::Journal;

/// A pushed image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Repository, with registry.
    pub repository: String,
    /// Digest that the registry knows it by.
    pub digest: String,
    /// When.
    pub time: OffsetDateTime,
}

/// Why it is not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The engine cannot be used.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] registry::Error),
    /// The registry refused.
    #[error("{repository} did not take the image: {reason}")]
    Refused {
        /// Where to.
        repository: String,
        /// What it said.
        reason: String,
    },
    /// The registry did not say what it has now.
    #[error("{0} took the image, but gave no digest of it: it is not known what is there")]
    NoDigest(String),
}

impl Engine {
    /// Pushes an image of the engine to a repository, under a tag of its own.
    pub async fn push(
        &self,
        image: &str,
        repository: &str,
        journal: &mut Journal,
    ) -> Result<Pushed, PushError> {
        let docker = self.connect().await?;
        let (name, tag) = tag_of(repository);
        let tagging = TagImageOptionsBuilder::default()
            .repo(&name)
            .tag(&tag)
            .build();
        let tagged = docker.tag_image(image, Some(tagging)).await;
        tagged.map_err(Error::refused("tag the image"))?;
        let (host, _) = registry::split(&name);
        let credentials = self.credentials.of(&host)?;
        let options = PushImageOptionsBuilder::default().tag(&tag).build();
        let refused = |reason: String| PushError::Refused {
            repository: name.clone(),
            reason,
        };
        let mut steps = docker.push_image(&name, Some(options), credentials);
        let mut digest = None;
        let mut last = String::new();
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| refused(error.to_string()))?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(refused(error));
            }
            let Some(status) = step.status else { continue };
            digest = digest_in(&status).or(digest);
            // Progress of one layer repeats the same word many times.
            if status != last {
                journal.output(status.clone()).await;
                last = status;
            }
        }
        let digest = digest.ok_or_else(|| PushError::NoDigest(name.clone()))?;
        Ok(Pushed {
            repository: name,
            digest,
            time: OffsetDateTime::now_utc(),
        })
    }
}

/// The repository without its tag, and the tag.
fn tag_of(repository: &str) -> (String, String) {
    match repository.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        Some(_) | None => (repository.to_owned(), "latest".to_owned()),
    }
}

/// The engine's last words: `1.0: digest: sha256:… size: 528`.
fn digest_in(status: &str) -> Option<String> {
    let (_, rest) = status.split_once("digest: ")?;
    let digest = rest.split_whitespace().next()?;
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        let split = |text| tag_of(text);
        assert_eq!(
            split("127.0.0.1:5000/shop"),
            ("127.0.0.1:5000/shop".into(), "latest".into())
        );
        assert_eq!(
            split("127.0.0.1:5000/shop:1"),
            ("127.0.0.1:5000/shop".into(), "1".into())
        );
    }

    #[test]
    fn only_a_whole_digest_counts() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            digest_in(&format!("1: digest: {digest} size: 5")),
            Some(digest)
        );
        assert_eq!(digest_in("1: digest: sha256:abc size: 5"), None);
        assert_eq!(digest_in("Pushed"), None);
    }
}
