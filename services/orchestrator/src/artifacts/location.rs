//! Where artifacts are kept, as the configuration says it: `file:<folder>` or `s3://<bucket>[/<prefix>][?region=…&endpoint=…]`.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

/// A place for artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A bucket of S3, or of a store that speaks like it.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// What the names of all objects begin with. Empty: nothing.
        prefix: String,
        /// URL of the store, when it is not Amazon's.
        endpoint: Option<String>,
        /// Region, when the AWS configuration does not name it.
        region: Option<String>,
    },
}

/// A text is no place for artifacts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongLocation {
    /// Neither of the two kinds.
    #[error("{text:?} is neither `file:<folder>` nor `s3://<bucket>/<prefix>`")]
    Kind {
        /// What was given.
        text: String,
    },
    /// A setting that S3 stores do not have.
    #[error("{name:?} is no setting of an S3 store; known are `region` and `endpoint`")]
    Setting {
        /// Its name.
        name: String,
    },
    /// The endpoint is no URL.
    #[error("endpoint {endpoint:?} is not an http or https URL")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Secrets do not belong in there.
    #[error("credentials do not belong in the location; they come from the standard AWS places")]
    Credentials,
}

impl FromStr for Location {
    type Err = WrongLocation;

    fn from_str(text: &str) -> Result<Self, WrongLocation> {
        if let Some(folder) = text.strip_prefix("file:") {
            return parse_folder(folder).ok_or_else(|| WrongLocation::Kind {
                text: text.to_owned(),
            });
        }
        if text.starts_with("s3:") {
            return parse_s3(text);
        }
        Err(WrongLocation::Kind {
            text: text.to_owned(),
        })
    }
}

/// `file:///a/b` (a URL), `file:/a/b` and `file:a/b` (a path).
fn parse_folder(rest: &str) -> Option<Location> {
    if let Some(path) = rest.strip_prefix("//") {
        let url = Url::parse(&format!("file://{path}")).ok()?;
        return url.to_file_path().ok().map(Location::Folder);
    }
    (!rest.is_empty()).then(|| Location::Folder(PathBuf::from(rest)))
}

fn parse_s3(text: &str) -> Result<Location, WrongLocation> {
    let wrong = || WrongLocation::Kind {
        text: text.to_owned(),
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WrongLocation::Credentials);
    }
    let bucket = url
        .host_str()
        .filter(|bucket| !bucket.is_empty())
        .ok_or_else(wrong)?
        .to_owned();
    if url.port().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    let (mut endpoint, mut region) = (None, None);
    for (name, value) in url.query_pairs() {
        match &*name {
            "endpoint" => endpoint = Some(parse_endpoint(&value)?),
            "region" => region = Some(value.into_owned()),
            _ => {
                return Err(WrongLocation::Setting {
                    name: name.into_owned(),
                });
            }
        }
    }
    Ok(Location::S3 {
        bucket,
        prefix: url.path().trim_matches('/').to_owned(),
        endpoint,
        region,
    })
}

fn parse_endpoint(text: &str) -> Result<String, WrongLocation> {
    let wrong = || WrongLocation::Endpoint {
        endpoint: text.to_owned(),
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WrongLocation::Credentials);
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "file:{}", folder.display()),
            Self::S3 { bucket, prefix, .. } => write!(formatter, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, WrongLocation};

    fn folder(path: &str) -> Location {
        Location::Folder(path.into())
    }

    #[test]
    fn folders_are_read_in_every_usual_form() {
        assert_eq!("file:///var/lib/a%20b".parse(), Ok(folder("/var/lib/a b")));
        assert_eq!("file:/var/lib/a".parse(), Ok(folder("/var/lib/a")));
        assert_eq!("file:data/artifacts".parse(), Ok(folder("data/artifacts")));
    }

    #[test]
    fn buckets_have_a_prefix_and_settings() {
        assert_eq!(
            "s3://my-bucket/a/b/?endpoint=http://127.0.0.1:5000/&region=eu-west-1".parse(),
            Ok(Location::S3 {
                bucket: "my-bucket".into(),
                prefix: "a/b".into(),
                endpoint: Some("http://127.0.0.1:5000".into()),
                region: Some("eu-west-1".into()),
            })
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let refused = |text: &str| text.parse::<Location>().unwrap_err();
        for text in [
            "",
            "/var/lib/a",
            "file:",
            "file://host/share",
            "http://x",
            "s3:",
            "s3:///a",
            "s3://b:1/a",
        ] {
            assert!(
                matches!(refused(text), WrongLocation::Kind { .. }),
                "{text}"
            );
        }
        assert_eq!(
            refused("s3://b/?regoin=x"),
            WrongLocation::Setting {
                name: "regoin".into()
            }
        );
        assert!(matches!(
            refused("s3://b/?endpoint=ftp://x"),
            WrongLocation::Endpoint { .. }
        ));
        assert_eq!(refused("s3://key:secret@b/"), WrongLocation::Credentials);
        assert_eq!(
            refused("s3://b/?endpoint=http://k:s@x"),
            WrongLocation::Credentials
        );
    }
}
