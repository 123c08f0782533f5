//! Files with secrets: nobody else may read them, and none is overwritten.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use orchestrator::access::secret::Secret;
use service_runtime::config::read_secret;

use crate::error::Error;

/// Token of an administrator of the mesh on a data folder.
pub fn admin_token(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// Token of the agents of the mesh on a data folder.
pub fn agent_token(data: &Path) -> PathBuf {
    data.join("agent.token")
}

/// Reads a token that is to be shown.
pub fn read(path: &Path) -> Result<String, Error> {
    let token = read_secret("--token-file (AGENTIC_TOKEN_FILE)", path)
        .map_err(|error| Error::Configuration(error.to_string()))?;
    Ok(token.trim().to_owned())
}

/// Makes a file with a new secret, unless it is there.
pub fn keep(path: &Path) -> Result<(), Error> {
    match create(path) {
        Ok(file) => Reserved {
            file,
            path: path.to_owned(),
        }
        .write(Secret::random().reveal()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed(path, source)),
    }
}

/// A new file that waits for its secret.
#[derive(Debug)]
pub struct Reserved {
    file: File,
    path: PathBuf,
}

/// Makes the file first: a secret that cannot be written down must not be made.
pub fn reserve(path: &Path) -> Result<Reserved, Error> {
    let file = create(path).map_err(|source| failed(path, source))?;
    Ok(Reserved {
        file,
        path: path.to_owned(),
    })
}

impl Reserved {
    /// Writes it.
    pub fn write(mut self, secret: &str) -> Result<(), Error> {
        writeln!(self.file, "{secret}")
            .and_then(|()| self.file.sync_all())
            .map_err(|source| failed(&self.path, source))
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        doing: "cannot write the secret to",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = admin_token(folder.path());
        keep(&path).unwrap();
        let first = read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        keep(&path).unwrap();
        assert_eq!(read(&path).unwrap(), first);
        assert!(reserve(&path).is_err());
        assert!(Secret::parse(&first).is_ok());
    }
}
