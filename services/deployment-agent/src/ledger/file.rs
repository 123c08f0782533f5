//! The file under the ledger: read strictly, replaced atomically. Knows nothing of what it means.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Ledger, VERSION};

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there, but the system does not give it out.
    #[error("cannot read the ledger {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no ledger.
    #[error(
        "the ledger {} is damaged; nothing is deployed over it: repair it or move it away",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file was written by another version.
    #[error(
        "the ledger {} has version {found}; this agent knows version {VERSION}: use the agent that wrote it",
        path.display()
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The file speaks of something else.
    #[error("the ledger {} is of app {app} in {environment}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The environment in it.
        environment: String,
        /// The app in it.
        app: String,
    },
    /// The file could not be replaced; the old one is still there.
    #[error("cannot write the ledger {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Read first, so that a newer file is called newer and not damaged.
#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

pub(super) async fn read(path: &Path) -> Result<Option<Ledger>, Error> {
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |source| Error::Damaged {
        path: path.to_owned(),
        source,
    };
    let VersionOnly { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version != u64::from(VERSION) {
        return Err(Error::UnknownVersion {
            path: path.to_owned(),
            found: version,
        });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

pub(super) async fn write(path: &Path, ledger: &Ledger) -> Result<(), Error> {
    let refused = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let text = serde_json::to_vec_pretty(ledger).map_err(|error| refused(error.into()))?;
    let target = path.to_owned();
    let replaced = tokio::task::spawn_blocking(move || replace(&target, &text)).await;
    replaced
        .map_err(io::Error::other)
        .and_then(|written| written)
        .map_err(refused)
}

/// Writes beside, flushes, renames, and flushes the folder: at no moment is there half a file.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(text)?;
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
