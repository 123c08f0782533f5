//! What a local mesh leaves in its data folder: `mesh.json` with its address while it runs, and a
//! lock that the system takes away with the process, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where a local mesh is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshFile {
    /// gRPC address of the orchestrator.
    pub address: String,
    /// Address of its HTTP port, if it has one.
    #[serde(default)]
    pub http: Option<String>,
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
}

impl MeshFile {
    /// Path of the file.
    pub fn path(data: &Path) -> PathBuf {
        data.join("mesh.json")
    }

    /// Reads it. `None`: there is none.
    pub fn read(data: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(data);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::File {
                    doing: "cannot read",
                    path,
                    source,
                });
            }
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::Configuration(format!(
                "{} is not what `agentic up` writes ({error}); remove it if no mesh runs",
                path.display()
            ))
        })
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, data: &Path) -> Result<(), Error> {
        let path = Self::path(data);
        let failed = |source: std::io::Error| Error::File {
            doing: "cannot write",
            path: path.clone(),
            source,
        };
        let mut file = tempfile::NamedTempFile::new_in(data).map_err(failed)?;
        serde_json::to_writer(&mut file, self).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Takes it away; that it is gone already is fine.
    pub fn remove(data: &Path) {
        // A file that stays is told from a running mesh by the lock.
        let _ = fs::remove_file(Self::path(data));
    }
}

/// The right to run a mesh on a data folder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Keeps it until the process ends, so that whoever waits for it waits for that.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Takes it. `Ok(None)`: another mesh has it.
    pub fn try_take(data: &Path) -> Result<Option<Self>, Error> {
        let path = lock_path(data);
        let failed = |source| Error::File {
            doing: "cannot lock",
            path: path.clone(),
            source,
        };
        fs::create_dir_all(data).map_err(failed)?;
        let file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                (&file)
                    .write_all(std::process::id().to_string().as_bytes())
                    .map_err(failed)?;
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Takes it, or says who has it.
    pub fn take(data: &Path) -> Result<Self, Error> {
        if let Some(lock) = Self::try_take(data)? {
            return Ok(lock);
        }
        let holder = match MeshFile::read(data)? {
            Some(file) => format!("it answers at {} (process {})", file.address, file.pid),
            None => "it is starting or stopping".to_owned(),
        };
        Err(Error::Failed(format!(
            "a mesh runs on {} already: {holder}.\nStop it with `agentic down`, or take another folder with --data.",
            data.display()
        )))
    }
}

/// Whether a mesh runs on the data folder.
pub fn is_held(data: &Path) -> Result<bool, Error> {
    let path = lock_path(data);
    let failed = |source| Error::File {
        doing: "cannot look at",
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(failed(source)),
    };
    // Shared, so that two that look do not see each other.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Process that runs a mesh on the data folder, if it said so already. Only meaningful while it is
/// held.
pub fn holder(data: &Path) -> Result<Option<i32>, Error> {
    let path = lock_path(data);
    let text = fs::read_to_string(&path).map_err(|source| Error::File {
        doing: "cannot read",
        path,
        source,
    })?;
    Ok(text.trim().parse().ok().filter(|pid| *pid > 1))
}

/// Blocks until no mesh runs on the data folder.
pub fn wait_until_free(data: &Path) -> std::io::Result<()> {
    match File::open(lock_path(data)) {
        Ok(file) => file.lock_shared(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock_path(data: &Path) -> PathBuf {
    data.join("up.lock")
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_mesh_is_refused_with_the_address_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let file = MeshFile {
            address: "http://127.0.0.1:5".into(),
            pid: 42,
            ..MeshFile::default()
        };
        file.write(folder.path()).unwrap();
        let refused = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("http://127.0.0.1:5"), "{refused}");
        assert!(is_held(folder.path()).unwrap());
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(folder.path()).unwrap(), Some(own));
        drop(first);
        assert!(!is_held(folder.path()).unwrap());
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(MeshFile::read(folder.path()).unwrap(), None);
        let file = MeshFile {
            address: "http://127.0.0.1:5".into(),
            http: Some("http://127.0.0.1:6".into()),
            pid: 42,
            version: "0.1.0".into(),
        };
        file.write(folder.path()).unwrap();
        assert_eq!(MeshFile::read(folder.path()).unwrap(), Some(file));
        fs::write(MeshFile::path(folder.path()), "{").unwrap();
        assert!(MeshFile::read(folder.path()).is_err());
    }
}
