//! Which places a repository may live at: an absolute local path, `file://`, `https://`, `ssh://` and the
//! `user@host:path` short form. Everything else, and every password in a URL, is refused before git sees it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::Error;

/// A checked repository URL. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepositoryUrl {
    text: String,
    transport: Transport,
}

/// How git gets there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    /// A folder of this machine.
    Local(PathBuf),
    /// HTTPS, or HTTP to this machine only.
    Http {
        /// Whether it is in clear (loopback only).
        clear: bool,
    },
    /// SSH.
    Ssh,
}

impl RepositoryUrl {
    /// Parses and checks a URL or an absolute path.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason| {
            Err(Error::InvalidUrl {
                url: redacted(text),
                reason,
            })
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > 2048 {
            return refuse("it is longer than 2048 bytes");
        }
        if text.chars().any(char::is_control) {
            return refuse("it holds control characters");
        }
        if text.starts_with('/') {
            return Self::local(text, Path::new(text));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "file" => Self::file(text, rest),
                "https" | "http" | "ssh" => Self::remote(text),
                _ => refuse("only https, ssh, file and absolute local paths are allowed"),
            };
        }
        match text.split_once(':') {
            // `ext::sh -c …` and friends run commands.
            Some((_, path)) if path.starts_with(':') => {
                refuse("remote helpers (`name::…`) are not allowed")
            }
            Some((host, path)) => {
                if host.is_empty() || host.contains(['/', ' ']) || host.starts_with('-') {
                    return refuse("it is neither a URL nor an absolute path");
                }
                let name = host.rsplit('@').next().unwrap_or(host);
                if name.is_empty()
                    || name.starts_with('-')
                    || path.is_empty()
                    || path.starts_with('-')
                {
                    return refuse("host and path must be names");
                }
                Ok(Self {
                    text: text.to_owned(),
                    transport: Transport::Ssh,
                })
            }
            None => refuse("local paths must be absolute, because an agent may run elsewhere"),
        }
    }

    fn local(text: &str, path: &Path) -> Result<Self, Error> {
        if path
            .components()
            .any(|part| matches!(part, std::path::Component::ParentDir))
        {
            return Err(Error::InvalidUrl {
                url: text.to_owned(),
                reason: "local paths must not contain `..`",
            });
        }
        // Two spellings of one folder share a cache.
        let path: PathBuf = path.components().collect();
        Ok(Self {
            text: path.to_string_lossy().into_owned(),
            transport: Transport::Local(path),
        })
    }

    fn file(text: &str, rest: &str) -> Result<Self, Error> {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        let parsed = url::Url::parse(&format!("file://{path}"))
            .ok()
            .filter(|_| path.starts_with('/'))
            .and_then(|parsed| parsed.to_file_path().ok());
        match parsed {
            Some(path) => Self::local(text, &path),
            None => Err(Error::InvalidUrl {
                url: redacted(text),
                reason: "file URLs must be file:///absolute/path",
            }),
        }
    }

    fn remote(text: &str) -> Result<Self, Error> {
        let refuse = |reason| {
            Err(Error::InvalidUrl {
                url: redacted(text),
                reason,
            })
        };
        let Ok(parsed) = url::Url::parse(text) else {
            return refuse("it is not a valid URL");
        };
        if parsed.password().is_some() {
            return refuse("credentials belong in a git credential helper, not in a URL");
        }
        let Some(host) = parsed.host_str().filter(|host| !host.is_empty()) else {
            return refuse("it names no host");
        };
        if host.starts_with('-') || parsed.username().starts_with('-') {
            return refuse("host and user must be names");
        }
        let transport = match parsed.scheme() {
            "ssh" => Transport::Ssh,
            "https" => Transport::Http { clear: false },
            _ if matches!(host, "127.0.0.1" | "localhost" | "[::1]") => {
                Transport::Http { clear: true }
            }
            _ => return refuse("http in clear is allowed to this machine only: use https"),
        };
        Ok(Self {
            text: text.to_owned(),
            transport,
        })
    }

    /// The URL as git is given it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folder, when the repository is on this machine.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.transport {
            Transport::Local(path) => Some(path),
            Transport::Http { .. } | Transport::Ssh => None,
        }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The name of its cache folder: stable, unlike a URL a valid file name.
    pub(super) fn cache_key(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        hex::encode(&digest[..16])
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A refused URL may hold a password: it goes into messages without one.
fn redacted(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let Some((scheme, rest)) = shown.split_once("://") else {
        return shown;
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_places_are_parsed() {
        for text in [
            "/srv/git/shop.git",
            "file:///srv/git/shop.git",
            "https://example.org/shop.git",
            "https://token@example.org/shop.git",
            "http://127.0.0.1:8080/shop.git",
            "ssh://git@example.org:22/shop.git",
            "git@example.org:team/shop.git",
        ] {
            let url = RepositoryUrl::parse(text);
            assert!(url.is_ok(), "{text}: {url:?}");
        }
    }

    #[test]
    fn dangerous_places_are_refused() {
        for text in [
            "",
            ".",
            "relative/path",
            "../up",
            "/srv/../etc",
            "ext::sh -c touch% /tmp/pwned",
            "fd::3",
            "git://example.org/shop.git",
            "http://example.org/shop.git",
            "ftp://example.org/shop.git",
            "--upload-pack=touch /tmp/pwned",
            "ssh://-oProxyCommand=touch/x",
            "-oProxyCommand=x:path",
            "host:-x",
            "git@-oProxyCommand=x:path",
            "file://server/share",
            "https://",
            "/srv/a\nb",
        ] {
            assert!(RepositoryUrl::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = RepositoryUrl::parse("https://user:hunter2@example.org/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn two_spellings_of_a_folder_share_one_cache() {
        let plain = RepositoryUrl::parse("/srv/git/shop").unwrap();
        for other in ["/srv/git/shop/", "/srv//git/./shop", "file:///srv/git/shop"] {
            let other = RepositoryUrl::parse(other).unwrap();
            assert_eq!(plain.cache_key(), other.cache_key());
        }
    }
}
