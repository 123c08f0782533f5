//! Finds the programs of PostgreSQL on this machine. It looks, in order, where it was told to, along `PATH`, where the systems'
//! packages put them, and in an unpacked wheel; it downloads nothing.

mod wheel;

use std::{
    cmp::Reverse,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{Options, account::Account, error::Error};

/// The oldest major version that the store's SQL is written for.
const OLDEST_MAJOR: u32 = 14;

/// Folders with one folder per version in them, and the way on from there.
const SYSTEM_PLACES: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// Beginnings of a version's folder name under the places above.
const VERSION_PREFIXES: [&str; 3] = ["", "pgsql-", "postgresql@"];

/// A folder with programs of one version.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
    version: Version,
}

/// Version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads the answer of `postgres --version`: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `18beta1` in place
    /// of the number.
    fn parse(answer: &str) -> Option<Self> {
        let number = answer
            .strip_prefix("postgres (PostgreSQL) ")?
            .split_whitespace()
            .next()?;
        let (major, rest) = number.split_at(
            number
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(number.len()),
        );
        let minor = rest
            .strip_prefix('.')
            .and_then(|minor| minor.parse().ok())
            .unwrap_or(0);
        Some(Self {
            major: major.parse().ok()?,
            minor,
        })
    }
}

impl Binaries {
    /// The first usable programs: of the version that made the cluster, else of any version that the store's SQL runs on.
    pub(super) async fn find(
        options: &Options,
        cluster_version: Option<String>,
        account: Option<&Account>,
    ) -> Result<Self, Error> {
        let mut tried = Vec::new();
        for folder in candidates(options) {
            match Self::examine(&folder, cluster_version.as_deref(), account).await {
                Ok(binaries) => return Ok(binaries),
                Err(reason) => tried.push(format!("{} ({reason})", folder.display())),
            }
        }
        Err(Error::NotFound {
            wanted: cluster_version.map_or_else(
                || format!("{OLDEST_MAJOR} or newer"),
                |version| format!("{version} (which made the cluster)"),
            ),
            tried: if tried.is_empty() {
                "PATH and the usual folders, without finding any".to_owned()
            } else {
                tried.join(", ")
            },
        })
    }

    /// Folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Version of the programs.
    pub fn version(&self) -> Version {
        self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn examine(
        folder: &Path,
        cluster_version: Option<&str>,
        account: Option<&Account>,
    ) -> Result<Self, String> {
        // A folder of links is followed to where the version's other files are.
        let program = folder
            .join("postgres")
            .canonicalize()
            .map_err(|_| "no postgres")?;
        let folder = program.parent().ok_or("no postgres")?.to_path_buf();
        if !folder.join("initdb").exists() {
            return Err("no initdb beside postgres".to_owned());
        }
        let output = Command::new(&program)
            .arg("--version")
            .stdin(Stdio::null())
            .env_clear()
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let version =
            Version::parse(&answer).ok_or_else(|| format!("answers {:?}", answer.trim()))?;
        let matches = cluster_version.map_or(version.major >= OLDEST_MAJOR, |wanted| {
            wanted == version.major.to_string()
        });
        if !matches {
            return Err(format!("is version {version}"));
        }
        if account.is_none_or(|account| account.reaches(&program)) {
            return Ok(Self { folder, version });
        }
        let closed = "closed to the account that the server runs as";
        match wheel::lend(&folder, &version.to_string()) {
            Ok(Some(folder)) => Ok(Self { folder, version }),
            Ok(None) => Err(closed.to_owned()),
            Err(error) => Err(format!("{closed}, and cannot be copied: {error}")),
        }
    }
}

/// Folders that exist and have a `postgres` in them, best first.
fn candidates(options: &Options) -> Vec<PathBuf> {
    if let Some(folder) = &options.binaries {
        return vec![folder.clone()];
    }
    let mut folders = Vec::new();
    // Not configuration, but where programs are looked up, as for every program we run by name.
    if let Some(path) = env::var_os("PATH") {
        folders.extend(env::split_paths(&path));
    }
    for (place, inner) in SYSTEM_PLACES {
        folders.extend(versions_in(Path::new(place), inner));
    }
    for folder in &options.wheels {
        folders.extend(wheel::unpacked(folder));
    }
    folders.retain(|folder| folder.join("postgres").exists());
    folders
}

/// The folders of versions in a place, newest first.
fn versions_in(place: &Path, inner: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(place)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = VERSION_PREFIXES
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix)?.parse::<u32>().ok())?;
            Some((version, entry.path().join(inner)))
        })
        .collect();
    found.sort_by_key(|(version, _)| Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Version, candidates, versions_in};
    use crate::embedded_postgres::Options;

    #[test]
    fn versions_are_read_from_what_packages_really_answer() {
        let read = |answer| Version::parse(answer).map(|version| version.to_string());
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(),
            Some("15.18")
        );
        assert_eq!(
            read("postgres (PostgreSQL) 18beta1\n").as_deref(),
            Some("18.0")
        );
        assert_eq!(read("pg_ctl (PostgreSQL) 15.18\n"), None);
        assert_eq!(read("postgres (PostgreSQL) devel\n"), None);
    }

    #[test]
    fn the_newest_version_in_a_place_comes_first() {
        let place = tempfile::tempdir().unwrap();
        for name in ["9", "15", "postgresql@16", "pgsql-14", "readline"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let names: Vec<String> = versions_in(place.path(), "bin")
            .iter()
            .map(|path| {
                path.parent()
                    .unwrap()
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(names, ["postgresql@16", "15", "pgsql-14", "9"]);
    }

    #[test]
    fn an_explicit_folder_is_the_only_candidate() {
        let options = Options {
            binaries: Some("/nowhere".into()),
            ..Options::durable("/tmp/x")
        };
        assert_eq!(candidates(&options), [std::path::PathBuf::from("/nowhere")]);
    }
}
