//! Names of registries and what they want to know before they give or take an image.

use std::{collections::HashMap, io, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use service_runtime::redaction;

/// Credentials of registries, in the file format of the `docker` command.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or not for us.
    #[error("cannot read the registry credentials {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("the registry credentials {} are not in the format of docker's config.json", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why. Never shown: it may quote a secret.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

impl Entry {
    // Builders and registries quote what they are given.
    fn hide(&self, host: &str) {
        let name = format!("credentials of {host}");
        let together = self.auth.as_ref();
        let decoded = together.and_then(|auth| String::from_utf8(STANDARD.decode(auth).ok()?).ok());
        let password = decoded
            .as_ref()
            .and_then(|both| both.split_once(':'))
            .map(|(_, password)| password);
        let others = [&self.auth, &self.password, &self.identitytoken];
        for value in others
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(password)
        {
            redaction::process().register(&name, value);
        }
    }
}

impl Credentials {
    /// Credentials in a file, or none. The file is read at each use, so that it may be renewed.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// What a registry wants to know. None: it is asked without.
    pub(super) fn of(&self, host: &str) -> Result<Option<DockerCredentials>, Error> {
        Ok(self.read()?.remove(host))
    }

    /// All of them, for a builder that may pull from several. Unreadable ones are told and left out:
    /// public base images need none.
    pub(super) fn all(&self) -> HashMap<String, DockerCredentials> {
        self.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "building without registry credentials");
            HashMap::new()
        })
    }

    fn read(&self) -> Result<HashMap<String, DockerCredentials>, Error> {
        let Some(path) = &self.file else {
            return Ok(HashMap::new());
        };
        let text = std::fs::read(path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let file: File = serde_json::from_slice(&text).map_err(|source| Error::Format {
            path: path.clone(),
            source,
        })?;
        let entries = file.auths.into_iter().map(|(address, entry)| {
            entry.hide(&host_of(&address));
            let credentials = DockerCredentials {
                username: entry.username,
                password: entry.password,
                auth: entry.auth,
                identitytoken: entry.identitytoken,
                serveraddress: Some(address.clone()),
                ..DockerCredentials::default()
            };
            (host_of(&address), credentials)
        });
        Ok(entries.collect())
    }
}

fn host_of(address: &str) -> String {
    let bare = address
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if host == "index.docker.io" {
        "docker.io".to_owned()
    } else {
        host.to_owned()
    }
}

/// The registry of an image's name, and the rest of it. A first part without a dot, a colon or
/// `localhost` is a name on Docker Hub.
pub(super) fn split(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (first.to_owned(), rest.to_owned())
        }
        Some(_) | None => ("docker.io".to_owned(), name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_registry() {
        let host = |name| split(name).0;
        assert_eq!(host("debian"), "docker.io");
        assert_eq!(host("library/debian:12"), "docker.io");
        assert_eq!(host("localhost/shop"), "localhost");
        assert_eq!(host("127.0.0.1:5000/shop:1"), "127.0.0.1:5000");
        assert_eq!(host("registry.example/team/shop"), "registry.example");
    }

    #[test]
    fn credentials_are_found_by_host_and_a_broken_file_does_not_leak() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths": {"https://registry.example/v1/": {"auth": "c2hvcDpodW50ZXIy"}}}"#;
        std::fs::write(&path, text).unwrap();
        let credentials = Credentials::new(Some(path.clone()));
        let found = credentials.of("registry.example").unwrap().unwrap();
        assert_eq!(found.auth.as_deref(), Some("c2hvcDpodW50ZXIy"));
        assert!(credentials.of("other.example").unwrap().is_none());
        std::fs::write(&path, r#"{"auths": "hunter2"}"#).unwrap();
        let error = credentials.of("registry.example").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
